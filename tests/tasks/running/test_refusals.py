"""E2B has no room just now, or does not take the account: quota waits, and only a refused account may fall back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from sandboxes.errors import AccountRefused, HeadersRefused, SandboxError, SandboxLimited
from tasks.management.report import run_json
from tasks.models import CreationBucket, Event, Run, RunStatus, Sandbox, SandboxStatus
from tasks.running import capacity, jobs, scheduler
from tests.tasks.running.fake import FakeBackend, FakeBox, have_mirror

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
InCloud = Callable[..., tuple[Run, Sandbox, FakeBox]]
REFUSED = AccountRefused("E2B refused the account (401: the key is revoked). Look at E2B_API_KEY.")


def start(run: Run) -> Run:
    have_mirror(run)
    jobs.start_turn(run.pk, run.generation)
    run.refresh_from_db()
    return run


def notices(run: Run) -> list[str]:
    return [event.data["notice"] for event in Event.objects.filter(run=run, kind="status") if "notice" in event.data]


def test_a_run_starts_in_a_sandbox_of_its_own(make_run: MakeRun, cloud: FakeBackend, settings: Settings) -> None:
    run = start(make_run(backend="e2b", status=RunStatus.STARTING))
    box, row = next(iter(cloud.boxes.values())), run.sandboxes.get()
    assert run.status == RunStatus.RUNNING
    assert (row.backend, row.ref, row.host, row.status) == ("e2b", box.ref, "", SandboxStatus.LIVE)
    assert len(box.turns) == 1
    assert row.expires_at is not None
    left = (row.expires_at - timezone.now()).total_seconds()
    assert settings.E2B_MAX_LIFE_S - 10 < left <= settings.E2B_MAX_LIFE_S


# --- no room ---


def test_no_room_means_waiting_where_it_was_and_closes_the_bucket_for_all(
    make_run: MakeRun, cloud: FakeBackend, settings: Settings
) -> None:
    settings.SANDBOX_FALLBACK = "local"
    queued_at = timezone.now() - timedelta(minutes=5)
    run, other = make_run(backend="e2b", queued_at=queued_at), make_run(backend="e2b")
    scheduler.dispatch()
    cloud.errors["create"] = SandboxLimited("E2B takes no more just now (20 at most).", retry_after_s=30)
    run.refresh_from_db()
    assert start(run).status == RunStatus.QUEUED
    assert (run.backend, run.generation, run.start_tries, run.queued_at, run.error) == ("e2b", 1, 0, queued_at, "")
    CreationBucket.objects.update(filled_at=timezone.now() - timedelta(minutes=1))
    assert scheduler.dispatch() == 0
    for place in scheduler.places([run.pk, other.pk]).values():
        assert place.reason.startswith("E2B takes no more just now (20 at most). New sandboxes wait until ")


def test_with_room_again_it_starts_and_the_next_refusal_is_the_first(make_run: MakeRun, cloud: FakeBackend) -> None:
    run = make_run(backend="e2b", status=RunStatus.STARTING)
    cloud.errors["create"] = SandboxLimited("Full.")
    start(run)
    assert CreationBucket.objects.get().refusals == 1
    cloud.errors.clear()
    CreationBucket.objects.update(closed_until=timezone.now(), filled_at=timezone.now() - timedelta(minutes=1))
    assert scheduler.dispatch() == 1
    assert start(run).status == RunStatus.RUNNING
    assert CreationBucket.objects.get().refusals == 0
    assert run.sandboxes.get().status == SandboxStatus.LIVE


def test_a_sandbox_that_may_not_wake_up_sleeps_on_and_waits(in_cloud: InCloud, cloud: FakeBackend) -> None:
    run, row, box = in_cloud(status=RunStatus.STARTING, row={"status": SandboxStatus.PAUSED})
    cloud.errors["resume"] = SandboxLimited("Full.", retry_after_s=30)
    assert start(run).status == RunStatus.QUEUED
    row.refresh_from_db()
    assert (row.status, row.ref, run.generation) == (SandboxStatus.PAUSED, box.ref, 1)
    assert scheduler.dispatch() == 0
    assert scheduler.places([run.pk])[run.pk].reason in ("Full. Tries again in 30 s.", "Full. Tries again in 29 s.")


# --- the account ---


def test_a_refused_account_ends_the_run_and_says_what_to_do(make_run: MakeRun, cloud: FakeBackend) -> None:
    cloud.errors["create"] = REFUSED
    run = start(make_run(backend="e2b", status=RunStatus.STARTING))
    assert run.status == RunStatus.ERRORED
    assert run.error.startswith("E2B refused the account (401: the key is revoked). Set E2B_API_KEY right")


def test_what_is_refused_without_headers_too_was_not_refused_for_them(make_run: MakeRun, cloud: FakeBackend) -> None:
    cloud.errors["create"] = HeadersRefused("E2B refused to add headers on the way out (400: Invalid host).")
    run = start(make_run(backend="e2b", status=RunStatus.STARTING))
    assert run.status == RunStatus.ERRORED
    assert "Invalid host" in run.error
    assert capacity.adds_headers("e2b")


def test_with_a_fallback_the_run_goes_on_here_and_says_so(make_run: MakeRun, places: dict[str, FakeBackend], settings: Settings) -> None:
    settings.SANDBOX_FALLBACK = "local"
    places["e2b"].errors["create"] = REFUSED
    run = start(make_run(backend="e2b", status=RunStatus.STARTING))
    said = "E2B refused the account (401: the key is revoked), so this run is on this machine."
    row = run.sandboxes.get()
    assert (run.status, run.backend, run.generation, run.start_tries) == (RunStatus.QUEUED, "local", 1, 0)
    assert (row.backend, row.host, row.notice) == ("local", settings.HOST_NAME, said)
    assert notices(run) == [said]
    assert scheduler.dispatch() == 1
    assert start(run).status == RunStatus.RUNNING
    row.refresh_from_db()
    assert (row.ref, row.expires_at) == (next(iter(places["local"].boxes)), None)
    assert run_json(run)["backend"] == "local"


def test_another_host_that_takes_it_up_is_where_its_sandbox_is(
    make_run: MakeRun, places: dict[str, FakeBackend], settings: Settings
) -> None:
    run = make_run(status=RunStatus.STARTING)
    Sandbox.objects.create(run=run, generation=1, backend="local", host="elsewhere")
    start(run)
    assert run.sandboxes.get().host == settings.HOST_NAME


@pytest.mark.parametrize("deed", ["connect", "resume"])
def test_a_run_with_work_in_its_sandbox_does_not_fall_back(
    in_cloud: InCloud, places: dict[str, FakeBackend], settings: Settings, deed: str
) -> None:
    settings.SANDBOX_FALLBACK = "local"
    places["e2b"].errors[deed] = REFUSED
    run, row, box = in_cloud(status=RunStatus.STARTING, row={"status": SandboxStatus.PAUSED})
    assert start(run).status == RunStatus.ERRORED
    row.refresh_from_db()
    assert (run.backend, row.status, row.ref) == ("e2b", SandboxStatus.PAUSED, box.ref)
    assert "follow up, or retry" in run.error


def test_any_other_failure_does_not_fall_back(make_run: MakeRun, cloud: FakeBackend, settings: Settings) -> None:
    settings.SANDBOX_FALLBACK = "local"
    cloud.errors["create"] = SandboxError("E2B could not make a sandbox: 500")
    run = start(make_run(backend="e2b", status=RunStatus.STARTING))
    assert (run.status, run.backend) == (RunStatus.ERRORED, "e2b")


def test_a_turn_whose_patch_cannot_be_fetched_for_that_ends(in_cloud: InCloud, cloud: FakeBackend) -> None:
    run, _, _ = in_cloud(status=RunStatus.RUNNING, stage="collect")
    outcome: dict[str, Any] = {"step": "agent", "reason": "exit", "code": 0, "signal": None, "has_patch": True, "error": None}
    run.turns.update(status=RunStatus.RUNNING, outcome=outcome, generation=1, started_at=timezone.now())
    cloud.errors["patch"] = REFUSED
    jobs.finish_turn(run.pk, run.generation)
    run.refresh_from_db()
    assert run.status == RunStatus.ERRORED
    assert "E2B_API_KEY" in run.error
