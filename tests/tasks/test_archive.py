"""Archiving, bringing back: several at once, all or none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks import services
from tasks.errors import Conflict
from tasks.models import Run, RunStatus, Sandbox, SandboxStatus, Task, User

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]


def test_archiving_stops_what_is_not_over(make_run: MakeRun, alice: User) -> None:
    queued, running, over = make_run(), make_run(status="running"), make_run(status="failed")
    services.archive_tasks(tasks=[run.task for run in (queued, running, over)], by=alice)
    assert not Task.objects.filter(archived_at=None).exists()
    for run in (queued, running, over):
        run.refresh_from_db()
    assert (queued.status, over.status) == (RunStatus.CANCELED, RunStatus.FAILED)
    assert running.stop_requested_at is not None


def test_archiving_again_changes_nothing(make_run: MakeRun, alice: User) -> None:
    task = make_run(status="succeeded").task
    services.archive_task(task=task, by=alice)
    before = Task.objects.get().archived_at
    services.archive_task(task=task, by=alice)
    assert Task.objects.get().archived_at == before


def test_a_task_that_is_back_takes_follow_ups_again(make_run: MakeRun, alice: User) -> None:
    run = make_run(status="succeeded", sandbox=True)
    services.archive_task(task=run.task, by=alice)
    assert services.unarchive_tasks(tasks=[run.task], by=alice) == 0
    run = Run.objects.get()
    services.send_follow_up(run=run, by=alice, prompt="more")
    run.refresh_from_db()
    assert run.status == RunStatus.QUEUED


def test_bringing_back_tells_how_many_sandboxes_are_gone(make_run: MakeRun, alice: User) -> None:
    gone, kept = make_run(status="succeeded", sandbox=True), make_run(status="succeeded", sandbox=True)
    services.archive_tasks(tasks=[gone.task, kept.task], by=alice)
    Sandbox.objects.filter(run=gone).update(status=SandboxStatus.DESTROYED)
    assert services.unarchive_tasks(tasks=[gone.task, kept.task], by=alice) == 1


def test_runs_of_an_archived_task_are_not_retried(make_run: MakeRun, alice: User) -> None:
    run = make_run(status="failed")
    services.archive_task(task=run.task, by=alice)
    with pytest.raises(Conflict, match="Bring it back first"):
        services.retry_run(run=Run.objects.get(), by=alice)
