"""A sandbox that is gone while its turn is at work."""

from __future__ import annotations

from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from agents.registry import ADAPTERS
from sandboxes.errors import SandboxError
from tasks.models import EndReason, EventKind, Run, RunStatus, Sandbox, SandboxStatus, Turn
from tasks.running import backends, capacity, events, lifecycle, nudge

MOST_GENERATIONS = 6  # of a run on this host
MOST_START_TRIES = 3
MOST_LOSSES = 1  # of a turn with a backend that is not ours, after which it goes on in a new sandbox

_GOES_ON = "The sandbox was lost; the run goes on in a new one, from the last checkpoint and a transcript of what was said."
_ENDS = "The sandbox stopped before the turn was over. The last checkpoint is kept; retry starts a new attempt."
_ENDS_AGAIN = (
    "The sandbox was lost again in the same turn, so the turn was ended. The last checkpoint is kept: "
    "a follow-up goes on from it in a new sandbox; retry starts a new attempt."
)


def sandbox_lost(run_id: int, generation: int) -> None:
    """A running turn's sandbox is gone: start over if the turn never began or its conversation can go on, else say so."""
    row = Sandbox.objects.filter(run=run_id, generation=generation, run__status=RunStatus.RUNNING, run__generation=generation).first()
    if row is None:
        return
    turn = Turn.objects.filter(run=run_id, status=RunStatus.RUNNING).first()
    if turn is None or turn.outcome is not None:
        nudge.enqueue_now(settings.QUEUE_HOST, "finish_turn", run_id, generation)
        return
    found = "gone" if row.backend == "local" else async_to_sync(_look)(row)
    if found == "asleep":
        return
    with transaction.atomic():
        run = Run.objects.select_for_update().get(pk=run_id)
        turn = Turn.objects.filter(run=run, status=RunStatus.RUNNING, outcome__isnull=True).first()
        if turn is None or (run.status, run.generation) != (RunStatus.RUNNING, generation):
            return  # others have seen to it meanwhile
        if found == "gone" and turn.end_reason != EndReason.LIFETIME:
            capacity.lose(row.pk)
        Sandbox.objects.filter(pk=row.pk).exclude(status=SandboxStatus.DESTROYED).update(status=SandboxStatus.LOST)
        Turn.objects.filter(pk=turn.pk).update(losses=F("losses") + 1)
        _go_on(run, turn, row)


async def _look(row: Sandbox) -> str:
    """What there is of a sandbox that fell silent. "asleep": E2B paused it as nobody read its journal, and reading it wakes it
    up. "silent": it is there, but its supervisor is not, which the agent may have done. Else "gone"."""
    try:
        box = await backends.backend(row.backend).connect(row.ref)
        return "silent" if await box.alive() else "asleep"
    except SandboxError:
        return "gone"


def _go_on(run: Run, turn: Turn, row: Sandbox) -> None:
    fence = Q(generation=run.generation)
    is_first = run.generation < MOST_GENERATIONS if row.backend == "local" else turn.losses < MOST_LOSSES
    has_begun = row.parse_state.get("turn") == turn.number
    if turn.end_reason == EndReason.LIFETIME:
        lifecycle.finish(run.pk, source=[RunStatus.RUNNING], to=RunStatus.INTERRUPTED, fence=fence, error=turn.end_text)
    elif run.stop_requested_at:
        lifecycle.finish(run.pk, source=[RunStatus.RUNNING], to=RunStatus.CANCELED, fence=fence)
    elif is_first and (not has_begun or ADAPTERS[run.agent].can_resume):
        events.append(run.pk, EventKind.ERROR, {"text": _GOES_ON}, turn_id=turn.pk)
        lifecycle.requeue(run.pk, source=[RunStatus.RUNNING], fence=fence, generation=run.generation + 1)
        nudge.dispatch()
    else:
        error = _ENDS if is_first or row.backend == "local" else _ENDS_AGAIN
        lifecycle.finish(run.pk, source=[RunStatus.RUNNING], to=RunStatus.INTERRUPTED, fence=fence, error=error)
