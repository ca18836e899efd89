from __future__ import annotations

from django.db import models
from django.db.models import Q

from tasks.models.run import Run


class PullRequestState(models.TextChoices):
    DRAFT = "draft", "Draft"
    OPEN = "open", "Open"
    MERGED = "merged", "Merged"
    CLOSED = "closed", "Closed"


class PullRequest(models.Model):
    """The pull request a run's patch has become; follow-ups of the run go to the same one."""

    run = models.OneToOneField(Run, models.CASCADE, related_name="pull_request")
    number = models.PositiveIntegerField()
    url = models.URLField(max_length=500)
    branch = models.CharField(max_length=250)
    state = models.CharField(max_length=10, choices=PullRequestState, default=PullRequestState.OPEN)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(state__in=PullRequestState.values), name="pull_request_state_known")]

    def __str__(self) -> str:
        return f"pull request {self.number} of run {self.run_id}"
