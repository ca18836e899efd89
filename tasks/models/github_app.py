from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from tasks.models.encrypted import decrypt, encrypt

THE_ONLY_ONE = 1


class GitHubApp(models.Model):
    """The GitHub App of this server, made by an operator at GitHub; there is one, or none. Its secrets are kept encrypted.

    `webhook_secret` is "" for one that sends no webhooks. The app's installations are GitHub's to know (tasks/github_api/installations.py).
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=THE_ONLY_ONE, editable=False)
    app_id = models.BigIntegerField()
    slug = models.CharField(max_length=100)
    name = models.CharField(max_length=100)
    html_url = models.CharField(max_length=300)
    owner = models.CharField(max_length=100)
    is_of_organization = models.BooleanField(default=False)
    client_id = models.CharField(max_length=100)
    client_secret_encrypted = models.BinaryField()
    webhook_secret_encrypted = models.BinaryField(default=b"")
    private_key_encrypted = models.BinaryField()
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "GitHub App"
        constraints = [models.CheckConstraint(condition=Q(id=THE_ONLY_ONE), name="github_app_only_one")]

    def __str__(self) -> str:
        return self.name

    @property
    def client_secret(self) -> str:
        return decrypt(self.client_secret_encrypted)

    @client_secret.setter
    def client_secret(self, text: str) -> None:
        self.client_secret_encrypted = encrypt(text)

    @property
    def webhook_secret(self) -> str:
        return decrypt(self.webhook_secret_encrypted) if self.webhook_secret_encrypted else ""

    @webhook_secret.setter
    def webhook_secret(self, text: str) -> None:
        self.webhook_secret_encrypted = encrypt(text) if text else b""

    @property
    def private_key(self) -> str:
        return decrypt(self.private_key_encrypted)

    @private_key.setter
    def private_key(self, text: str) -> None:
        self.private_key_encrypted = encrypt(text)
