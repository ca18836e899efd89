from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from tasks.models.run import Run, Turn


class EventKind(models.TextChoices):
    MESSAGE = "message"
    THOUGHT = "thought"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    PLAN = "plan"
    USAGE = "usage"
    STATUS = "status"
    LOG = "log"
    ERROR = "error"


class Event(models.Model):
    """One immutable record of a run. Written only through tasks/running/events.py, which takes `seq` from the run.

    `data` as agents/adapters/base.py (AgentEvent) says, and of the kind status one of {"status", "error"}, {"stage"},
    {"step", "ended": {"reason", "code", "signal", "seconds"}} and {"patch", "files", "additions", "deletions"}.
    """

    pk = models.CompositePrimaryKey("run_id", "seq")
    run = models.ForeignKey(Run, models.CASCADE, related_name="events", db_index=False)
    seq = models.BigIntegerField()
    turn = models.ForeignKey(Turn, models.CASCADE, related_name="+", null=True, db_index=False)
    kind = models.CharField(max_length=20, choices=EventKind)
    data = models.JSONField(default=dict)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(kind__in=EventKind.values), name="event_kind_known")]
        indexes = [models.Index(fields=["run", "seq"], condition=Q(kind="status"), name="event_status")]  # few of many

    def __str__(self) -> str:
        return f"{self.run_id}/{self.seq} {self.kind}"
