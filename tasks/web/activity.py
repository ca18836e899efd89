"""What of a user's is going on: how many runs, and which of them have ended since one looked last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db.models import Count, Q
from django.db.models.functions import Now

from tasks.models import ACTIVE, FINAL, Notify, Patch, Run, RunStatus, User
from tasks.web.cards import RunCard, newest_patches
from tasks.web.shown import bare

OVERLAP = timedelta(minutes=1)  # a transaction may commit after a later one; nothing takes longer
MOST = 20  # endings told at once
HOW = {
    RunStatus.WAITING: "waits for you",
    RunStatus.SUCCEEDED: "has finished",
    RunStatus.FAILED: "has failed",
    RunStatus.ERRORED: "could not go on",
    RunStatus.INTERRUPTED: "was interrupted",
}


def activity_of(user: User) -> dict[str, int]:
    """How many of the user's runs are "running" and "queued"."""
    return (
        Run.objects.visible_to(user)
        .filter(status__in=(RunStatus.QUEUED, *ACTIVE), checks=None)
        .aggregate(running=Count("pk", filter=Q(status__in=ACTIVE)), queued=Count("pk", filter=Q(status=RunStatus.QUEUED)))
    )


class Endings:
    """The runs of a user that ended, or began to wait for the user, since the last look; the first look is where that begins.

    A run that the user canceled is no news, nor is a check. With Notify.TASK, a run counts when all runs of its task are over.
    """

    def __init__(self) -> None:
        self._told: set[tuple[Any, ...]] | None = None

    def look(self, user: User) -> list[dict[str, Any]]:
        """Each as {"run", "url", "title", "body", "status"}: plain text, in which nothing hides."""
        ended = Run.objects.visible_to(user).filter(status__in=HOW, checks=None)
        recent = ended.filter(Q(status=RunStatus.WAITING) | Q(finished_at__gte=Now() - OVERLAP))
        now = {(run.pk, run.status, run.finished_at): run for run in recent.select_related("task").order_by("-finished_at")[:MOST]}
        before, self._told = self._told, set(now)
        new = [run for key, run in now.items() if before is not None and key not in before]
        wish = User.objects.filter(pk=user.pk).values_list("notify", flat=True).first()
        if not new or wish == Notify.NEVER:
            return []
        return _of_tasks(new) if wish == Notify.TASK else _of_runs(new)


def _of_runs(runs: Sequence[Run]) -> list[dict[str, Any]]:
    patches = newest_patches([run.pk for run in runs])
    return [
        _told(
            run,
            run.get_absolute_url(),
            f"{RunCard(run, None, None).agent} {HOW[RunStatus(run.status)]}",
            _outcome(run, patches.get(run.pk)),
        )
        for run in runs
    ]


def _of_tasks(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The tasks of these runs of which no run is on its way any more, each by the run that ended last."""
    last = {run.task_id: run for run in reversed(runs)}
    statuses: dict[int, Counter[str]] = {task: Counter() for task in last}
    for task, status in Run.objects.filter(task__in=last).values_list("task", "status"):
        statuses[task][status] += 1
    over = [run for run in last.values() if statuses[run.task_id].keys() <= {*FINAL, RunStatus.WAITING}]
    single = [run for run in over if statuses[run.task_id].total() == 1]
    return _of_runs(single) + [
        _told(run, run.task.get_absolute_url(), f"All {count.total()} runs are over", _summary(count))
        for run in over
        if (count := statuses[run.task_id]).total() > 1
    ]


def _told(run: Run, url: str, title: str, outcome: str) -> dict[str, Any]:
    body = "\n".join(filter(None, [bare(run.task.title), bare(outcome)]))
    return {"run": run.pk, "url": url, "title": bare(title), "body": body, "status": run.status}


def _outcome(run: Run, patch: Patch | None) -> str:
    if run.error:
        return run.error.strip().partition("\n")[0].partition(". ")[0][:200]
    return f"+{patch.additions} −{patch.deletions}" if patch is not None and patch.files else ""


def _summary(statuses: Counter[str]) -> str:
    return ", ".join(f"{count} {RunStatus(status).label.lower()}" for status, count in statuses.most_common())
