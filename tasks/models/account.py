from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """Somebody who may sign in. Operators (`is_staff`) may add local repositories and see the admin."""

    @property
    def is_operator(self) -> bool:
        return self.is_active and self.is_staff


class LoginLink(models.Model):
    """A link that signs one user in, once. Only the token's SHA-256 is kept."""

    user = models.ForeignKey(User, models.CASCADE, related_name="login_links")
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"login link of {self.user_id}"
