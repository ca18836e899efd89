from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from tasks.models.account import welcome

if TYPE_CHECKING:
    from tasks.models.account import User


class Scope(models.TextChoices):
    """What a token may do; `write` includes `read`."""

    READ = "read", "Read tasks, runs and patches"
    WRITE = "write", "Start, stop and change them too"


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(user=user)

    def valid(self) -> Self:
        """Neither revoked nor expired, of somebody who may still sign in."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=Now()), welcome("user__"), revoked_at=None)


class ApiToken(models.Model):
    """A credential for programs. Only its SHA-256 is kept; `hint` is its beginning, for people to tell tokens apart."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100)
    digest = models.CharField(max_length=64, unique=True)
    hint = models.CharField(max_length=12)
    scope = models.CharField(max_length=10, choices=Scope, default=Scope.READ)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        verbose_name = "API token"
        ordering = ["-id"]
        constraints = [models.CheckConstraint(condition=Q(scope__in=Scope.values), name="token_scope_known")]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()
