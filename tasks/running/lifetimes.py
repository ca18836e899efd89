"""A plan of E2B ends a sandbox that is awake for too long. Each pause begins its time anew; a turn that would not be over in time
is told so, and ended in order a minute before."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from tasks.models import EndReason, EventKind, Run, RunStatus, Sandbox, SandboxStatus, Stage, Turn
from tasks.running import capacity, events, nudge

LAST = timedelta(seconds=60)  # of a sandbox's time: no turn is at work in it
OVERDUE = timedelta(seconds=60)  # after its end it is gone, whatever its backend says


def expiry(backend: str, since: datetime) -> datetime | None:
    """When a sandbox ends that is awake since then."""
    return since + timedelta(seconds=settings.E2B_MAX_LIFE_S) if backend == capacity.E2B else None


def notice_time() -> timedelta:
    """How long before its end a turn is warned."""
    return timedelta(seconds=min(max(settings.E2B_MAX_LIFE_S / 10, 120), 600))


def is_near_its_end(row: Sandbox) -> bool:
    """Whether a turn that begins in it now would be warned soon."""
    return row.expires_at is not None and row.expires_at < timezone.now() + 2 * notice_time()


def watch() -> None:
    """Reconcile's part: warn the turns at work whose sandboxes end soon, and end those whose sandboxes end now."""
    ending = Sandbox.objects.filter(
        status=SandboxStatus.LIVE, run__status=RunStatus.RUNNING, run__generation=F("generation"), expires_at__lt=Now() + notice_time()
    )
    for row in ending:
        assert row.expires_at is not None
        left = row.expires_at - timezone.now()
        if left < -OVERDUE:
            nudge.enqueue_now(settings.QUEUE_RUNS, "sandbox_lost", row.run_id, row.generation)
        elif left <= LAST:
            _end(row, row.expires_at)
        elif row.warned_at is None:
            _warn(row, row.expires_at)


def _warn(row: Sandbox, end: datetime) -> None:
    text = (
        f"This sandbox ends at {capacity.clock(end)}, as the plan of E2B has it. The turn is ended a minute before, and its work is kept."
    )
    with transaction.atomic():
        if Sandbox.objects.filter(pk=row.pk, warned_at=None, expires_at=end).update(warned_at=Now()):
            turn = Turn.objects.filter(run=row.run_id, status=RunStatus.RUNNING).first()
            events.append(row.run_id, EventKind.STATUS, {"notice": text}, turn_id=turn.pk if turn else None)


def _end(row: Sandbox, end: datetime) -> None:
    """Stop the turn as a budget does: its final patch is made and fetched, and the sandbox sleeps."""
    text = (
        f"The plan of E2B ends this sandbox at {capacity.clock(end)}, so the turn was ended before it was done. "
        "Its work is kept, and a follow-up goes on from it."
    )
    with transaction.atomic():
        at_work = Run.objects.filter(pk=row.run_id, generation=row.generation, status=RunStatus.RUNNING, stop_requested_at=None)
        if at_work.exclude(stage=Stage.COLLECT).update(stop_requested_at=Now()):
            Turn.objects.filter(run=row.run_id, status=RunStatus.RUNNING).update(end_reason=EndReason.LIFETIME, end_text=text)
            nudge.enqueue(settings.QUEUE_RUNS, "deliver_stop", row.run_id, row.generation)
            nudge.tell([nudge.run_group(row.run_id)])
