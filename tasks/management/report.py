"""Runs as `submit` and `follow-up` report them: JSON for programs, lines for people, progress while they last."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from django.conf import settings

from tasks.models import FINAL, Check, Patch, PatchKind, Run, RunStatus, Stage, Task, Turn, Verdict
from tasks.review.checks import checks_of
from tasks.running import scheduler
from tasks.running.lifecycle import OVER

POLL_S = 0.1


def run_json(run: Run) -> dict[str, Any]:
    patch = Patch.objects.filter(run=run).order_by("-turn__number", "-kind").defer("content").first()
    return {
        "id": run.pk,
        "agent": run.agent,
        "model": run.model,
        "attempt": run.attempt,
        "backend": run.backend,
        "status": run.status,
        "stage": run.stage,
        "error": run.error,
        "files_changed": len(patch.files) if patch else 0,
        "additions": patch.additions if patch else 0,
        "deletions": patch.deletions if patch else 0,
        "input_tokens": run.input_tokens,
        "output_tokens": run.output_tokens,
        "cost_usd": float(run.cost_usd) if run.cost_usd is not None else None,
        "duration_s": round(run.duration_s, 3) if run.duration_s is not None else None,
        "events": run.next_seq - 1,
        "patch_sha256": patch.sha256 if patch and patch.kind == PatchKind.FINAL else None,
    }


def task_json(task: Task, runs: Sequence[Run]) -> dict[str, Any]:
    """`check` of a run is a Verdict of its newest patch, or None."""
    checks = checks_of(runs)
    return {
        "task": task.pk,
        "url": settings.BASE_URL + task.get_absolute_url(),
        "base_commit": task.base_commit,
        "runs": [run_json(run) | {"check": checks[run.pk].verdict if run.pk in checks else None} for run in runs],
    }


def wait(run_ids: list[int], *, is_over: Callable[[], bool] | None = None) -> list[Run]:
    """Wait until every run is over or waits for its user, and what was to be checked is checked, showing progress on a terminal."""
    shown = Progress(sys.stderr)
    over = is_over or (lambda: True)
    while True:
        runs = list(Run.objects.filter(pk__in=run_ids).select_related("task"))
        is_rest = all(run.status in OVER for run in runs) and over()
        checks = checks_of(runs) if is_rest else {}  # that there is one is written with the end of the turn
        shown.show(runs, checks)
        if is_rest and all(check.is_over and not check.is_base_unknown for check in checks.values()):
            shown.end()
            return runs
        time.sleep(POLL_S)


def are_checks_good(runs: Sequence[Run]) -> bool:
    """Whether no check has found that a run's patch breaks something; one that could not run has not shown it."""
    return all(check.verdict in (Verdict.PASSED, Verdict.FIXED, Verdict.WAS_FAILING) for check in checks_of(runs).values())


def has_turn_ended(turn: Turn) -> Callable[[], bool]:
    return lambda: Turn.objects.filter(pk=turn.pk, status__in=FINAL).exists()


class Progress:
    """A line a run, redrawn in place; silent when the stream is no terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream if stream.isatty() else None
        self._lines = 0
        self._last = ""

    def show(self, runs: list[Run], checks: Mapping[int, Check]) -> None:
        if self._stream is None:
            return
        places = scheduler.places([run.pk for run in runs if run.status == RunStatus.QUEUED])
        lines = []
        for run in runs:
            place = places.get(run.pk)
            what = f"queued, number {place.position}: {place.reason}" if place else RunStatus(run.status).label.lower()
            if run.is_active and run.stage:
                what = Stage(run.stage).label.lower()
            if run.pk in checks:
                what += f", {checks[run.pk].verdict.label.lower()}"
            seconds = f"{run.duration_s:5.0f} s" if run.duration_s is not None and not place else "       "
            lines.append(f"  {run.label:<16} {seconds}  {what}{'  ' + run.error if run.error else ''}"[:150])
        text = "\n".join(lines) + "\n"
        if text != self._last:
            back = f"\x1b[{self._lines}F\x1b[J" if self._lines else ""
            self._stream.write(back + text)
            self._stream.flush()
            self._last, self._lines = text, len(lines)

    def end(self) -> None:
        if self._stream is not None:
            self._stream.write("\n")


def print_result(task: Task, runs: list[Run], *, as_json: bool, out: Any) -> bool:
    """Print what became of the runs; True when every one succeeded, or has made the plan that was asked for."""
    if as_json:
        out.write(json.dumps(task_json(task, runs)))
    else:
        out.write(f"Task {task.pk}  {settings.BASE_URL}{task.get_absolute_url()}")
        checks = checks_of(runs)
        for run in runs:
            said = run_json(run)
            changes = f"{said['files_changed']} files, +{said['additions']} −{said['deletions']}" if said["patch_sha256"] else ""
            if said["patch_sha256"] and not said["files_changed"]:
                changes = "no changes"
            if run.pk in checks:
                changes += f"  {checks[run.pk].verdict.label.lower()}"
            out.write(f"  run {run.pk}  {run.label:<16} {run.status:<11} {changes}{'  ' + run.error if run.error else ''}")
    return all(run.status in (RunStatus.SUCCEEDED, RunStatus.WAITING) for run in runs)
