"""Taking back a follow-up that has not begun: what becomes of the run, and who wins against its start."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks import services
from tasks.errors import Conflict
from tasks.models import Event, Run, RunStatus, Turn, User
from tasks.running import lifecycle

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
S = RunStatus


def test_a_run_that_was_over_is_again_what_it_was(make_run: MakeRun, alice: User) -> None:
    run = make_run(status=S.RUNNING, stage="agent")
    lifecycle.finish(run.pk, source=[S.RUNNING], to=S.FAILED, error="No.", error_class="crashed", stage="agent")
    before = Run.objects.values().get(pk=run.pk)
    turn = services.send_follow_up(run=run, by=alice, prompt="more")
    services.withdraw_follow_up(turn=turn, by=alice)
    after = Run.objects.values().get(pk=run.pk)
    changed = {name for name in before if before[name] != after[name]} - {"next_seq", "queued_at", "finished_at"}
    assert not changed
    assert after["finished_at"] == Event.objects.get(run=run, seq=1).at
    turn.refresh_from_db()
    assert turn.status == S.CANCELED


def test_one_can_be_withdrawn_again_and_again(make_run: MakeRun, alice: User) -> None:
    run = make_run(status=S.RUNNING)
    lifecycle.finish(run.pk, source=[S.RUNNING], to=S.SUCCEEDED)
    for number in (2, 3):
        turn = services.send_follow_up(run=run, by=alice, prompt="more")
        assert turn.number == number
        services.withdraw_follow_up(turn=turn, by=alice)
        run.refresh_from_db()
        assert run.status == S.SUCCEEDED


def test_while_others_wait_the_run_stays_in_the_queue(make_run: MakeRun, alice: User) -> None:
    run = make_run(status=S.SUCCEEDED)
    first = services.send_follow_up(run=run, by=alice, prompt="one")
    services.send_follow_up(run=run, by=alice, prompt="two")
    services.withdraw_follow_up(turn=first, by=alice)
    run.refresh_from_db()
    assert run.status == S.QUEUED


def test_a_run_at_work_is_left_alone(make_run: MakeRun, alice: User) -> None:
    run = make_run(status=S.RUNNING)
    turn = services.send_follow_up(run=run, by=alice, prompt="more")
    services.withdraw_follow_up(turn=turn, by=alice)
    run.refresh_from_db()
    assert run.status == S.RUNNING
    lifecycle.finish(run.pk, source=[S.RUNNING], to=S.SUCCEEDED)
    run.refresh_from_db()
    assert run.status == S.SUCCEEDED


def test_what_has_begun_stays(make_run: MakeRun, alice: User) -> None:
    run = make_run(status=S.SUCCEEDED)
    turn = services.send_follow_up(run=run, by=alice, prompt="more")
    lifecycle.move(run.pk, source=[S.QUEUED], to=S.STARTING)
    with pytest.raises(Conflict, match="has begun"):
        services.withdraw_follow_up(turn=turn, by=alice)
    lifecycle.requeue(run.pk, source=[S.STARTING])  # its sandbox was lost: it waits again, but it has begun
    with pytest.raises(Conflict, match="has begun"):
        services.withdraw_follow_up(turn=turn, by=alice)
    turn.refresh_from_db()
    assert turn.status == S.QUEUED


def test_the_first_turn_is_no_follow_up(make_run: MakeRun, alice: User) -> None:
    run = make_run()
    with pytest.raises(Conflict):
        services.withdraw_follow_up(turn=Turn.objects.get(run=run), by=alice)
