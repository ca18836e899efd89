"""Tasks by the API."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks.models import Patch, PullRequest, Repo, Run, Task, Turn, User
from tasks.running import operations
from tests.tasks.api.conftest import Program

pytestmark = pytest.mark.django_db
MakeTask = Callable[..., Task]
MakeRun = Callable[..., Run]


@pytest.fixture
def repo(alice: User, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A repository that is at a commit without being asked."""
    monkeypatch.setattr(operations, "pin", lambda repo, branch: "b" * 40)
    return Repo.objects.create(owner=alice, source="https://example.org/a", name="a", default_branch="main", mirrored_at=timezone.now())


def test_a_task_is_started_with_its_runs(alices: Program, repo: Repo) -> None:
    answer = alices.post("/tasks", {"repo": repo.pk, "prompt": "true\n", "agents": [{"agent": "shell", "attempts": 2}], "branch": "dev"})
    assert answer.status == 201
    task = Task.objects.get()
    assert (task.prompt, task.base_branch, task.base_commit) == ("true\n", "dev", "b" * 40)
    assert answer.body["id"] == task.pk
    assert answer.body["repo"] == {"id": repo.pk, "name": "a"}
    assert [(run["agent"], run["attempt"], run["status"]) for run in answer.body["runs"]] == [
        ("shell", 1, "queued"),
        ("shell", 2, "queued"),
    ]
    assert alices.get(f"/tasks/{task.pk}").body == answer.body


def test_a_repository_that_is_new_is_added_with_its_first_task(alices: Program) -> None:
    body = {"repo": "https://example.org/new.git", "prompt": "true", "agents": [{"agent": "shell"}]}
    assert alices.post("/tasks", body | {"agents": [{"agent": "nobody"}]}).status == 422
    assert Repo.objects.count() == 0
    answer = alices.post("/tasks", body)
    assert (answer.status, answer.body["base_commit"]) == (201, "")  # it is copied first
    assert Repo.objects.get().source == "https://example.org/new.git"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"agents": [{"agent": "nobody"}]}, "agents"),
        ({"agents": [{"agent": "shell"}, {"agent": "shell"}]}, "agents"),
        ({"agents": [{"agent": "shell", "effort": "high"}]}, "agents"),
        ({"mode": "plan"}, "mode"),
        ({"agents": []}, "agents"),
        ({"repo": "ftp://example.org/x"}, "source"),
        ({"prompt": "x" * 200_001}, "prompt"),
    ],
)
def test_what_cannot_be_started_says_why(alices: Program, repo: Repo, changed: dict[str, Any], field: str) -> None:
    answer = alices.post("/tasks", {"repo": repo.pk, "prompt": "true", "agents": [{"agent": "shell"}]} | changed)
    assert answer.status == 422
    assert [error["field"] for error in answer.body["errors"]] == [field]
    assert Task.objects.count() == 0


def test_the_list_goes_on_page_by_page_whatever_is_added(alices: Program, make_run: MakeRun) -> None:
    ids = [make_run().task_id for _ in range(5)][::-1]
    first = alices.get("/tasks?limit=2").body
    make_run()
    second = alices.get(first["next"]).body
    third = alices.get(second["next"]).body
    assert [task["id"] for page in (first, second, third) for task in page["items"]] == ids
    assert third["next"] is None
    assert [run["task"] for run in first["items"][0]["runs"]] == ids[:1]


def test_the_list_takes_filters_of_the_page(alices: Program, make_task: MakeTask, make_run: MakeRun) -> None:
    working, failed = make_run(status="running").task, make_run(status="failed").task
    archived = make_task(title="upload it", archived_at=timezone.now())
    make_task(is_trial=True)

    def found(query: str) -> list[int]:
        return [task["id"] for task in alices.get(f"/tasks?{query}").body["items"]]

    assert found("") == [failed.pk, working.pk]
    assert (found("state=working"), found("state=failed"), found("state=done")) == ([working.pk], [failed.pk], [])
    assert (found("is_archived=true"), found("is_archived=true&q=uplo")) == ([archived.pk], [archived.pk])
    assert (found(f"repo={failed.repo_id}"), found("agent=shell"), found("agent=codex")) == ([failed.pk], [failed.pk, working.pk], [])


