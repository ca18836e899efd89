"""Sandboxes and rows are compared in both directions, and what belongs to others is left alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from sandboxes.errors import SandboxError
from tasks.models import Run, RunStatus, Sandbox, SandboxStatus
from tasks.running import backends, jobs, nudge, reaping, reconcile
from tests.tasks.running.fake import FakeBackend, FakeBox

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
InCloud = Callable[..., tuple[Run, Sandbox, FakeBox]]


def status(row: Sandbox) -> str:
    row.refresh_from_db()
    return row.status


# --- sandboxes that no row wants ---


def test_what_rows_want_stays(in_cloud: InCloud, cloud: FakeBackend) -> None:
    boxes = {
        in_cloud(status=RunStatus.RUNNING)[2].ref,
        in_cloud(status=RunStatus.SUCCEEDED, row={"status": SandboxStatus.PAUSED})[2].ref,
        in_cloud(status=RunStatus.STARTING, row={"status": SandboxStatus.PAUSED})[2].ref,
    }
    jobs.reap()
    assert cloud.boxes.keys() == boxes


def test_sandboxes_without_a_row_that_wants_them_are_destroyed(make_run: MakeRun, in_cloud: InCloud, cloud: FakeBackend) -> None:
    _, lost, _ = in_cloud(status=RunStatus.INTERRUPTED, row={"status": SandboxStatus.LOST})
    canceled = make_run(backend="e2b", status=RunStatus.CANCELED)
    begun = Sandbox.objects.create(run=canceled, generation=1, backend="e2b")
    cloud.make(backends.key(canceled.pk, 1))
    cloud.make(backends.key(canceled.pk + 1000, 1))
    jobs.reap()
    assert not cloud.boxes
    assert status(lost) == status(begun) == SandboxStatus.DESTROYED


def test_a_second_sandbox_with_the_same_key_is_a_stray(in_cloud: InCloud, cloud: FakeBackend) -> None:
    _, row, box = in_cloud(status=RunStatus.RUNNING)
    cloud.make(box.key)
    jobs.reap()
    assert cloud.boxes.keys() == {box.ref}
    assert status(row) == SandboxStatus.LIVE


def test_one_that_is_being_made_is_no_stray_but_one_of_an_older_generation_is(make_run: MakeRun, cloud: FakeBackend) -> None:
    run = make_run(backend="e2b", status=RunStatus.STARTING, generation=2)
    Sandbox.objects.create(run=run, generation=1, backend="e2b", status=SandboxStatus.LOST)
    Sandbox.objects.create(run=run, generation=2, backend="e2b")
    old, new = cloud.make(backends.key(run.pk, 1)), cloud.make(backends.key(run.pk, 2))
    jobs.reap()
    assert old.ref not in cloud.boxes
    assert new.ref in cloud.boxes


def test_sandboxes_of_other_installations_are_left_alone(cloud: FakeBackend) -> None:
    for key in ("another1:1:1", "", "nonsense", f"{backends.installation()}:x:1", f"{backends.installation()}x:1:1"):
        cloud.make(key)
    jobs.reap()
    assert len(cloud.boxes) == 5


def test_one_that_cannot_be_destroyed_is_tried_again(cloud: FakeBackend) -> None:
    box = cloud.make(backends.key(1, 1))
    cloud.errors["destroy"] = SandboxError("503")
    jobs.reap()
    assert box.ref in cloud.boxes
    cloud.errors.clear()
    jobs.reap()
    assert not cloud.boxes


# --- rows whose sandboxes are gone ---


def test_a_turn_at_work_in_a_sandbox_that_is_gone_is_lost(in_cloud: InCloud, cloud: FakeBackend) -> None:
    run, row, box = in_cloud(status=RunStatus.RUNNING)
    del cloud.boxes[box.ref]
    jobs.reap()
    run.refresh_from_db()
    assert (run.status, run.generation) == (RunStatus.QUEUED, 2)
    assert status(row) == SandboxStatus.LOST


def test_the_row_of_a_sleeping_sandbox_that_is_gone_is_closed(in_cloud: InCloud, cloud: FakeBackend) -> None:
    run, row, box = in_cloud(status=RunStatus.SUCCEEDED, row={"status": SandboxStatus.PAUSED})
    del cloud.boxes[box.ref]
    jobs.reap()
    run.refresh_from_db()
    assert (run.status, status(row)) == (RunStatus.SUCCEEDED, SandboxStatus.DESTROYED)
    assert row.lost_at is not None
    assert row.destroyed_at is not None


def test_what_was_made_with_another_teams_key_is_not_taken_for_gone(in_cloud: InCloud, cloud: FakeBackend, settings: Settings) -> None:
    _, row, box = in_cloud(status=RunStatus.SUCCEEDED, row={"status": SandboxStatus.PAUSED, "record": {"account": backends.account("e2b")}})
    del cloud.boxes[box.ref]
    settings.E2B_API_KEY = "e2b_of_another_team"
    jobs.reap()
    assert status(row) == SandboxStatus.PAUSED


def test_with_a_new_key_of_the_same_team_its_sandboxes_are_known_by_that(in_cloud: InCloud, cloud: FakeBackend, settings: Settings) -> None:
    _, row, box = in_cloud(status=RunStatus.SUCCEEDED, row={"status": SandboxStatus.PAUSED, "record": {"account": "old", "isolation": "x"}})
    jobs.reap()
    row.refresh_from_db()
    assert row.record == {"account": backends.account("e2b"), "isolation": "x"}
    del cloud.boxes[box.ref]
    jobs.reap()
    assert status(row) == SandboxStatus.DESTROYED


def test_one_that_was_made_after_the_list_is_not_missing_in_it(
    make_run: MakeRun, cloud: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(backend="e2b", status=RunStatus.STARTING)
    row = Sandbox.objects.create(run=run, generation=1, backend="e2b")
    listed = cloud.list

    async def list_and_make() -> object:
        found = await listed()
        box = cloud.make(backends.key(run.pk, 1))
        await Sandbox.objects.filter(pk=row.pk).aupdate(ref=box.ref, status=SandboxStatus.LIVE)
        await Run.objects.filter(pk=run.pk).aupdate(status=RunStatus.RUNNING)
        return found

    monkeypatch.setattr(cloud, "list", list_and_make)
    jobs.reap()
    assert status(row) == SandboxStatus.LIVE


def test_one_that_only_the_list_lacks_stays(in_cloud: InCloud, cloud: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    _, row, _ = in_cloud(status=RunStatus.RUNNING)

    async def nothing() -> list[object]:
        return []

    monkeypatch.setattr(cloud, "list", nothing)
    jobs.reap()
    assert status(row) == SandboxStatus.LIVE


def test_a_list_that_fails_closes_nothing(in_cloud: InCloud, cloud: FakeBackend) -> None:
    _, row, _ = in_cloud(status=RunStatus.RUNNING)
    cloud.boxes.clear()
    cloud.errors["list"] = SandboxError("E2B could not list the sandboxes: 503")
    jobs.reap()
    assert status(row) == SandboxStatus.LIVE


def test_this_host_looks_after_its_own_local_sandboxes_only(make_run: MakeRun, places: dict[str, FakeBackend], settings: Settings) -> None:
    mine, theirs = (make_run(status=RunStatus.SUCCEEDED, sandbox=True) for _ in range(2))
    mine.sandboxes.update(host=settings.HOST_NAME)
    theirs.sandboxes.update(host="elsewhere")
    jobs.reap()
    assert status(mine.sandboxes.get()) == SandboxStatus.DESTROYED
    assert status(theirs.sandboxes.get()) == SandboxStatus.LIVE


def test_e2b_is_looked_through_by_one_worker_at_a_time_and_only_with_a_key(cloud: FakeBackend, settings: Settings) -> None:
    cloud.make(backends.key(1, 1))
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [reaping._REAPING])
        jobs.reap()
    finally:
        other.close()
    assert cloud.boxes
    settings.E2B_API_KEY = ""
    jobs.reap()
    assert cloud.boxes
    settings.E2B_API_KEY = "e2b_test"
    jobs.reap()
    assert not cloud.boxes


# --- every sandbox a run ever had ---


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are done as soon as they are asked for."""

    def do(_queue: str, job: str, *args: object) -> None:
        if job == "destroy_sandbox":
            getattr(jobs, job)(*args)

    monkeypatch.setattr(nudge, "enqueue_now", do)


