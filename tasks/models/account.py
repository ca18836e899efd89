from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q


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


class User(AbstractUser):
    """Somebody who may sign in. Operators (`is_staff`) may add local repositories and see the admin."""

    display_name = models.CharField(max_length=100, blank=True)
    theme = models.CharField(max_length=10, choices=Theme, default=Theme.SYSTEM)
    notify = models.CharField(max_length=10, choices=Notify, default=Notify.NEVER)
    diff_form = models.CharField(max_length=10, choices=DiffForm, default=DiffForm.UNIFIED)
    diff_whitespace = models.CharField(max_length=10, choices=DiffWhitespace, default=DiffWhitespace.NONE, blank=True)
    email_events = models.JSONField(default=list, blank=True)  # of OutgoingEvent
    session_salt = models.CharField(max_length=32, blank=True, editable=False)

    class Meta(AbstractUser.Meta):
        constraints = [
            models.CheckConstraint(condition=Q(theme__in=Theme.values), name="user_theme_known"),
            models.CheckConstraint(condition=Q(notify__in=Notify.values), name="user_notify_known"),
            models.CheckConstraint(condition=Q(diff_form__in=DiffForm.values), name="user_diff_form_known"),
            models.CheckConstraint(condition=Q(diff_whitespace__in=DiffWhitespace.values), name="user_diff_whitespace_known"),
        ]

    @property
    def is_operator(self) -> bool:
        return self.is_active and self.is_staff

    def get_session_auth_hash(self) -> str:
        """What a session was begun under. It ends when this changes: with the password, or with the salt for those who have none."""
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
