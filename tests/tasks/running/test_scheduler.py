"""Rows are the queue: caps, fairness, places."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from pytest_django import Settings

from tasks.models import Run, RunStatus, Task, Turn, User
from tasks.running import scheduler

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]


def starting() -> set[int]:
    return set(Run.objects.filter(status=RunStatus.STARTING).values_list("pk", flat=True))


def test_a_queued_run_is_started_with_its_turn(make_run: MakeRun) -> None:
    run = make_run()
    assert scheduler.dispatch() == 1
    run.refresh_from_db()
    assert (run.status, run.stage) == (RunStatus.STARTING, "provision")
    assert run.lease_until is not None
    assert Turn.objects.get(run=run).status == RunStatus.STARTING
    assert scheduler.dispatch() == 0


def test_no_more_runs_are_active_than_the_site_may_have(make_run: MakeRun, settings: Settings) -> None:
    settings.MAX_ACTIVE_RUNS = 3
    make_run(status=RunStatus.RUNNING)
    runs = [make_run() for _ in range(4)]
    scheduler.dispatch()
    assert starting() == {runs[0].pk, runs[1].pk}


def test_no_user_has_more_active_runs_than_one_person_may(make_run: MakeRun, settings: Settings, bob: User) -> None:
    settings.MAX_ACTIVE_RUNS_PER_USER = 2
    hers = [make_run() for _ in range(3)]
    his = make_run(owner=bob)
    scheduler.dispatch()
    assert starting() == {hers[0].pk, hers[1].pk, his.pk}


def test_places_are_shared_fairly_between_users(make_run: MakeRun, settings: Settings, bob: User, charlie: User) -> None:
    """Who asked for ten runs first does not make the others wait for all ten."""
    settings.MAX_ACTIVE_RUNS = 4
    hers = [make_run() for _ in range(10)]
    his = make_run(owner=bob)
    theirs = make_run(owner=charlie)
    scheduler.dispatch()
    assert starting() == {hers[0].pk, his.pk, theirs.pk, hers[1].pk}


def test_active_runs_count_against_their_owner(make_run: MakeRun, settings: Settings, bob: User) -> None:
    settings.MAX_ACTIVE_RUNS = 3
    make_run(status=RunStatus.RUNNING)
    make_run(status=RunStatus.RUNNING)
    make_run()
    his = make_run(owner=bob)
    scheduler.dispatch()
    assert starting() == {his.pk}


def test_a_run_without_a_base_commit_waits_for_the_mirror(make_run: MakeRun, make_task: Callable[..., Task]) -> None:
    run = make_run(make_task(base_commit=""))
    assert scheduler.dispatch() == 0
    assert scheduler.places([run.pk])[run.pk].reason == "Waits for the repository's first mirror."


def test_places_say_the_position_and_what_is_waited_for(make_run: MakeRun, settings: Settings, bob: User) -> None:
    settings.MAX_ACTIVE_RUNS_PER_USER, settings.MAX_ACTIVE_RUNS = 1, 1
    first, second, his = make_run(), make_run(), make_run(owner=bob)
    places = scheduler.places([second.pk, his.pk, first.pk])
    assert [places[run.pk].position for run in (first, his, second)] == [1, 2, 3]
    assert "as many as one person may" in places[second.pk].reason
    assert "free place" in places[his.pk].reason


def test_a_host_that_stops_its_sandboxes_starts_nothing(make_run: MakeRun, settings: Settings) -> None:
    make_run()
    with connection.cursor() as cursor:  # an exclusive lock of this very session would let itself through
        cursor.execute("SELECT 1")
    other = connection.copy()
    try:
        lock = [scheduler._HOLDING, scheduler._host_number(settings.HOST_NAME)]
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s, %s)", lock)
            assert scheduler.dispatch() == 0
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", lock)
    finally:
        other.close()
    assert scheduler.dispatch() == 1
