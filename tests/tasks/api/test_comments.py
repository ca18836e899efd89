"""Comments on a run's changes, and the runs of a task side by side, of a real repository."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tasks.models import Run, Task, User
from tests.tasks.api.conftest import Program
from tests.tasks.review.conftest import Workshop
from tests.tasks.review.conftest import workshop as workshop

pytestmark = pytest.mark.django_db


@pytest.fixture
def task(workshop: Workshop) -> Task:
    return workshop.base({"cart.py": b"one\ntwo\nthree\n", "README.md": b"hello\n"})


@pytest.fixture
def left(workshop: Workshop, task: Task, make_run: Callable[..., Run]) -> Callable[..., Run]:
    """A run that is over and has left these files."""

    def make(files: dict[str, bytes | None]) -> Run:
        run = make_run(task, status="succeeded")
        workshop.git("reset", "-q", "--hard")
        workshop.git("clean", "-qfd")
        workshop.patch(run.turns.get(), files)
        return run

    return make


def test_comments_are_drafted_edited_deleted_and_sent(alices: Program, left: Callable[..., Run]) -> None:
    run = left({"cart.py": b"one\nTWO\nthree\n"})
    address = f"/runs/{run.pk}/comments"
    draft = alices.post(address, {"path": "cart.py", "start": 2, "end": 2, "body": "Why so loud?"})
    assert (draft.status, draft.body["quote"].strip(), draft.body["is_draft"]) == (201, "TWO", True)
    edited = alices.ask("PATCH", f"{address}/{draft.body['id']}", {"body": "Quieter."})
    assert (edited.status, edited.body["body"]) == (200, "Quieter.")
    other = alices.post(address, {"path": "cart.py", "side": "old", "start": 1, "end": 3, "body": "Hm."}).body["id"]
    assert alices.ask("DELETE", f"{address}/{other}").status == 204
    sent = alices.post(f"{address}/send", {"comments": [draft.body["id"]], "message": "Please:"})
    assert (sent.status, sent.body["number"], "Quieter." in sent.body["prompt"]) == (201, 2, True)
    listed = alices.get(address).body["items"]
    assert [(one["body"], one["is_draft"], one["turn"]) for one in listed] == [("Quieter.", False, 2)]
    assert alices.ask("PATCH", f"{address}/{draft.body['id']}", {"body": "Too late."}).status == 409


def test_a_comment_needs_a_line_of_a_changed_file(alices: Program, left: Callable[..., Run]) -> None:
    run = left({"cart.py": b"one\nTWO\nthree\n"})
    address = f"/runs/{run.pk}/comments"
    assert alices.post(address, {"path": "README.md", "start": 1, "end": 1, "body": "x"}).status == 404
    assert alices.post(address, {"path": "cart.py", "start": 9, "end": 9, "body": "x"}).status == 422
    assert alices.post(address, {"path": "cart.py", "start": 2, "end": 1, "body": "x"}).status == 422


def test_drafts_are_ones_own(alices: Program, bobs: Program, bob: User, left: Callable[..., Run]) -> None:
    run = left({"cart.py": b"one\nTWO\nthree\n"})
    draft = alices.post(f"/runs/{run.pk}/comments", {"path": "cart.py", "start": 2, "end": 2, "body": "x"}).body["id"]
    assert bobs.ask("DELETE", f"/runs/{run.pk}/comments/{draft}").status == 404


def test_runs_are_compared_file_by_file(alices: Program, task: Task, left: Callable[..., Run], make_run: Callable[..., Run]) -> None:
    first = left({"cart.py": b"one\nTWO\nthree\n", "README.md": b"hello there\n"})
    second = left({"cart.py": None, "README.md": b"hello there\n", "new.py": b"x\n"})
    make_run(task)
    said = alices.get(f"/tasks/{task.pk}/comparison").body
    assert [(one["run"]["id"], one["only"], one["conflicts"]) for one in said["runs"]] == [(first.pk, 0, []), (second.pk, 1, [])]
    files = {file["path"]: file for file in said["files"]}
    assert files.keys() == {"cart.py", "README.md", "new.py"}
    assert files["README.md"]["is_agreed"]
    assert [cell and cell["status"] for cell in files["new.py"]["cells"]] == [None, "added"]
    assert (said["total"], said["agreed"], said["shared"], said["next"]) == (3, 1, 2, None)


def test_a_comparison_comes_in_parts_and_of_chosen_runs(alices: Program, task: Task, left: Callable[..., Run]) -> None:
    first = left({"cart.py": b"a\n", "README.md": b"b\n"})
    left({"cart.py": b"a\n"})
    part = alices.get(f"/tasks/{task.pk}/comparison?order=path&limit=1").body
    rest = alices.get(part["next"]).body
    assert [file["path"] for file in part["files"] + rest["files"]] == ["README.md", "cart.py"]
    assert rest["next"] is None
    assert [one["run"]["id"] for one in alices.get(f"/tasks/{task.pk}/comparison?runs={first.pk}").body["runs"]] == [first.pk]
    assert alices.get(f"/tasks/{task.pk}/comparison?runs=1").status == 404


def test_a_comparison_asks_no_more_of_more_runs(alices: Program, task: Task, left: Callable[..., Run]) -> None:
    for number in range(2):
        left({"cart.py": b"%d\n" % number})
    with CaptureQueriesContext(connection) as few:
        alices.get(f"/tasks/{task.pk}/comparison")
    for number in range(3):
        left({"cart.py": b"more %d\n" % number})
    with CaptureQueriesContext(connection) as many:
        assert len(alices.get(f"/tasks/{task.pk}/comparison").body["runs"]) == 5
    assert len(many) <= len(few) + 3  # the tree of a patch is written down once
    assert len(many) <= 25


def test_a_task_without_patches_compares_nothing(alices: Program, make_run: Callable[..., Run]) -> None:
    said = alices.get(f"/tasks/{make_run().task_id}/comparison").body
    assert said == {"runs": [], "files": [], "total": 0, "agreed": 0, "shared": 0, "next": None}
