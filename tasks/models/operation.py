from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone


class OperationStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"


class Operation(models.Model):
    """A long chore of ours with progress. Idempotent: whoever holds `lease_until` works on it, reconcile starts it again.

    `subject` names what it works on, as "repo:7". At most one unfinished operation of a kind a subject. `progress` is what it is
    at, one line; `log` the end of all that was said, for those kinds that are talkative.
    """

    kind = models.CharField(max_length=40)
    subject = models.CharField(max_length=200)
    status = models.CharField(max_length=20, choices=OperationStatus, default=OperationStatus.QUEUED)
    percent = models.PositiveSmallIntegerField(default=0)
    progress = models.CharField(max_length=300, blank=True)
    log = models.TextField(blank=True)
    error = models.TextField(blank=True)
    tries = models.PositiveSmallIntegerField(default=0)
    lease_owner = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject"],
                condition=Q(status__in=[OperationStatus.QUEUED, OperationStatus.RUNNING]),
                name="operation_one_unfinished",
            ),
            models.CheckConstraint(condition=Q(status__in=OperationStatus.values), name="operation_status_known"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.subject}"
