"""E2B's limits are counts of rows and one bucket: sandboxes awake at one time, and new ones in a second."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from sandboxes.errors import SandboxLimited
from tasks.models import CreationBucket, Run, RunStatus, Sandbox, SandboxStatus, User
from tasks.running import capacity, scheduler

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]


@pytest.fixture(autouse=True)
def _plenty(settings: Settings) -> None:
    settings.MAX_ACTIVE_RUNS = settings.MAX_ACTIVE_RUNS_PER_USER = 50
    settings.E2B_MAX_SANDBOXES, settings.E2B_CREATIONS_PER_S = 20, 1


def starting() -> set[int]:
    return set(Run.objects.filter(status=RunStatus.STARTING).values_list("pk", flat=True))


def refill(seconds: float = 60) -> None:
    """As if that much time had passed."""
    for bucket in CreationBucket.objects.all():
        CreationBucket.objects.filter(pk=bucket.pk).update(filled_at=bucket.filled_at - timedelta(seconds=seconds))


def follow_up(make_run: MakeRun, state: SandboxStatus = SandboxStatus.PAUSED, **fields: Any) -> Run:
    """A queued run of E2B that has a sandbox already."""
    run = make_run(backend="e2b", **fields)
    Sandbox.objects.create(run=run, generation=1, backend="e2b", ref=f"e-{run.pk}", status=state)
    return run


def reason(run: Run) -> str:
    return scheduler.places([run.pk])[run.pk].reason


# --- creations ---


def test_one_sandbox_a_second_is_made(make_run: MakeRun) -> None:
    first, second, third = (make_run(backend="e2b") for _ in range(3))
    assert scheduler.dispatch() == 1
    assert scheduler.dispatch() == 0
    assert starting() == {first.pk}
    refill(1)
    assert scheduler.dispatch() == 1
    assert starting() == {first.pk, second.pk}
    assert reason(third) == "E2B makes one sandbox a second here; yours is next."


def test_what_was_not_made_in_a_while_is_not_made_all_at_once(make_run: MakeRun, settings: Settings) -> None:
    settings.E2B_CREATIONS_PER_S = 5
    for _ in range(3):
        make_run(backend="e2b")
    assert scheduler.dispatch() == 1
    refill(3600)
    assert scheduler.dispatch() == 1
    refill(0.21)
    assert scheduler.dispatch() == 1


def test_the_queue_knows_when_it_is_due_again(make_run: MakeRun) -> None:
    make_run(backend="e2b")
    scheduler.dispatch()
    assert CreationBucket.objects.get().wake_at is None
    make_run(backend="e2b")
    scheduler.dispatch()
    bucket = CreationBucket.objects.get()
    assert bucket.wake_at is not None
    assert 0.5 < (bucket.wake_at - bucket.filled_at).total_seconds() <= 1
    refill(1)
    scheduler.dispatch()
    assert CreationBucket.objects.get().wake_at is None


def test_runs_that_wait_for_e2b_hold_up_no_local_ones(make_run: MakeRun, settings: Settings) -> None:
    settings.MAX_ACTIVE_RUNS_PER_USER = settings.MAX_ACTIVE_RUNS = 4
    remote = [make_run(backend="e2b") for _ in range(6)]
    local = [make_run() for _ in range(2)]
    assert scheduler.dispatch() == 3
    assert starting() == {remote[0].pk, *(run.pk for run in local)}


def test_runs_that_wait_for_a_local_place_hold_up_none_of_e2b(make_run: MakeRun, bob: User, settings: Settings) -> None:
    settings.MAX_ACTIVE_RUNS_PER_USER = 2
    hers = [make_run() for _ in range(3)]
    his = make_run(owner=bob, backend="e2b")
    scheduler.dispatch()
    assert starting() == {hers[0].pk, hers[1].pk, his.pk}


def test_creations_are_shared_fairly(make_run: MakeRun, bob: User) -> None:
    hers = [make_run(backend="e2b") for _ in range(3)]
    his = make_run(owner=bob, backend="e2b")
    scheduler.dispatch()
    refill()
    scheduler.dispatch()
    assert starting() == {hers[0].pk, his.pk}


def test_local_runs_touch_no_bucket(make_run: MakeRun) -> None:
    make_run()
    scheduler.dispatch()
    assert not CreationBucket.objects.exists()


# --- awake at one time ---


def test_no_more_are_awake_than_the_plan_allows(make_run: MakeRun, settings: Settings) -> None:
    settings.E2B_MAX_SANDBOXES = 3
    follow_up(make_run, SandboxStatus.LIVE, status=RunStatus.RUNNING)
    make_run(backend="e2b", status=RunStatus.STARTING)  # it will be, as soon as its start has come that far
    ended = follow_up(make_run, SandboxStatus.LIVE, status=RunStatus.SUCCEEDED)  # it is not asleep yet
    waiting = make_run(backend="e2b")
    assert scheduler.dispatch() == 0
    assert reason(waiting) == "E2B may have 3 sandboxes awake at once."
    ended.sandboxes.update(status=SandboxStatus.PAUSED)
    assert scheduler.dispatch() == 1


def test_what_sleeps_is_lost_or_never_began_is_not_awake(make_run: MakeRun) -> None:
    follow_up(make_run, SandboxStatus.PAUSED, status=RunStatus.SUCCEEDED)
    follow_up(make_run, SandboxStatus.LOST, status=RunStatus.SUCCEEDED)
    canceled = make_run(backend="e2b", status=RunStatus.CANCELED)
    Sandbox.objects.create(run=canceled, generation=1, backend="e2b")
    make_run(status=RunStatus.STARTING, sandbox=True)  # local
    assert capacity.awake() == 0


def test_a_start_counts_once(make_run: MakeRun) -> None:
    run = make_run(backend="e2b", status=RunStatus.STARTING)
    assert capacity.awake() == 1
    Sandbox.objects.create(run=run, generation=1, backend="e2b")
    assert capacity.awake() == 1
    Sandbox.objects.update(status=SandboxStatus.LIVE, ref="e-1")
    assert capacity.awake() == 1


def test_a_sandbox_that_is_woken_counts_as_awake_but_not_as_made(make_run: MakeRun, settings: Settings) -> None:
    settings.E2B_MAX_SANDBOXES = 2
    make_run(backend="e2b")
    scheduler.dispatch()  # takes the second's creation
    woken, waiting = follow_up(make_run), follow_up(make_run)
    assert scheduler.dispatch() == 1
    assert woken.pk in starting()
    assert reason(waiting) == "E2B may have 2 sandboxes awake at once."


def test_a_follow_up_in_a_sandbox_that_is_still_awake_needs_nothing(make_run: MakeRun, settings: Settings) -> None:
    settings.E2B_MAX_SANDBOXES = 1
    follow_up(make_run, SandboxStatus.LIVE)
    assert scheduler.dispatch() == 1


@pytest.mark.django_db(transaction=True)
def test_both_hold_over_all_workers(make_run: MakeRun, settings: Settings) -> None:
    settings.E2B_MAX_SANDBOXES = 3
    for _ in range(2):
        follow_up(make_run, SandboxStatus.LIVE, status=RunStatus.RUNNING)
    for _ in range(6):
        make_run(backend="e2b")
    workers = 4
    begin, started = threading.Barrier(workers), []

    def work() -> None:
        begin.wait()
        started.append(scheduler.dispatch())
        connection.close()

    for _ in range(2):
        threads = [threading.Thread(target=work) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refill()
    assert sum(started) == 1


# --- refusals ---


def test_a_refusal_closes_the_bucket_for_all_and_says_why(make_run: MakeRun) -> None:
    until = capacity.close("e2b", SandboxLimited("E2B has 20 of ours already.", retry_after_s=40))
    assert 35 < (until - timezone.now()).total_seconds() <= 40
    run, local = make_run(backend="e2b"), make_run()
    assert scheduler.dispatch() == 1
    assert starting() == {local.pk}
    assert reason(run) == f"E2B has 20 of ours already. New sandboxes wait until {until:%H:%M:%S} UTC."
    assert CreationBucket.objects.get().wake_at == until


def closed_for(limited: SandboxLimited | None = None) -> float:
    until = capacity.close("e2b", limited or SandboxLimited("Too many."))
    seconds = (until - timezone.now()).total_seconds()
    CreationBucket.objects.update(closed_until=timezone.now())  # it passes
    return round(seconds)


def test_refusals_without_a_success_between_close_it_for_longer_and_longer() -> None:
    assert [closed_for() for _ in range(6)] == [15, 30, 60, 120, 240, 300]
    capacity.made("e2b")
    assert closed_for() == 15
    assert closed_for(SandboxLimited("Too many.", retry_after_s=1e9)) == 3600


def test_several_refused_at_once_count_as_one_refusal() -> None:
    first = capacity.close("e2b", SandboxLimited("Too many."))
    assert capacity.close("e2b", SandboxLimited("Too many.")) - first < timedelta(seconds=1)
    assert CreationBucket.objects.get().refusals == 1


def test_it_is_opened_by_hand(make_run: MakeRun) -> None:
    assert not capacity.open_now("e2b")
    capacity.close("e2b", SandboxLimited("Too many."))
    make_run(backend="e2b")
    assert capacity.open_now("e2b")
    refill()
    assert scheduler.dispatch() == 1


# --- losses ---


def lose_some(make_run: MakeRun, *minutes: float) -> None:
    for ago in minutes:
        run = follow_up(make_run, SandboxStatus.LOST, status=RunStatus.INTERRUPTED)
        run.sandboxes.update(lost_at=timezone.now() - timedelta(minutes=ago))


def test_three_losses_within_ten_minutes_stop_new_sandboxes(make_run: MakeRun) -> None:
    lose_some(make_run, 1, 2, 9, 30)
    run, woken = make_run(backend="e2b"), follow_up(make_run)
    assert scheduler.dispatch() == 1
    assert starting() == {woken.pk}
    third = Sandbox.objects.order_by("lost_at")[1].lost_at
    assert third is not None
    until = third + timedelta(minutes=10)
    assert reason(run) == f"Three E2B sandboxes were lost within ten minutes. New ones wait until {until:%H:%M} UTC."
    assert CreationBucket.objects.get().wake_at == until


def test_two_losses_or_old_ones_stop_nothing(make_run: MakeRun) -> None:
    lose_some(make_run, 1, 2, 10.1)
    make_run(backend="e2b")
    assert scheduler.dispatch() == 1


def test_lost_local_sandboxes_do_not_count(make_run: MakeRun) -> None:
    lose_some(make_run, 1, 2, 3)
    Sandbox.objects.update(backend="local")
    assert capacity.broken_until() is None
