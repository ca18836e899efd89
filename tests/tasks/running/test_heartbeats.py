"""Who is at work writes down that it is, and counters are counted in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from pytest_django import Settings

from tasks.models import Beats, Heartbeat, Run, RunStatus
from tasks.running import counting, heartbeats, lifecycle
from tasks.running.reconcile import reconcile

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("services")]


@pytest.fixture(autouse=True)
def _from_zero(services: None) -> Iterator[None]:
    counting._redis().delete(counting.HASH)
    yield
    counting._redis().delete(counting.HASH)


def test_a_service_has_one_row_a_host_which_tells_since_when_it_runs(settings: Settings) -> None:
    heartbeats.beat(Beats.FOLLOW)
    first = Heartbeat.objects.get()
    heartbeats.beat(Beats.FOLLOW)
    again = Heartbeat.objects.get()
    assert again.at > first.at
    assert again.started_at == first.started_at
    Heartbeat.objects.update(pid=again.pid + 1)  # as one that was started anew
    heartbeats.beat(Beats.FOLLOW)
    assert Heartbeat.objects.get().started_at > first.started_at
    settings.HOST_NAME = "elsewhere"
    heartbeats.beat(Beats.FOLLOW)
    assert Heartbeat.objects.count() == 2


def test_a_pulse_beats_now_and_then_only(django_assert_num_queries: Callable[[int], Any]) -> None:
    pulse = heartbeats.Pulse(Beats.GATEWAY)
    with django_assert_num_queries(1):
        for _ in range(5):
            pulse()


def test_reconcile_is_heard_of_and_forgets_hosts_that_are_gone() -> None:
    Heartbeat.objects.create(kind=Beats.FOLLOW, host="gone", pid=1, at=Now() - timedelta(seconds=heartbeats.FORGOTTEN_S + 1))
    Heartbeat.objects.create(kind=Beats.FOLLOW, host="late", pid=1, at=Now() - timedelta(seconds=heartbeats.LATE_S + 1))
    reconcile()
    assert list(Heartbeat.objects.values_list("kind", "host")) == [("follow", "late"), ("reconcile", "")]


def test_what_reconcile_mends_is_counted_by_kind(make_run: Callable[..., Run]) -> None:
    make_run(status=RunStatus.STARTING, lease_owner="job:dead", lease_until=Now() - timedelta(seconds=1))
    make_run(status=RunStatus.RUNNING, stage="collect")
    reconcile()
    counts = counting.read()
    assert counts["asynccode_reconcile_mends", "start taken over"] == 1
    assert counts["asynccode_reconcile_mends", "turn finished"] == 1


def test_a_turn_that_ends_is_counted(make_run: Callable[..., Run], django_capture_on_commit_callbacks: Callable[..., Any]) -> None:
    run = make_run(status=RunStatus.RUNNING)
    with django_capture_on_commit_callbacks(execute=True):
        lifecycle.finish(run.pk, source=[RunStatus.RUNNING], to=RunStatus.SUCCEEDED)
    assert counting.read() == {("asynccode_turns_ended", "succeeded", "shell"): 1}


def test_a_duration_is_counted_in_its_bucket() -> None:
    for seconds in (0.3, 0.5, 1000.0):
        counting.START_SECONDS.observe(seconds, "local", "made")
    assert counting.read() == {
        ("asynccode_sandbox_start_seconds", "local", "made", "0.5"): 2,
        ("asynccode_sandbox_start_seconds", "local", "made", "+Inf"): 1,
        ("asynccode_sandbox_start_seconds_sum", "local", "made"): pytest.approx(1000.8),
    }


def test_without_redis_nothing_but_the_count_is_lost(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    counting._redis.cache_clear()
    settings.REDIS_URL = "unix:///tmp/no-such-socket"
    try:
        counting.EVENTS.add(3)
    finally:
        counting._redis.cache_clear()
    assert "asynccode_events" in caplog.text
