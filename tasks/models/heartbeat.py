from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Beats(models.TextChoices):
    """Who has to be heard of: the services of a host, and reconcile, which cron and the workers bring about together."""

    FOLLOW = "follow", "The follower"
    GATEWAY = "gateway", "The gateway"
    WORKER = "worker", "The pool of workers"
    OPERATIONS = "operations", "The pool of workers for operations"
    RECONCILE = "reconcile", "Reconcile"


class Heartbeat(models.Model):
    """When one of them was last heard of, by the database's clock. `host` is "" for what there is once, wherever it runs."""

    kind = models.CharField(max_length=20, choices=Beats)
    host = models.CharField(max_length=255, blank=True)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField(db_default=Now())  # this process's first one
    at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["kind", "host"]
        constraints = [
            models.UniqueConstraint(fields=["kind", "host"], name="heartbeat_once"),
            models.CheckConstraint(condition=Q(kind__in=Beats.values), name="heartbeat_kind_known"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.host}" if self.host else self.kind
