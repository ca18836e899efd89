from __future__ import annotations

from django.db import models

from tasks.models.account import User
from tasks.models.run import Run


class Viewed(models.Model):
    """Somebody has looked at a file of a run's change. `digest` is the one of `review/diffs.py`: another content is another mark."""

    user = models.ForeignKey(User, models.CASCADE, related_name="+")
    run = models.ForeignKey(Run, models.CASCADE, related_name="+")
    digest = models.CharField(max_length=16)

    class Meta:
        verbose_name_plural = "viewed files"
        constraints = [models.UniqueConstraint(fields=["user", "run", "digest"], name="viewed_once")]

    def __str__(self) -> str:
        return f"file of run {self.run_id} viewed by {self.user_id}"
