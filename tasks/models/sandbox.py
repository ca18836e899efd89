from __future__ import annotations

from django.db import models
from django.db.models import Q

from tasks.models.environment import PreparedEnvironment
from tasks.models.run import Run


class SandboxStatus(models.TextChoices):
    STARTING = "starting", "Starting"
    LIVE = "live", "Live"
    PAUSED = "paused", "Paused"
    LOST = "lost", "Lost"
    DESTROYED = "destroyed", "Destroyed"


class Sandbox(models.Model):
    """The isolated place of one generation of a run, and how far its journal has been read.

    `offset` counts bytes of the journal whose records are stored as events; it and `parse_state` only ever change in
    the transaction that stores those events. `record` says what holds it in (isolation, limits and their means), `notice`
    what its user should know of it, in sentences. `lost_at`: when it was found gone though it was wanted; such losses open a
    breaker (`running/capacity.py`). `expires_at`: when its backend's plan ends it. `adds_headers`: whether its backend is asked
    to put a key into headers on the way out; settled at each turn's start.
    """

    run = models.ForeignKey(Run, models.CASCADE, related_name="sandboxes", db_index=False)
    generation = models.PositiveIntegerField()
    backend = models.CharField(max_length=20)
    ref = models.CharField(max_length=300, blank=True)
    host = models.CharField(max_length=255, blank=True)
    status = models.CharField(max_length=20, choices=SandboxStatus, default=SandboxStatus.STARTING)
    offset = models.BigIntegerField(default=0)
    parse_state = models.JSONField(default=dict)
    record = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField(null=True, blank=True)
    prepared = models.ForeignKey(PreparedEnvironment, models.SET_NULL, null=True, blank=True, related_name="sandboxes")
    notice = models.TextField(blank=True)
    adds_headers = models.BooleanField(default=True)
    lost_at = models.DateTimeField(null=True, blank=True)
    warned_at = models.DateTimeField(null=True, blank=True)  # that its end is near
    expires_at = models.DateTimeField(null=True, blank=True)
    destroyed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "sandboxes"
        constraints = [
            models.UniqueConstraint(fields=["run", "generation"], name="sandbox_one_per_generation"),
            models.UniqueConstraint(fields=["backend", "ref"], condition=~Q(ref=""), name="sandbox_ref_once"),
            models.CheckConstraint(condition=Q(status__in=SandboxStatus.values), name="sandbox_status_known"),
        ]
        indexes = [
            models.Index(fields=["lost_at"], condition=Q(lost_at__isnull=False), name="sandbox_lost"),
            models.Index(fields=["backend", "status"], condition=~Q(status=SandboxStatus.DESTROYED), name="sandbox_existing"),
        ]

    def __str__(self) -> str:
        return f"sandbox of run {self.run_id}, generation {self.generation}"
