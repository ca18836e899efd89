from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from tasks.models.encrypted import decrypt, encrypt

if TYPE_CHECKING:
    from tasks.models.account import User


class OutgoingEvent(models.TextChoices):
    """What is told to programs and people elsewhere."""

    FINISHED = "run.finished", "A run has finished"
    FAILED = "run.failed", "A run has failed, or could not go on"
    WAITING = "run.waiting", "A run waits for me"
    PULL_REQUEST = "pull_request.changed", "A pull request was opened, merged, closed or reopened"


TEST = "test"
ABOUT_RUNS = (OutgoingEvent.FINISHED, OutgoingEvent.FAILED, OutgoingEvent.WAITING)


class OutgoingWebhookQuerySet(models.QuerySet["OutgoingWebhook"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(owner=user)


class OutgoingWebhook(models.Model):
    """An address that is told of `events` of its owner's runs, each message signed with `secret`, which is shown once."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="outgoing_webhooks")
    url = models.CharField(max_length=1000)
    events = models.JSONField(default=list)
    secret_encrypted = models.BinaryField()
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = OutgoingWebhookQuerySet.as_manager()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"outgoing webhook {self.pk}"

    @property
    def secret(self) -> str:
        return decrypt(self.secret_encrypted)

    @secret.setter
    def secret(self, value: str) -> None:
        self.secret_encrypted = encrypt(value)


class OutgoingState(models.TextChoices):
    DUE = "due", "Under way"
    DELIVERED = "delivered", "Delivered"
    FAILED = "failed", "Given up"


class OutgoingDeliveryQuerySet(models.QuerySet["OutgoingDelivery"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(owner=user)

    def due(self) -> Self:
        return self.filter(state=OutgoingState.DUE, due_at__lte=Now())


def _key() -> str:
    return f"msg_{secrets.token_hex(16)}"


class OutgoingDelivery(models.Model):
    """One message, to a webhook, or without one by e-mail to its owner; tried until it is taken, or no more.

    `key` stays the same in all attempts. `status` is that of the last answer, None when there was none, and `answer` its beginning or
    why there was none.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    webhook = models.ForeignKey(OutgoingWebhook, models.CASCADE, null=True, blank=True, related_name="deliveries")
    event = models.CharField(max_length=40)
    key = models.CharField(max_length=40, unique=True, default=_key)
    payload = models.JSONField()
    state = models.CharField(max_length=10, choices=OutgoingState, default=OutgoingState.DUE)
    attempts = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(db_default=Now())
    status = models.PositiveIntegerField(null=True, blank=True)
    answer = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    tried_at = models.DateTimeField(null=True, blank=True)

    objects = OutgoingDeliveryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "outgoing deliveries"
        ordering = ["-id"]
        constraints = [models.CheckConstraint(condition=Q(state__in=OutgoingState.values), name="outgoing_state_known")]
        indexes = [models.Index(fields=["due_at"], condition=Q(state="due"), name="outgoing_due")]

    def __str__(self) -> str:
        return f"{self.event} {self.key}"
