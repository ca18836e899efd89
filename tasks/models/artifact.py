from __future__ import annotations

from django.db import models

from tasks.models.run import Run, Turn

LONGEST_PATH = 500  # characters


class Artifact(models.Model):
    """A file that a run left in its folder of artifacts: kept beside its patch, never a part of it.

    `path` is the one below that folder, `turn` the one whose version is kept. `left_out` is why what was there after the last turn is
    not: size, total, count, unreadable, or how many more there were; "" for none. Without a sha256 there is no earlier version either.
    `secrets_found` names the repository's secrets whose values stand in it.
    """

    run = models.ForeignKey(Run, models.CASCADE, related_name="artifacts")
    turn = models.ForeignKey(Turn, models.CASCADE, related_name="+")
    path = models.CharField(max_length=LONGEST_PATH)
    content = models.BinaryField()
    size = models.PositiveBigIntegerField()  # bytes
    sha256 = models.CharField(max_length=64, blank=True)
    left_out = models.CharField(max_length=40, blank=True)
    secrets_found = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["path"]
        constraints = [models.UniqueConstraint(fields=["run", "path"], name="artifact_one_per_path")]

    def __str__(self) -> str:
        return f"{self.path} of run {self.run_id}"
