"""E2B's plan ends a sandbox that is awake for long: its turn is warned once, and ended in order a minute before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from sandboxes.base import CommandName
from tasks.models import EndReason, Event, Run, RunStatus, Sandbox, SandboxStatus
from tasks.running import jobs, lifetimes, nudge
from tests.tasks.running.fake import FakeBackend, FakeBox, have_mirror

pytestmark = pytest.mark.django_db
InCloud = Callable[..., tuple[Run, Sandbox, FakeBox]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs that were asked for."""
    found: list[str] = []
    monkeypatch.setattr(nudge, "enqueue_now", lambda _queue, job, *_args: found.append(job))
    return found


def ends_in(seconds: float) -> dict[str, object]:
    return {"expires_at": timezone.now() + timedelta(seconds=seconds), "parse_state": {"turn": 1}}


def notices(run: Run) -> list[str]:
    return [event.data["notice"] for event in Event.objects.filter(run=run, kind="status") if "notice" in event.data]


@pytest.mark.parametrize(("life", "before"), [(300, 120), (3600, 360), (86400, 600)])
def test_a_turn_is_warned_once_a_tenth_of_the_time_before(in_cloud: InCloud, settings: Settings, life: int, before: int) -> None:
    settings.E2B_MAX_LIFE_S = life
    run, row, _ = in_cloud(status=RunStatus.RUNNING, row=ends_in(before + 5))
    lifetimes.watch()
    assert not notices(run)
    Sandbox.objects.update(**ends_in(before - 5))
    lifetimes.watch()
    lifetimes.watch()
    row.refresh_from_db()
    assert row.expires_at is not None
    assert notices(run) == [
        f"This sandbox ends at {row.expires_at:%H:%M} UTC, as the plan of E2B has it. "
        "The turn is ended a minute before, and its work is kept."
    ]
    run.refresh_from_db()
    assert run.stop_requested_at is None


def test_a_minute_before_the_turn_is_ended_in_order(
    in_cloud: InCloud, asked: list[str], django_capture_on_commit_callbacks: Callable[..., object]
) -> None:
    run, _, box = in_cloud(status=RunStatus.RUNNING, row=ends_in(55))
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[attr-defined]
        lifetimes.watch()
    assert asked == ["deliver_stop"]
    jobs.deliver_stop(run.pk, 1)
    assert box.told == [CommandName.STOP]
    run.refresh_from_db()
    turn = run.turns.get()
    assert (run.status, turn.end_reason) == (RunStatus.RUNNING, EndReason.LIFETIME)

    outcome = {"step": "agent", "reason": "stop", "code": None, "signal": "TERM", "has_patch": False, "error": None}
    run.turns.update(outcome=outcome, generation=1, started_at=timezone.now())
    jobs.finish_turn(run.pk, 1)
    run.refresh_from_db()
    assert run.status == RunStatus.INTERRUPTED
    assert run.error == turn.end_text
    assert "a follow-up goes on from it" in run.error
    assert run.sandboxes.get().status == SandboxStatus.PAUSED


def test_a_turn_that_is_being_stopped_or_collected_is_not_ended_again(in_cloud: InCloud) -> None:
    in_cloud(status=RunStatus.RUNNING, row=ends_in(30), stop_requested_at=timezone.now())
    in_cloud(status=RunStatus.RUNNING, row=ends_in(30), stage="collect")
    lifetimes.watch()
    assert not Run.objects.filter(turns__end_reason=EndReason.LIFETIME).exists()


def test_past_its_end_the_sandbox_counts_as_lost(in_cloud: InCloud, asked: list[str]) -> None:
    in_cloud(status=RunStatus.RUNNING, row=ends_in(-61))
    lifetimes.watch()
    assert asked == ["sandbox_lost"]


def test_a_pause_begins_its_time_anew(in_cloud: InCloud, settings: Settings) -> None:
    run, row, _ = in_cloud(status=RunStatus.SUCCEEDED, row=ends_in(100) | {"warned_at": timezone.now()})
    jobs.put_to_sleep(run.pk, 1)
    row.refresh_from_db()
    assert (row.status, row.expires_at, row.warned_at) == (SandboxStatus.PAUSED, None, None)
    Run.objects.update(status=RunStatus.STARTING)
    run.turns.update(status=RunStatus.STARTING)
    have_mirror(run)
    jobs.start_turn(run.pk, 1)
    row.refresh_from_db()
    assert row.status == SandboxStatus.LIVE
    assert row.expires_at is not None
    assert row.expires_at > timezone.now() + timedelta(seconds=settings.E2B_MAX_LIFE_S - 10)


@pytest.mark.parametrize(("left", "is_anew"), [(2000, False), (300, True)])
def test_a_turn_that_follows_at_once_does_not_begin_shortly_before_the_end(
    in_cloud: InCloud, cloud: FakeBackend, monkeypatch: pytest.MonkeyPatch, left: int, is_anew: bool
) -> None:
    run, row, box = in_cloud(status=RunStatus.STARTING, row=ends_in(left))
    have_mirror(run)
    paused: list[bool] = []
    pause = box.pause

    async def noted() -> None:
        paused.append(True)
        await pause()

    monkeypatch.setattr(box, "pause", noted)
    before = row.expires_at
    jobs.start_turn(run.pk, 1)
    row.refresh_from_db()
    assert row.status == SandboxStatus.LIVE
    assert box.is_awake
    assert (bool(paused), row.expires_at != before) == (is_anew, is_anew)


def test_local_sandboxes_have_no_such_end(in_cloud: InCloud) -> None:
    assert lifetimes.expiry("local", timezone.now()) is None
