"""Runs and their turns by the API."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks.models import Check, Patch, Run, Task, Turn, User
from tests.tasks.api.conftest import Program

pytestmark = pytest.mark.django_db
MakeTask = Callable[..., Task]
MakeRun = Callable[..., Run]


def changed(run: Run, content: bytes = b"x") -> Patch:
    return Patch.objects.create(
        run=run,
        turn=run.turns.get(number=1),
        kind="final",
        content=content,
        sha256="0" * 64,
        files=[{"path": "a"}],
        additions=2,
        deletions=1,
    )


def test_a_run_tells_how_it_stands(alices: Program, make_run: MakeRun) -> None:
    run = make_run(
        status="succeeded", model="opus", cost_usd="0.25", input_tokens=10, started_at=timezone.now(), finished_at=timezone.now()
    )
    patch = changed(run)
    base = Check.objects.create(repo=run.task.repo, base_commit="a" * 40, command="make", backend="local", status="passed")
    Check.objects.create(repo=run.task.repo, patch=patch, base=base, base_commit="a" * 40, command="make", backend="local", status="failed")
    said = alices.get(f"/runs/{run.pk}").body
    assert said["patch"] == {"sha256": "0" * 64, "is_final": True, "files": 1, "additions": 2, "deletions": 1}
    expected = {"status": "succeeded", "model": "opus", "cost_usd": 0.25, "input_tokens": 10, "check": "failed", "pull_request": None}
    assert expected.items() <= said.items()
    assert said["url"].endswith(f"/runs/{run.pk}/")


def test_a_run_in_the_queue_tells_what_it_waits_for(alices: Program, make_run: MakeRun) -> None:
    assert alices.get(f"/runs/{make_run().pk}").body["waits_for"]


def test_runs_of_a_task_and_of_a_status(alices: Program, make_task: MakeTask, make_run: MakeRun) -> None:
    task = make_task()
    first, second = make_run(task), make_run(task, status="failed")
    other = make_run(status="failed")
    make_run(make_task(is_trial=True))

    def found(query: str) -> list[int]:
        return [run["id"] for run in alices.get(f"/runs?{query}").body["items"]]

    assert found("") == [other.pk, second.pk, first.pk]
    assert found(f"task={task.pk}") == [second.pk, first.pk]
    assert found(f"task={task.pk}&status=failed") == [second.pk]


def test_the_list_asks_the_database_no_more_when_there_is_more(alices: Program, make_run: MakeRun) -> None:
    changed(make_run()), make_run(status="running")
    with CaptureQueriesContext(connection) as few:
        alices.get("/runs")
    for _ in range(10):
        changed(make_run()), make_run(status="running")
    with CaptureQueriesContext(connection) as many:
        assert len(alices.get("/runs").body["items"]) == 22
    assert len(many) <= len(few) <= 12


def test_a_run_is_stopped_and_tried_again(alices: Program, make_run: MakeRun) -> None:
    run = make_run()
    assert alices.post(f"/runs/{run.pk}/retry").status == 409
    assert [alices.post(f"/runs/{run.pk}/stop").body["status"] for _ in range(2)] == ["canceled", "canceled"]
    again = alices.post(f"/runs/{run.pk}/retry")
    assert (again.status, again.body["attempt"]) == (201, 2)


def test_a_run_is_chosen_and_the_others_are_set_aside(alices: Program, make_task: MakeTask, make_run: MakeRun) -> None:
    task = make_task()
    run, other = make_run(task, status="succeeded"), make_run(task)
    assert alices.post(f"/runs/{run.pk}/choose", {}).status == 409  # nothing was changed
    changed(run)
    assert alices.post(f"/runs/{run.pk}/choose", {"sets_others_aside": True}).body["chosen_at"]
    assert alices.get(f"/runs/{other.pk}").body["set_aside_at"]
    assert not any(run["chosen_at"] or run["set_aside_at"] for run in alices.post(f"/tasks/{task.pk}/unchoose").body["runs"])


def test_a_run_is_followed_up_and_the_follow_up_withdrawn(alices: Program, alice: User, make_run: MakeRun) -> None:
    run = make_run(status="running")
    Turn.objects.filter(run=run).update(answer="Done.")
    sent = alices.post(f"/runs/{run.pk}/turns", {"prompt": "more"})
    assert (sent.status, sent.body["number"], sent.body["status"], sent.body["author"]) == (201, 2, "queued", "alice")
    listed = alices.get(f"/runs/{run.pk}/turns").body["items"]
    assert [(turn["number"], turn["prompt"], turn["answer"]) for turn in listed] == [(2, "more", ""), (1, "true", "Done.")]
    assert alices.get(f"/runs/{run.pk}/turns/2").body == sent.body
    assert alices.ask("DELETE", f"/runs/{run.pk}/turns/2").status == 204
    assert alices.ask("DELETE", f"/runs/{run.pk}/turns/2").status == 409
    assert alices.get(f"/runs/{run.pk}/turns/2").body["status"] == "canceled"


def test_an_urgent_follow_up_stops_the_turn_at_work(alices: Program, make_run: MakeRun) -> None:
    run = make_run(status="running", sandbox=True)
    assert alices.post(f"/runs/{run.pk}/turns", {"prompt": "now", "is_urgent": True}).status == 201
    run.refresh_from_db()
    assert run.stop_requested_at is not None
    assert run.turns.get(number=1).end_reason == "follow_up"


def test_a_plan_is_approved_as_it_was_edited(alices: Program, make_task: MakeTask, make_run: MakeRun) -> None:
    run = make_run(make_task(mode="plan"), status="waiting")
    assert alices.post(f"/runs/{run.pk}/approve", {"plan": "1. Do it"}).body["status"] == "queued"
    assert run.turns.get(number=2).prompt.endswith("1. Do it")
    assert alices.post(f"/runs/{run.pk}/approve", {"plan": "1. Do it"}).status == 409


def test_a_run_is_branched_and_reverted(alices: Program, make_run: MakeRun) -> None:
    run = make_run(status="succeeded")
    run.turns.update(started_at=timezone.now())
    branch = alices.post(f"/runs/{run.pk}/branch", {"after": 1, "prompt": "otherwise"})
    assert (branch.status, branch.body["parent"], branch.body["parent_turn"]) == (201, run.pk, 1)
    assert alices.post(f"/runs/{run.pk}/revert", {"to": 0}).status == 200
    assert run.turns.get(number=2).kind == "revert"


def test_a_check_is_done_again(alices: Program, make_run: MakeRun) -> None:
    run = make_run(status="succeeded")
    changed(run)
    assert alices.post(f"/runs/{run.pk}/check").status == 409  # the repository has no command
    run.task.repo.__class__.objects.filter(pk=run.task.repo_id).update(check_command="make test")
    assert alices.post(f"/runs/{run.pk}/check").body["check"] in ("queued", "running")
