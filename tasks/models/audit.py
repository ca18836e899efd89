from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class AuditKind(models.TextChoices):
    """What is written down: what operators do, and what matters for who may do what."""

    SIGNED_IN = "signed_in", "Signed in"
    SIGN_IN_FAILED = "sign_in_failed", "Sign-in failed"
    SIGNED_OUT = "signed_out", "Signed out"
    SESSIONS_ENDED = "sessions_ended", "All sessions ended"
    PASSWORD_CHANGED = "password_changed", "Password changed"
    LOGIN_LINK_MADE = "login_link_made", "Login link made"
    USER_ADDED = "user_added", "User added"
    USER_CHANGED = "user_changed", "User changed"
    USER_SHUT_OUT = "user_shut_out", "User shut out"
    USER_LEFT = "user_left", "Account deleted by its user"
    TOKEN_MADE = "token_made", "Token made"
    TOKEN_REVOKED = "token_revoked", "Token revoked"
    KEY_SAVED = "key_saved", "Key saved"
    KEY_REMOVED = "key_removed", "Key removed"
    GITHUB_CONNECTED = "github_connected", "GitHub account connected"
    GITHUB_DISCONNECTED = "github_disconnected", "GitHub account disconnected"
    GITHUB_APP_MADE = "github_app_made", "GitHub App made"
    GITHUB_APP_FORGOTTEN = "github_app_forgotten", "GitHub App forgotten"
    SECRETS_ROTATED = "secrets_rotated", "Secrets written under another key"
    WEBHOOK_ADDED = "webhook_added", "Webhook added"
    WEBHOOK_CHANGED = "webhook_changed", "Webhook changed"
    WEBHOOK_REMOVED = "webhook_removed", "Webhook removed"
    PUBLISHED = "published", "Publication asked for"
    RUN_STOPPED = "run_stopped", "Somebody else's run stopped"
    RUN_RETRIED = "run_retried", "Somebody else's run retried"
    SANDBOX_DESTROYED = "sandbox_destroyed", "Sandbox destroyed"
    ADDED = "added", "Added in the administration"
    CHANGED = "changed", "Changed in the administration"
    DELETED = "deleted", "Deleted in the administration"
    OPERATED = "operated", "Done in the administration"


class AuditEntry(models.Model):
    """Who did what to what, when and from where. It is only ever added to: the database refuses to change or delete one.

    `user_id` and `username` are of that moment and no reference, so that they stay when the user goes; None: nobody who is known, or
    the machine itself. `subject` names a row, as "run:7". `detail` holds names and numbers, never a secret.
    """

    at = models.DateTimeField(db_default=Now())
    kind = models.CharField(max_length=30, choices=AuditKind)
    user_id = models.BigIntegerField(null=True, blank=True)
    username = models.CharField(max_length=150, blank=True)
    subject = models.CharField(max_length=200, blank=True)
    detail = models.JSONField(default=dict, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit log"
        ordering = ["-id"]
        constraints = [models.CheckConstraint(condition=Q(kind__in=AuditKind.values), name="audit_kind_known")]
        indexes = [
            models.Index(fields=["kind", "id"], name="audit_kind"),
            models.Index(fields=["username", "id"], name="audit_username"),
            models.Index(fields=["subject", "id"], name="audit_subject"),
            models.Index(fields=["at"], name="audit_at"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.subject}".rstrip()
