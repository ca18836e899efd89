"""A run's states and the legal moves between them; every move is a compare-and-set with its event, in one transaction."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Now

from tasks.models import ACTIVE, FINAL, Event, EventKind, Run, RunStatus, Turn
from tasks.running import announcing, counting, events, nudge

S = RunStatus
MOVES: dict[RunStatus, frozenset[RunStatus]] = {
    # To CANCELED, ERRORED or whatever else it was before, when the follow-up that it was in the queue for is withdrawn.
    S.QUEUED: frozenset({S.STARTING, S.WAITING, *FINAL}),
    S.STARTING: frozenset({S.RUNNING, S.QUEUED, S.CANCELED, S.ERRORED}),
    # RUNNING goes back to QUEUED only when a lost sandbox is replaced by a new generation.
    S.RUNNING: frozenset({S.QUEUED, S.WAITING, S.SUCCEEDED, S.FAILED, S.ERRORED, S.CANCELED, S.INTERRUPTED}),
    S.WAITING: frozenset({S.QUEUED, S.CANCELED}),
    **{status: frozenset({S.QUEUED}) for status in FINAL},
}

OVER = (*FINAL, S.WAITING)  # of a turn


def move(run_id: int, *, source: Collection[RunStatus], to: RunStatus, fence: Q | None = None, **changes: Any) -> bool:
    """Move a run, and the turn it is at, from one of `source` to `to`; False if another process won or the fence does not hold.

    `changes` are further fields of the run. The turn: the active one; the first queued one when the run leaves the queue.
    """
    for status in source:
        assert to in MOVES[RunStatus(status)], f"{status} → {to} is no legal move"
    with transaction.atomic():
        moved = Run.objects.filter(Q(pk=run_id, status__in=source) & (fence or Q())).update(status=to, **changes)
        if not moved:
            return False
        turn = Turn.objects.filter(run=run_id, status__in=ACTIVE).first()
        if turn is None and to != S.QUEUED:
            turn = Turn.objects.filter(run=run_id, status__in=[S.WAITING, S.QUEUED]).order_by("number").first()
        if turn is not None:
            turn.status = S.SUCCEEDED if to == S.WAITING else to  # its plan is there; it is the run that waits
            if to == S.STARTING:
                turn.started_at = Now()
            if to in OVER:
                turn.finished_at, turn.error_class = Now(), changes.get("error_class", "")
            turn.save(update_fields=["status", "started_at", "finished_at", "error_class"])
        data = {"status": to} | {key: changes[key] for key in ("stage", "error", "error_class") if changes.get(key)}
        events.append(run_id, EventKind.STATUS, data, turn_id=turn.pk if turn else None)
        for owner, agent in Run.objects.filter(pk=run_id).values_list("task__owner", "agent"):
            nudge.tell([nudge.user_group(owner)])
            if to in OVER:
                transaction.on_commit(partial(counting.TURNS.add, 1, to, agent))
        return True


def finish(
    run_id: int,
    *,
    source: Collection[RunStatus],
    to: RunStatus,
    fence: Q | None = None,
    error: str = "",
    error_class: str = "",
    not_before: datetime | CombinedExpression | None = None,
    **more: Any,
) -> bool:
    """End a run's turn for good or ill; the run goes back into the queue when another turn waits, unless it was canceled:
    then those who wait are dropped. It stays there until `not_before`."""
    with transaction.atomic():
        if not move(
            run_id,
            source=source,
            to=to,
            fence=fence,
            error=error,
            error_class=error_class,
            finished_at=Now(),
            lease_owner="",
            lease_until=None,
            **more,
        ):
            return False
        if to in OVER and to != S.CANCELED and Turn.objects.filter(run=run_id, status=S.QUEUED).exists():
            requeue(run_id, source=[to], not_before=not_before)
        else:
            announcing.run_is_over(run_id, to)
        nudge.dispatch()
        return True


def requeue(run_id: int, *, source: Collection[RunStatus], fence: Q | None = None, **changes: Any) -> bool:
    """Put a run (back) into the queue; a turn that was active waits again."""
    return move(
        run_id,
        source=source,
        to=S.QUEUED,
        fence=fence,
        **{
            "queued_at": Now(),
            "lease_owner": "",
            "lease_until": None,
            "stop_requested_at": None,
            "stage": "",
            "error": "",
            "error_class": "",
            "finished_at": None,
            "not_before": None,
        }
        | changes,
    )


def leave_queue(run_id: int) -> bool:
    """Take a run that no turn waits in any more back to what it was before it was queued: the last event of such a status tells."""
    past = Event.objects.filter(run=run_id, kind="status", data__status__in=[S.WAITING, *FINAL]).order_by("-seq").first()
    if past is None:
        return move(run_id, source=[S.QUEUED], to=S.CANCELED, finished_at=Now())
    said = {key: past.data.get(key, "") for key in ("stage", "error", "error_class")}
    finished_at = None if past.data["status"] == S.WAITING else past.at
    return move(run_id, source=[S.QUEUED], to=RunStatus(past.data["status"]), finished_at=finished_at, **said)
