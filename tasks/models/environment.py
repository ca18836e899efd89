from __future__ import annotations

from django.db import models
from django.db.models import Q

from tasks.models.repo import Repo
from tasks.models.run import Run


class PreparedStatus(models.TextChoices):
    BUILDING = "building", "Being prepared"
    READY = "ready", "Ready"
    FAILED = "failed", "Failed"
    GONE = "gone", "Deleted"


class PreparedEnvironment(models.Model):
    """What a repository's setup script left behind, kept so that later runs need not run it again.

    `key` is a hash of all that it depends on (the script, its variables, the lock files at the base commit, the template); `ref`
    what the backend calls it. A local one lies on its `host`. At most one is being built or ready for the same key. `run` is the
    unlisted run that built it, in a sandbox made from `template`. One that is GONE is given to nobody any more; it is deleted when
    its last sandbox is.
    """

    repo = models.ForeignKey(Repo, models.CASCADE, related_name="prepared")
    backend = models.CharField(max_length=20)
    host = models.CharField(max_length=255, blank=True)
    template = models.CharField(max_length=300, blank=True)
    run = models.OneToOneField(Run, models.SET_NULL, null=True, blank=True, related_name="prepares")
    key = models.CharField(max_length=64)
    ref = models.CharField(max_length=300, blank=True)
    base_commit = models.CharField(max_length=64)
    status = models.CharField(max_length=20, choices=PreparedStatus, default=PreparedStatus.BUILDING)
    error = models.TextField(blank=True)
    log = models.TextField(blank=True)  # the end of what the script said
    seconds = models.FloatField(null=True, blank=True)  # that the script took
    created_at = models.DateTimeField(auto_now_add=True)
    used_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["repo", "backend", "host", "key"],
                condition=Q(status__in=[PreparedStatus.BUILDING, PreparedStatus.READY]),
                name="prepared_once",
            ),
            models.CheckConstraint(condition=Q(status__in=PreparedStatus.values), name="prepared_status_known"),
        ]

    def __str__(self) -> str:
        return f"prepared environment of {self.repo} ({self.backend})"
