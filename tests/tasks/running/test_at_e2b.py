"""What E2B itself refuses, from its stand-in on loopback to our rows and pages: the official SDK as it is, and nothing slept through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from sandboxes.e2b.account import Account
from sandboxes.e2b.backend import E2BBackend
from tasks.models import CreationBucket, Credential, Event, Run, RunStatus, Task, User
from tasks.running import backends, jobs, scheduler, specs
from tests.e2bcloud.process import Cloud
from tests.tasks.conftest import MakeRun
from tests.tasks.running.fake import have_mirror

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def e2b() -> Iterator[Cloud]:
    with Cloud.start() as cloud:
        yield cloud


@pytest.fixture(autouse=True)
def used(e2b: Cloud, monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path) -> Iterator[None]:
    settings.DATA, settings.E2B_API_KEY = tmp_path, e2b.options["api_key"]
    backend = E2BBackend(Account(**e2b.options), installation=backends.installation(), timeout_s=60)
    monkeypatch.setattr(backends, "backend", {"e2b": backend}.__getitem__)
    yield
    e2b.clear()


def start(run: Run) -> Run:
    have_mirror(run)
    jobs.start_turn(run.pk, run.generation)
    run.refresh_from_db()
    return run


def test_a_rate_limit_is_waited_for_as_long_as_it_says(make_run: MakeRun, e2b: Cloud, client: Client) -> None:
    e2b.fault("429", retry_after=120, count=1)
    begun = timezone.now()
    run = start(make_run(backend="e2b", status=RunStatus.STARTING))
    assert run.status == RunStatus.QUEUED
    until = CreationBucket.objects.get().closed_until
    assert until is not None
    assert timedelta(seconds=119) < until - begun < timedelta(seconds=130)
    assert scheduler.dispatch() == 0
    client.force_login(run.task.owner)
    page = client.get(f"/tasks/{run.task_id}/").content.decode()
    assert f"New sandboxes wait until {until:%H:%M:%S} UTC." in page


def test_where_e2b_adds_no_headers_the_key_goes_into_the_environment_and_that_is_remembered(
    make_run: MakeRun, alice: User, e2b: Cloud, settings: Settings
) -> None:
    settings.GATEWAY_PUBLIC_URL = settings.ANTHROPIC_BASE_URL = ""
    key = Credential(owner=alice, provider="anthropic")
    key.secret = "sk-the-real-key-0123456789"
    key.save()
    refusal = e2b.fault("rules")

    first, second = (start(make_run(agent="claude", backend="e2b", status=RunStatus.STARTING)) for _ in range(2))

    for run in (first, second):
        row = run.sandboxes.get()
        assert (run.status, run.error, row.record["keys"]) == (RunStatus.RUNNING, "", "environment")
        said = "The key of Anthropic is in this sandbox's environment, because E2B does not add it to requests for this account"
        assert row.notice.startswith(said)
        (notice,) = [event.data["notice"] for event in Event.objects.filter(run=run, kind="status") if "notice" in event.data]
        assert notice.startswith(said)
        (box,) = [box for box in e2b.sandboxes() if box["id"] == row.ref]
        assert "api.anthropic.com" in box["network"]["allowOut"]
        assert "rules" not in box["network"]
    assert [fault["hits"] for fault in e2b.faults() if fault["id"] == refusal] == [1]

    CreationBucket.objects.update(no_headers_until=timezone.now())
    e2b.clear()
    third = start(make_run(agent="claude", backend="e2b", status=RunStatus.STARTING))
    assert third.sandboxes.get().record["keys"] == "headers"
    again = specs.build(first, first.turns.get(), first.sandboxes.get(), restores_patch=False)
    assert again.steps[-1].env["ANTHROPIC_API_KEY"] == key.secret  # as it was begun


def test_a_restricted_task_does_without_its_model_rather(
    make_run: MakeRun, make_task: Callable[..., Task], alice: User, e2b: Cloud
) -> None:
    key = Credential(owner=alice, provider="anthropic")
    key.secret = "sk-the-real-key-0123456789"
    key.save()
    e2b.fault("rules")
    run = start(make_run(make_task(is_restricted=True), agent="claude", backend="e2b", status=RunStatus.STARTING))
    assert run.status == RunStatus.ERRORED
    assert run.error.startswith("This task is restricted")
