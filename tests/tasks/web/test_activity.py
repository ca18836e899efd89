"""What ended since one looked last: told once, to those who want it, in words that hide nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks.models import Patch, Run, Task, Turn, User
from tasks.web.activity import Endings, activity_of

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]


def end(run: Run, status: str = "succeeded", **more: object) -> None:
    Run.objects.filter(pk=run.pk).update(status=status, finished_at=None if status == "waiting" else timezone.now(), **more)


@pytest.fixture
def alice(alice: User) -> User:
    alice.notify = "run"
    alice.save()
    return alice


@pytest.fixture
def endings(alice: User) -> Endings:
    """Has looked once."""
    endings = Endings()
    endings.look(alice)
    return endings


def test_what_is_over_when_one_comes_is_no_news(alice: User, make_run: MakeRun) -> None:
    end(make_run())
    assert Endings().look(alice) == []


def test_an_end_is_told_once(alice: User, endings: Endings, make_run: MakeRun, make_task: Callable[..., Task]) -> None:
    run = make_run(make_task(title="Retry\u202e uploads"))
    assert endings.look(alice) == []
    end(run)
    Patch.objects.create(
        run=run,
        turn=Turn.objects.get(run=run),
        kind="final",
        content=b"x",
        sha256="0" * 64,
        files=[{"path": "a"}],
        additions=12,
        deletions=3,
    )
    assert endings.look(alice) == [
        {
            "run": run.pk,
            "url": f"/runs/{run.pk}/",
            "title": "Shell script has finished",
            "body": "Retry uploads\n+12 −3",
            "status": "succeeded",
        }
    ]
    assert endings.look(alice) == []


@pytest.mark.parametrize(
    ("status", "title"),
    [
        ("failed", "Shell script has failed"),
        ("errored", "Shell script could not go on"),
        ("interrupted", "Shell script was interrupted"),
        ("waiting", "Shell script waits for you"),
    ],
)
def test_every_end_has_its_words(alice: User, endings: Endings, make_run: MakeRun, status: str, title: str) -> None:
    end(make_run(), status, error="The disk is full. Free some space.\nmore")
    (told,) = endings.look(alice)
    assert (told["title"], told["body"]) == (title, "Do it\nThe disk is full")


def test_a_run_that_goes_on_and_ends_again_is_told_again(alice: User, endings: Endings, make_run: MakeRun) -> None:
    run = make_run()
    for status in ("succeeded", "waiting", "succeeded"):
        end(run, status)
        assert [told["status"] for told in endings.look(alice)] == [status]
        Run.objects.filter(pk=run.pk).update(status="running", finished_at=None)
        assert endings.look(alice) == []


def test_what_one_has_stopped_oneself_is_no_news(alice: User, endings: Endings, make_run: MakeRun) -> None:
    end(make_run(), "canceled")
    assert endings.look(alice) == []


def test_nobody_is_told_of_somebody_elses_runs(alice: User, bob: User, endings: Endings, make_run: MakeRun) -> None:
    end(make_run(owner=bob))
    assert endings.look(alice) == []


def test_who_wants_none_gets_none(alice: User, endings: Endings, make_run: MakeRun) -> None:
    User.objects.update(notify="never")  # in another tab
    end(make_run())
    assert endings.look(alice) == []


def test_a_task_is_over_when_all_its_runs_are(alice: User, endings: Endings, make_run: MakeRun) -> None:
    User.objects.update(notify="task")
    first = make_run()
    second = make_run(first.task)
    end(first)
    assert endings.look(alice) == []
    end(second, "failed")
    (told,) = endings.look(alice)
    assert (told["title"], told["body"]) == ("All 2 runs are over", "Do it\n1 succeeded, 1 failed")
    assert told["url"] == first.task.get_absolute_url()


def test_what_is_on_its_way_is_counted(alice: User, make_run: MakeRun) -> None:
    for status in ("starting", "running", "queued", "succeeded"):
        make_run(status=status)
    assert activity_of(alice) == {"running": 2, "queued": 1}


def test_what_goes_on_is_found_without_a_look_through_all_runs(make_run: Callable[..., Run], alice: User) -> None:
    """Every page asks for it, and every socket every few seconds."""
    task, long_ago = make_run(status="running").task, timezone.now() - timedelta(days=1)
    over = {"task": task, "agent": "shell", "backend": "local", "status": "succeeded", "finished_at": long_ago}
    Run.objects.bulk_create(Run(attempt=attempt, **over) for attempt in range(2, 5000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tasks_run, tasks_task")
    with CaptureQueriesContext(connection) as asked:
        activity_of(alice)
        Endings().look(alice)
    plans = [_plan(query["sql"]) for query in asked.captured_queries if "tasks_run" in query["sql"]]
    assert len(plans) == 2
    for plan in plans:
        assert "Seq Scan on tasks_run" not in plan, plan
        assert "tasks_run_task" not in plan, plan  # nor through all of a task


def _plan(query: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {query}")
        return "\n".join(line for (line,) in cursor.fetchall())
