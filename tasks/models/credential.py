from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.conf import settings
from django.db import models
from django.db.models import Q

from agents.adapters.base import Provider
from tasks.models.encrypted import decrypt, encrypt

if TYPE_CHECKING:
    from tasks.models.account import User

PROVIDERS = [(Provider.ANTHROPIC, "Anthropic"), (Provider.OPENAI, "OpenAI"), (Provider.GEMINI, "Google Gemini")]


class CredentialKind(models.TextChoices):
    API_KEY = "api_key", "API key"
    SUBSCRIPTION = "subscription", "Claude subscription token"


class CredentialQuerySet(models.QuerySet["Credential"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(owner=user)

    def usable_by(self, user: User) -> Self:
        """Whose keys the user's runs may work with: the user's own, and the site's."""
        return self.filter(Q(owner=user) | Q(owner=None))

    def kept_by(self, user: User) -> Self:
        """Those that the user may replace and remove: the user's own, and for operators the site's."""
        return self.usable_by(user) if user.is_operator else self.visible_to(user)


class Credential(models.Model):
    """A key of a model provider and where it is good ("" for the provider's own address): one thing, never mixed with another's.

    Without an owner it is the site's. `hint` is what may be shown of it. `problem` is what the provider said when it was
    checked last, "" when it was taken.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="credentials")
    provider = models.CharField(max_length=20, choices=PROVIDERS)
    kind = models.CharField(max_length=20, choices=CredentialKind, default=CredentialKind.API_KEY)
    secret_encrypted = models.BinaryField()
    hint = models.CharField(max_length=20, blank=True)
    base_url = models.CharField(max_length=500, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)
    problem = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = CredentialQuerySet.as_manager()

    class Meta:
        ordering = ["provider"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "provider"], name="credential_once_per_owner"),
            models.UniqueConstraint(fields=["provider"], condition=Q(owner=None), name="credential_once_per_site"),
            models.CheckConstraint(condition=Q(provider__in=[provider for provider, _ in PROVIDERS]), name="credential_provider_known"),
            models.CheckConstraint(condition=Q(kind__in=CredentialKind.values), name="credential_kind_known"),
        ]

    def __str__(self) -> str:
        return f"{self.get_provider_display()} ({self.owner or 'site'})"

    @property
    def secret(self) -> str:
        return decrypt(self.secret_encrypted)

    @secret.setter
    def secret(self, text: str) -> None:
        self.secret_encrypted = encrypt(text)
        self.hint = text[-4:] if len(text) >= 12 else ""
