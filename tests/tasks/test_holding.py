"""What begins at the same moment as something ends: an archived task and a removed repository take nothing new."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from django.db import connection, transaction
from django.utils import timezone

from tasks import environment, services
from tasks.errors import Conflict
from tasks.models import Repo, Run, Task, User
from tasks.services import AgentChoice

pytestmark = pytest.mark.django_db(transaction=True)
MakeRun = Callable[..., Run]


def meanwhile(ending: Callable[[], object], beginning: Callable[[], object]) -> BaseException | None:
    """Let `beginning` come while the transaction of `ending` has not committed yet; gives what it raised."""
    raised: list[BaseException] = []

    def begin() -> None:
        try:
            beginning()
        except Conflict as error:
            raised.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=begin)
    with transaction.atomic():
        ending()
        thread.start()
        deadline = time.monotonic() + 10
        while not _waits_for_a_lock() and thread.is_alive() and time.monotonic() < deadline:
            thread.join(0.01)
    thread.join()
    return raised[0] if raised else None


def _waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def test_a_follow_up_to_a_task_that_is_archived_meanwhile_is_refused(make_run: MakeRun, alice: User) -> None:
    run = make_run(status="succeeded")
    error = meanwhile(
        lambda: services.archive_task(task=run.task, by=alice), lambda: services.send_follow_up(run=run, by=alice, prompt="more")
    )
    assert error is not None
    assert "archived" in str(error)
    assert run.turns.count() == 1


def test_a_retry_of_a_task_that_is_archived_meanwhile_is_refused(make_run: MakeRun, alice: User) -> None:
    run = make_run(status="failed")
    assert meanwhile(lambda: services.archive_task(task=run.task, by=alice), lambda: services.retry_run(run=run, by=alice))
    assert Run.objects.count() == 1


def test_a_follow_up_on_a_repository_that_is_removed_meanwhile_is_refused(make_run: MakeRun, alice: User) -> None:
    run = make_run(status="succeeded")
    error = meanwhile(
        lambda: environment.remove_repo(repo=run.task.repo, by=alice), lambda: services.send_follow_up(run=run, by=alice, prompt="more")
    )
    assert error is not None
    assert "was removed" in str(error)


@pytest.mark.parametrize("has_tasks", [True, False])
def test_a_task_on_a_repository_that_is_removed_meanwhile_is_refused(make_task: Callable[..., Task], alice: User, has_tasks: bool) -> None:
    repo = Repo.objects.create(owner=alice, source="https://example.org/x", name="x")
    if has_tasks:
        make_task(repo=repo)
    error = meanwhile(
        lambda: environment.remove_repo(repo=repo, by=alice),
        lambda: services.create_task(by=alice, repo=repo, prompt="true", agents=[AgentChoice("shell")]),
    )
    assert error is not None
    assert "was removed" in str(error)
    assert Task.objects.count() == has_tasks


def test_a_variable_of_a_repository_that_is_removed_meanwhile_is_refused(alice: User) -> None:
    repo = Repo.objects.create(owner=alice, source="https://example.org/x", name="x", mirrored_at=timezone.now())
    assert meanwhile(
        lambda: environment.remove_repo(repo=repo, by=alice), lambda: environment.set_variable(repo=repo, by=alice, name="A", value="1")
    )


def test_a_retry_button_that_is_pressed_twice_starts_one_attempt(make_run: MakeRun, alice: User) -> None:
    run = make_run(status="failed")
    first = services.retry_run(run=run, by=alice)
    assert services.retry_run(run=run, by=alice) == first
    Run.objects.filter(pk=first.pk).update(status="failed")
    assert services.retry_run(run=run, by=alice) != first


def test_a_trial_is_not_brought_back(make_task: Callable[..., Task], alice: User) -> None:
    trial = make_task(is_trial=True, archived_at=timezone.now())
    services.unarchive_tasks(tasks=[trial], by=alice)
    trial.refresh_from_db()
    assert trial.archived_at is not None
