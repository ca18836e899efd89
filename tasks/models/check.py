from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.db import models
from django.db.models import F, OuterRef, Q, Subquery
from django.db.models.functions import MD5

from tasks.models.patch import Patch
from tasks.models.repo import Repo
from tasks.models.run import Run, RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tasks.models.account import User


class CheckStatus(models.TextChoices):
    UNDER_WAY = "under_way", "Under way"
    PASSED = "passed", "Passed"
    FAILED = "failed", "Failed"
    ERRORED = "errored", "Could not run"
    CANCELED = "canceled", "Stopped"


class Verdict(models.TextChoices):
    """What a check says of a patch, once the base commit's own check is taken into account."""

    QUEUED = "queued", "Check queued"
    RUNNING = "running", "Checking"
    PASSED = "passed", "Check passed"
    FIXED = "fixed", "Check fixed"
    FAILED = "failed", "Check failed"
    WAS_FAILING = "was_failing", "Check was already failing"
    ERRORED = "errored", "Check could not run"
    CANCELED = "canceled", "Check stopped"


class CheckQuerySet(models.QuerySet["Check"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(repo__owner=user)

    def under_way(self) -> Self:
        return self.filter(status=CheckStatus.UNDER_WAY)

    def of_newest_patches(self, runs: Iterable[Run] | Iterable[int]) -> Self:
        """The newest check of each run's newest patch, with what `verdict` asks for: what was said of an earlier patch holds no
        longer."""
        newest = Patch.objects.filter(run=OuterRef("patch__run")).order_by("-turn__number", "-kind").values("pk")[:1]
        found = self.filter(patch__run__in=runs, patch=Subquery(newest)).order_by("patch__run_id", "-pk").distinct("patch__run_id")
        return found.select_related("patch", "run", "base").only("status", "patch__run", "run__status", "base__status")


class Check(models.Model):
    """A repository's check command, as it was, on a patch, or on the base commit itself: one without a `patch` is the `base` of
    others, and shared by all that begin in the same way.

    `run` is the unlisted run that does it; None until that is made. `exit_code` is None also where the command was ended.
    `seconds` is what the command took, `output` the end of what it said; of one that ERRORED, what was said before.
    """

    repo = models.ForeignKey(Repo, models.CASCADE, related_name="checks")
    patch = models.ForeignKey(Patch, models.CASCADE, null=True, blank=True, related_name="checks")
    base = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="dependents")
    base_commit = models.CharField(max_length=64)
    command = models.TextField()
    backend = models.CharField(max_length=20)
    is_restricted = models.BooleanField(default=False)
    run = models.OneToOneField(Run, models.SET_NULL, null=True, blank=True, related_name="checks")
    status = models.CharField(max_length=20, choices=CheckStatus, default=CheckStatus.UNDER_WAY)
    error = models.TextField(blank=True)
    exit_code = models.IntegerField(null=True, blank=True)
    seconds = models.FloatField(null=True, blank=True)
    output = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = CheckQuerySet.as_manager()

    class Meta:
        constraints = [
            # By a hash, since a command may be longer than an index takes.
            models.UniqueConstraint("patch", MD5("command"), condition=Q(patch__isnull=False), name="check_once_per_patch"),
            models.UniqueConstraint(
                F("repo"),
                F("base_commit"),
                F("backend"),
                F("is_restricted"),
                MD5("command"),
                condition=Q(patch__isnull=True),
                name="check_once_per_base",
            ),
            models.CheckConstraint(condition=Q(status__in=CheckStatus.values), name="check_status_known"),
            models.CheckConstraint(condition=Q(patch__isnull=True) | Q(base__isnull=False), name="check_of_patch_has_base"),
        ]
        indexes = [models.Index(fields=["id"], condition=Q(status=CheckStatus.UNDER_WAY), name="check_under_way")]

    def __str__(self) -> str:
        return f"check of {f'patch {self.patch_id}' if self.patch_id else self.base_commit[:12]}"

    @property
    def is_over(self) -> bool:
        return self.status != CheckStatus.UNDER_WAY

    @property
    def verdict(self) -> Verdict:
        if self.status == CheckStatus.UNDER_WAY:
            is_queued = self.run is None or self.run.status == RunStatus.QUEUED
            return Verdict.QUEUED if is_queued else Verdict.RUNNING
        has_failed_before = self.base is not None and self.base.status == CheckStatus.FAILED
        if has_failed_before and self.status == CheckStatus.PASSED:
            return Verdict.FIXED
        if has_failed_before and self.status == CheckStatus.FAILED:
            return Verdict.WAS_FAILING
        return Verdict(self.status)

    @property
    def is_base_unknown(self) -> bool:
        """Whether it is yet to be told if the base commit fails too."""
        return self.base is not None and not self.base.is_over
