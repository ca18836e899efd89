from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from tasks.models.encrypted import decrypt, encrypt


class GitHubCredentialKind(models.TextChoices):
    OAUTH = "oauth", "Signed in with GitHub"
    PAT = "pat", "Personal access token"


class GitHubAccount(models.Model):
    """A user's account at GitHub, and the token by which we act for them there; "" for one who only signs in.

    `scopes` are those that GitHub said the token has (fine-grained tokens tell none). `refused_at`: GitHub did not take the token
    any more; then the user is asked to sign in again. `client_id`: the application that they signed in by, which renews a token that
    expires by the refresh token, as long as that is good. `checked_at`: when the lists of the settings last let them in; null for whom an
    operator let in, who is not theirs to decide about.
    """

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="github")
    github_id = models.BigIntegerField(unique=True)
    login = models.CharField(max_length=100)
    kind = models.CharField(max_length=10, choices=GitHubCredentialKind, default=GitHubCredentialKind.OAUTH)
    token_encrypted = models.BinaryField(default=b"")
    scopes = models.JSONField(default=list, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    refresh_token_encrypted = models.BinaryField(default=b"")
    refresh_expires_at = models.DateTimeField(null=True, blank=True)
    client_id = models.CharField(max_length=100, blank=True)
    refused_at = models.DateTimeField(null=True, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "GitHub account"
        constraints = [models.CheckConstraint(condition=Q(kind__in=GitHubCredentialKind.values), name="github_account_kind_known")]

    def __str__(self) -> str:
        return self.login

    @property
    def token(self) -> str:
        return decrypt(self.token_encrypted) if self.token_encrypted else ""

    @token.setter
    def token(self, text: str) -> None:
        self.token_encrypted = encrypt(text) if text else b""

    @property
    def refresh_token(self) -> str:
        return decrypt(self.refresh_token_encrypted) if self.refresh_token_encrypted else ""

    @refresh_token.setter
    def refresh_token(self, text: str) -> None:
        self.refresh_token_encrypted = encrypt(text) if text else b""


class DeliveryStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    DONE = "done", "Done"
    IGNORED = "ignored", "Ignored"
    FAILED = "failed", "Failed"


class Delivery(models.Model):
    """One webhook delivery of GitHub's, kept by its id, so that the same one twice is worked on once."""

    delivery_id = models.CharField(max_length=64, unique=True)
    event = models.CharField(max_length=60)
    action = models.CharField(max_length=60, blank=True)
    repository = models.CharField(max_length=250, blank=True)  # owner/name
    payload = models.JSONField(default=dict)
    status = models.CharField(max_length=10, choices=DeliveryStatus, default=DeliveryStatus.QUEUED)
    outcome = models.TextField(blank=True)  # a sentence: what was done, or why not
    tries = models.PositiveSmallIntegerField(default=0)
    received_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [models.CheckConstraint(condition=Q(status__in=DeliveryStatus.values), name="delivery_status_known")]
        indexes = [
            models.Index(fields=["received_at"], name="delivery_received"),
            models.Index(fields=["status"], condition=Q(status="queued"), name="delivery_queued"),
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.delivery_id}"