def test_all_runs_are_stopped_and_failed_ones_tried_again(alices: Program, make_task: MakeTask, make_run: MakeRun) -> None:
    task = make_task()
    make_run(task), make_run(task, status="failed")
    stopped = alices.post(f"/tasks/{task.pk}/stop").body
    assert [run["status"] for run in stopped["runs"]] == ["canceled", "failed"]
    again = alices.post(f"/tasks/{task.pk}/retry").body
    assert [run["status"] for run in again["runs"]] == ["canceled", "failed", "queued"]


def test_several_runs_are_followed_up_at_once(alices: Program, make_task: MakeTask, make_run: MakeRun) -> None:
    task = make_task()
    first, second, third = (make_run(task, status="succeeded") for _ in range(3))
    assert alices.post(f"/tasks/{task.pk}/turns", {"runs": [first.pk, third.pk], "prompt": "more"}).status == 200
    assert set(Turn.objects.filter(prompt="more").values_list("run", flat=True)) == {first.pk, third.pk}
    stranger = make_run(status="succeeded")
    answer = alices.post(f"/tasks/{task.pk}/turns", {"runs": [second.pk, stranger.pk], "prompt": "again"})
    assert (answer.status, answer.body["errors"][0]["field"]) == (422, "runs")
    assert Turn.objects.filter(prompt="again").count() == 0


def test_a_task_is_archived_and_brought_back(alices: Program, make_run: MakeRun) -> None:
    run = make_run()
    answer = alices.post(f"/tasks/{run.task_id}/archive")
    assert (answer.body["archived_at"] is not None, answer.body["runs"][0]["status"]) == (True, "canceled")
    assert alices.post(f"/tasks/{run.task_id}/restore").body["archived_at"] is None


def grow(make_task: MakeTask, make_run: MakeRun, count: int) -> None:
    for number in range(count):
        task = make_task()
        for status in ("queued", "running", "succeeded"):
            run = make_run(task, status=status)
            Patch.objects.create(run=run, turn=run.turns.get(), kind="final", content=b"x", sha256="0" * 64)
            PullRequest.objects.create(run=run, number=number, url="https://github.com/a/b/pull/1", branch="b")


def test_the_list_asks_the_database_no_more_when_there_is_more(alices: Program, make_task: MakeTask, make_run: MakeRun) -> None:
    grow(make_task, make_run, 2)
    with CaptureQueriesContext(connection) as few:
        assert len(alices.get("/tasks").body["items"]) == 2
    grow(make_task, make_run, 10)
    with CaptureQueriesContext(connection) as many:
        assert len(alices.get("/tasks").body["items"]) == 12
    assert len(many) <= len(few)
    assert len(many) <= 12, [query["sql"][:100] for query in many.captured_queries]


@pytest.mark.long
def test_the_list_is_quick_when_there_are_very_many_tasks(alices: Program, alice: User, make_task: MakeTask, make_run: MakeRun) -> None:
    task = make_task()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO tasks_task (owner_id, repo_id, title, prompt, mode, base_branch, base_commit, created_at, origin, is_restricted,"
            " is_trial, position) SELECT %s, %s, 'task ' || n, 'do ' || n, 'code', 'main', repeat('a', 40), now(), '', false, false, 0"
            " FROM generate_series(1, 100000) n",
            [alice.pk, task.repo_id],
        )
        cursor.execute("ANALYZE tasks_task")
    for one in Task.objects.order_by("-pk")[:30]:
        make_run(one)
    for address in ("/tasks", f"/tasks?cursor=c{task.pk + 50_000}", "/tasks?q=99999"):
        took = []
        for _ in range(5):
            begun = time.process_time()  # of this process: others may be at work on this machine
            assert alices.get(address).body["items"]
            took.append(time.process_time() - begun)
        assert min(took) < 0.06, (address, took)
        with CaptureQueriesContext(connection) as asked:
            alices.get(address)
        for query in asked.captured_queries:  # nor does the database look through them all
            if query["sql"].startswith("SELECT"):
                with connection.cursor() as cursor:
                    cursor.execute("EXPLAIN " + query["sql"].replace("%", "%%"))
                    assert "Seq Scan on tasks_task" not in "\n".join(line for (line,) in cursor.fetchall()), query["sql"]
