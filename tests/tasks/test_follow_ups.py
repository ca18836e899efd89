"""Follow-ups to several runs, and retrying what has failed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.utils import timezone

from tasks import services
from tasks.errors import Conflict, InvalidInput
from tasks.models import Run, RunStatus, Task, Turn, User

pytestmark = pytest.mark.django_db
MakeTask = Callable[..., Task]
MakeRun = Callable[..., Run]


def test_a_follow_up_goes_to_all_chosen_runs(make_task: MakeTask, make_run: MakeRun, alice: User) -> None:
    task = make_task()
    over, running, other = make_run(task, status="succeeded"), make_run(task, status="running"), make_run(task, status="failed")
    turns = services.send_follow_ups(task=task, runs=[running, over], by=alice, prompt="Add tests")
    assert [(turn.run_id, turn.number, turn.prompt) for turn in turns] == [(over.pk, 2, "Add tests"), (running.pk, 2, "Add tests")]
    for run in (over, running, other):
        run.refresh_from_db()
    assert (over.status, running.status, other.status) == (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.FAILED)


def test_when_one_run_takes_none_nothing_is_sent(make_task: MakeTask, make_run: MakeRun, alice: User) -> None:
    task = make_task()
    over = make_run(task, status="succeeded")
    stopping = make_run(task, status="running", stop_requested_at=timezone.now())
    with pytest.raises(Conflict, match=r"shell #2: The run is being stopped\..*Nothing was sent\."):
        services.send_follow_ups(task=task, runs=[over, stopping], by=alice, prompt="Add tests")
    assert not Turn.objects.filter(number=2).exists()
    over.refresh_from_db()
    assert over.status == RunStatus.SUCCEEDED


def test_no_run_no_prompt_and_an_archived_task_are_refused(make_run: MakeRun, alice: User) -> None:
    run = make_run(status="succeeded")
    with pytest.raises(InvalidInput, match="at least one run"):
        services.send_follow_ups(task=run.task, runs=[], by=alice, prompt="more")
    with pytest.raises(InvalidInput, match="empty"):
        services.send_follow_ups(task=run.task, runs=[run], by=alice, prompt=" ")
    run.task.archived_at = timezone.now()
    run.task.save()
    with pytest.raises(Conflict, match="archived"):
        services.send_follow_ups(task=run.task, runs=[run], by=alice, prompt="more")


def test_what_has_failed_is_retried_once(make_task: MakeTask, make_run: MakeRun, alice: User) -> None:
    task = make_task()
    for status in ("failed", "errored", "interrupted", "succeeded", "canceled", "running"):
        make_run(task, status=status)
    new = services.retry_failed(task=task, by=alice)
    assert [run.attempt for run in new] == [7, 8, 9]
    assert services.retry_failed(task=task, by=alice) == []


def test_a_retry_that_fails_can_be_retried(make_run: MakeRun, alice: User) -> None:
    task = make_run(status="failed").task
    [second] = services.retry_failed(task=task, by=alice)
    Run.objects.filter(pk=second.pk).update(status="failed")
    [third] = services.retry_failed(task=task, by=alice)
    assert third.attempt == 3
