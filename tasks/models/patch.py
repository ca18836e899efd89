from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from django.db import models
from django.db.models import F, Func, IntegerField, Q

from tasks.models.run import Run, Turn


class PatchKind(models.TextChoices):
    CHECKPOINT = "checkpoint"
    FINAL = "final"


class PatchQuerySet(models.QuerySet["Patch"]):
    def newest_of(self, runs: Iterable[Run] | Iterable[int]) -> Self:
        """The newest patch of each run: a turn's final one counts before its checkpoints."""
        return self.filter(run__in=runs).order_by("run_id", "-turn__number", "-kind").distinct("run_id")

    def counted(self) -> Self:
        """Without their contents and their lists of files, which may have thousands: `file_count` says how many."""
        counted = self.annotate(file_count=Func(F("files"), function="jsonb_array_length", output_field=IntegerField()))
        return counted.defer("content", "files", "left_out")


class Patch(models.Model):
    """What a run has changed since the base commit, ready for `git apply --index --allow-empty`.

    `files` is a list of {path, old_path, state, additions, deletions, is_binary}; `left_out` of {path, bytes, reason};
    `secrets_found` names the repository's secrets whose values stand in the patch.
    """

    run = models.ForeignKey(Run, models.CASCADE, related_name="patches")
    turn = models.ForeignKey(Turn, models.CASCADE, related_name="patches")
    kind = models.CharField(max_length=12, choices=PatchKind)
    content = models.BinaryField()
    sha256 = models.CharField(max_length=64)
    tree = models.CharField(max_length=64, blank=True)  # git's id of what `content` makes of the base commit; "" until it is asked for
    files = models.JSONField(default=list)
    additions = models.PositiveIntegerField(default=0)
    deletions = models.PositiveIntegerField(default=0)
    left_out = models.JSONField(default=list)
    secrets_found = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)

    file_count: int  # of `counted` ones

    objects = PatchQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "patches"
        constraints = [
            models.UniqueConstraint(fields=["turn", "kind"], name="patch_one_per_kind"),
            models.CheckConstraint(condition=Q(kind__in=PatchKind.values), name="patch_kind_known"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} patch of run {self.run_id}"
