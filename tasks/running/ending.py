"""The end of a turn: its patch and its artifacts are fetched, and its status is judged."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import transaction
from django.db.models import Q

from sandboxes.base import FetchedPatch
from sandboxes.errors import AccountRefused, FileMissing, SandboxGone
from tasks.models import EventKind, Mode, PatchKind, Publication, Run, RunStatus, Sandbox, SandboxStatus, Turn
from tasks.running import (
    artifacts,
    backends,
    checks,
    conversations,
    events,
    lifecycle,
    nudge,
    patches,
    prepared,
    refusals,
    sleeping,
    usage,
    verdicts,
)
from tasks.running.redact import redactor


def give_up(run_id: int, generation: int, error: str) -> None:
    """End a RUNNING run that cannot be handed over or followed; reconcile puts its sandbox to sleep."""
    lifecycle.finish(run_id, source=[RunStatus.RUNNING], to=RunStatus.ERRORED, fence=Q(generation=generation), error=error)


def collect_checkpoint(run_id: int, turn_id: int, generation: int) -> None:
    """Fetch the newest checkpoint of a turn that is still at work."""
    turn = Turn.objects.select_related("run__task__repo").filter(pk=turn_id, run__generation=generation, status=RunStatus.RUNNING).first()
    if turn is not None and _is_kept(turn) and (fetched := _fetch(turn, PatchKind.CHECKPOINT)):
        patches.store(turn, PatchKind.CHECKPOINT, fetched, redactor(turn.run))


def _is_kept(turn: Turn) -> bool:
    """Whether what a turn changes is kept: not where it may change nothing, nor of runs that no list shows."""
    return turn.mode == Mode.CODE and not turn.run.task.is_trial


def _fetch(turn: Turn, kind: PatchKind) -> FetchedPatch | None:
    """Fetch a patch; None when the sandbox has none (any more)."""
    row = Sandbox.objects.get(run=turn.run_id, generation=turn.run.generation)

    async def fetch() -> FetchedPatch:
        box = await backends.backend(row.backend).connect(row.ref)
        return await box.patch(turn.number, kind)

    try:
        return async_to_sync(fetch)()
    except (FileMissing, SandboxGone):
        return None


def finish_turn(run_id: int, generation: int) -> None:
    """End a turn whose journal says that it is over: patch, status, then the sandbox sleeps."""
    turn = (
        Turn.objects.select_related("run__task__repo")
        .filter(run=run_id, run__generation=generation, run__status=RunStatus.RUNNING, status=RunStatus.RUNNING, outcome__isnull=False)
        .first()
    )
    if turn is None or turn.outcome is None:
        return
    said = turn.outcome
    kind = PatchKind.CHECKPOINT if said["reason"] == "shutdown" else PatchKind.FINAL
    is_wanted = said.get("has_patch") and not turn.run.task.is_trial
    try:
        fetched = (_fetch(turn, kind) or patches.known(turn, said.get("sha256"))) if is_wanted else None
    except AccountRefused as error:
        give_up(run_id, generation, refusals.said_of(error, has_sandbox=True))
        return
    left = artifacts.collect(turn)
    to, stage, outcome = verdicts.judge(turn, said, has_patch=fetched is not None or not is_wanted)
    fence = Q(generation=generation)
    message = redactor(turn.run).text(outcome.message)
    end: dict[str, Any] = {"to": to, "stage": stage, "error": message, "error_class": outcome.error_class}
    with transaction.atomic():
        Run.objects.select_for_update().get(pk=run_id)
        if not Turn.objects.filter(pk=turn.pk, status=RunStatus.RUNNING, run__generation=generation).exists():
            return  # another job has ended it meanwhile, and what follows is done once
        patch = patches.store(turn, kind, fetched, redactor(turn.run)) if fetched is not None and _is_kept(turn) else None
        if patch is None and fetched is not None and (spoiled := verdicts.disobeyed(turn, fetched)):
            end |= {"generation": generation + 1}  # what is to come begins in a sandbox without those changes
            events.append(run_id, EventKind.ERROR, {"text": spoiled, "class": "mode"}, turn_id=turn.pk)
            Sandbox.objects.filter(run=run_id, generation=generation).update(status=SandboxStatus.LOST)
        if left is not None:
            artifacts.store(turn, left, redactor(turn.run))
        if verdicts.is_tried_again(turn, outcome):
            end |= {"not_before": verdicts.try_again(turn)}
        usage.settle(turn)
        lifecycle.finish(run_id, source=[RunStatus.RUNNING], fence=fence, **end)
        if patch is not None and kind == PatchKind.FINAL:
            checks.after_turn(turn, to, patch)
    if checks.is_check(turn.run):
        checks.settle(turn.run)
    elif turn.run.task.is_trial:
        prepared.after(turn.run)
    if Publication.objects.filter(run=run_id, update_after__isnull=False).exists():
        nudge.enqueue(settings.QUEUE_OPERATIONS, "github.update_pull_request", run_id)
    conversations.keep(turn)
    sleeping.put_to_sleep(run_id, generation)
