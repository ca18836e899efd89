"""A run's states: legal moves, compare-and-set, the event of each move, the turn that goes along."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction
from django.db.models import Q

from tasks.models import FINAL, Event, Run, RunStatus, Turn
from tasks.running import lifecycle

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
S = RunStatus


def test_a_move_needs_the_status_it_starts_from(make_run: MakeRun) -> None:
    run = make_run(status=S.RUNNING)
    assert not lifecycle.move(run.pk, source=[S.QUEUED], to=S.STARTING)
    assert not Event.objects.exists()


def test_a_move_needs_its_fence(make_run: MakeRun) -> None:
    run = make_run(status=S.STARTING, generation=2)
    assert not lifecycle.move(run.pk, source=[S.STARTING], to=S.RUNNING, fence=Q(generation=1))
    assert lifecycle.move(run.pk, source=[S.STARTING], to=S.RUNNING, fence=Q(generation=2))


def test_an_illegal_move_is_a_bug(make_run: MakeRun) -> None:
    run = make_run(status=S.SUCCEEDED)
    with pytest.raises(AssertionError, match="no legal move"):
        lifecycle.move(run.pk, source=[S.SUCCEEDED], to=S.RUNNING)


def test_every_status_has_its_moves() -> None:
    assert set(lifecycle.MOVES) == set(S)
    assert all(lifecycle.MOVES[status] == {S.QUEUED} for status in FINAL)


def test_a_move_writes_one_event_and_takes_the_turn_along(make_run: MakeRun) -> None:
    run = make_run(status=S.RUNNING)
    assert lifecycle.finish(run.pk, source=[S.RUNNING], to=S.FAILED, error="No.", error_class="crashed")
    event = Event.objects.get(run_id=run.pk)
    assert event.data == {"status": "failed", "error": "No.", "error_class": "crashed"}
    turn = Turn.objects.get(run=run)
    assert (turn.status, turn.finished_at is not None) == (S.FAILED, True)


def test_a_finished_run_goes_on_with_the_turn_that_waits(make_run: MakeRun) -> None:
    run = make_run(status=S.RUNNING)
    waiting = Turn.objects.create(run=run, number=2, prompt="more")
    lifecycle.finish(run.pk, source=[S.RUNNING], to=S.SUCCEEDED)
    run.refresh_from_db()
    waiting.refresh_from_db()
    assert (run.status, waiting.status) == (S.QUEUED, S.QUEUED)
    assert list(Event.objects.filter(run=run).order_by("seq").values_list("seq", "data__status")) == [(1, "succeeded"), (2, "queued")]


def test_at_most_one_turn_of_a_run_is_active(make_run: MakeRun) -> None:
    run = make_run(status=S.RUNNING)
    with pytest.raises(IntegrityError), transaction.atomic():
        Turn.objects.create(run=run, number=2, prompt="more", status=S.STARTING)
