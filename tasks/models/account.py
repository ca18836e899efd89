from __future__ import annotations

import secrets
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone


class Theme(models.TextChoices):
    SYSTEM = "system", "As the system has it"
    LIGHT = "light", "Light"
    DARK = "dark", "Dark"


class Notify(models.TextChoices):
    """When the browser tells a user that something is over."""

    NEVER = "never", "Never"
    TASK = "task", "When all runs of a task are over"
    RUN = "run", "When a run is over"


class DiffForm(models.TextChoices):
    UNIFIED = "unified", "Unified"
    SPLIT = "split", "Side by side"


class DiffWhitespace(models.TextChoices):
    """What of the changes of whitespace is hidden."""

    NONE = "", "Show its changes"
    AMOUNT = "amount", "Hide changes of its amount"
    ALL = "all", "Hide all its changes"


def allows_test_users() -> bool:
    """Whether there may be test users here. One that is there already may not come in where there may be none."""
    return settings.ALLOW_TEST_USERS == "public" or (settings.ALLOW_TEST_USERS == "local" and not settings.PUBLIC_URL)


def welcome(of: str = "") -> Q:
    """Those who may come in: by a session, a link or a token. `of` leads to the user: "user__"."""
    has_time = Q(**{f"{of}expires_at": None})
    if allows_test_users():
        has_time |= Q(**{f"{of}expires_at__gt": Now()})
    return Q(**{f"{of}is_active": True}) & has_time


class User(AbstractUser):
    """Somebody who may sign in. Operators (`is_staff`) may add local repositories and see the admin.

    Test users, and they only, have `expires_at`: then they are shut out, and all that is theirs is deleted (tasks/test_users.py).
    """

    display_name = models.CharField(max_length=100, blank=True)
    theme = models.CharField(max_length=10, choices=Theme, default=Theme.SYSTEM)
    notify = models.CharField(max_length=10, choices=Notify, default=Notify.NEVER)
    diff_form = models.CharField(max_length=10, choices=DiffForm, default=DiffForm.UNIFIED)
    diff_whitespace = models.CharField(max_length=10, choices=DiffWhitespace, default=DiffWhitespace.NONE, blank=True)
    email_events = models.JSONField(default=list, blank=True)  # of OutgoingEvent
    session_salt = models.CharField(max_length=32, blank=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta(AbstractUser.Meta):
        constraints = [
            models.CheckConstraint(condition=Q(theme__in=Theme.values), name="user_theme_known"),
            models.CheckConstraint(condition=Q(notify__in=Notify.values), name="user_notify_known"),
            models.CheckConstraint(condition=Q(diff_form__in=DiffForm.values), name="user_diff_form_known"),
            models.CheckConstraint(condition=Q(diff_whitespace__in=DiffWhitespace.values), name="user_diff_whitespace_known"),
            models.CheckConstraint(
                condition=Q(expires_at=None) | Q(is_staff=False, is_superuser=False), name="user_test_user_is_no_operator"
            ),
        ]
        indexes = [models.Index(fields=["expires_at"], condition=Q(expires_at__isnull=False), name="user_expires")]

    def clean(self) -> None:
        super().clean()
        if self.is_test_user and (self.is_staff or self.is_superuser):
            raise ValidationError("This is a test user, who cannot be an operator.")

    @property
    def is_operator(self) -> bool:
        return self.is_active and self.is_staff

    @property
    def is_test_user(self) -> bool:
        return self.expires_at is not None

    @property
    def is_welcome(self) -> bool:
        """As `welcome` has it."""
        return self.is_active and (self.expires_at is None or (allows_test_users() and self.expires_at > timezone.now()))

    @property
    def world(self) -> Path:
        """The folder of what was made for a test user."""
        return settings.DATA / "test-users" / str(self.pk)

    @property
    def repo_roots(self) -> list[Path] | None:
        """The folders of this machine in which repositories of this user may be; None for those who may not use paths at all."""
        if self.is_test_user:
            return [self.world]
        return settings.LOCAL_REPO_ROOTS if self.is_operator else None

    def get_session_auth_hash(self) -> str:
        """What a session was begun under. It ends when this changes: with the password, or with the salt for those who have none.

        That of a test user who may not come in any more is another one each time, so no session of theirs is good.
        """
        if self.is_test_user and not self.is_welcome:
            return secrets.token_hex(32)
        return super().get_session_auth_hash() + self.session_salt


class LoginLink(models.Model):
    """A link that signs one user in, once. Only the token's SHA-256 is kept."""

    user = models.ForeignKey(User, models.CASCADE, related_name="login_links")
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"login link of {self.user_id}"