@pytest.mark.parametrize("state", [RunStatus.RUNNING, RunStatus.QUEUED, RunStatus.CANCELED])
@pytest.mark.usefixtures("now")
def test_sandboxes_of_older_generations_are_destroyed_whatever_the_run_does(
    in_cloud: InCloud, cloud: FakeBackend, state: RunStatus
) -> None:
    run, lost, _ = in_cloud(status=state, row={"status": SandboxStatus.LOST})
    kept = cloud.make(backends.key(run.pk, 3))
    slept = cloud.make(backends.key(run.pk, 2))
    Sandbox.objects.create(run=run, generation=2, backend="e2b", ref=slept.ref, status=SandboxStatus.PAUSED)
    present = Sandbox.objects.create(run=run, generation=3, backend="e2b", ref=kept.ref, status=SandboxStatus.LIVE)
    Run.objects.filter(pk=run.pk).update(generation=3)
    reconcile.destroy_unneeded()
    assert cloud.boxes.keys() == {kept.ref}
    assert status(lost) == SandboxStatus.DESTROYED
    assert status(present) == SandboxStatus.LIVE


@pytest.mark.usefixtures("now")
def test_a_sandbox_in_the_cloud_is_destroyed_when_its_task_is_archived_or_it_was_kept_long_enough(
    in_cloud: InCloud, cloud: FakeBackend, settings: Settings
) -> None:
    archived, _, _ = in_cloud(status=RunStatus.SUCCEEDED, finished_at=timezone.now(), row={"status": SandboxStatus.PAUSED})
    archived.task.archived_at = timezone.now()
    archived.task.save()
    old = timezone.now() - timedelta(hours=settings.SANDBOX_RETENTION_H + 1)
    in_cloud(status=RunStatus.FAILED, finished_at=old, row={"status": SandboxStatus.PAUSED})
    _, _, kept = in_cloud(status=RunStatus.SUCCEEDED, finished_at=timezone.now(), row={"status": SandboxStatus.PAUSED})
    reconcile.destroy_unneeded()
    assert cloud.boxes.keys() == {kept.ref}


def test_a_backend_that_does_not_answer_keeps_the_row(in_cloud: InCloud, cloud: FakeBackend) -> None:
    _, row, _ = in_cloud(status=RunStatus.CANCELED, row={"status": SandboxStatus.LOST})
    cloud.errors["connect"] = SandboxError("503")
    jobs.destroy_sandbox(row.pk)
    assert status(row) == SandboxStatus.LOST
