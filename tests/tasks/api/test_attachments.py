"""Files for prompts by the API: uploaded, named by tasks and follow-ups, downloaded as bytes that do nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tasks import attachments
from tasks.models import Attachment, Repo, Run, Task, Turn
from tests.tasks.api.conftest import Program
from tests.tasks.api.test_tasks import repo as repo

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    return make_run(status="succeeded")


def test_a_file_goes_with_every_run_of_a_task(alices: Program, repo: Repo) -> None:
    stored = alices.upload("/attachments", b"notes")
    assert (stored.status, stored.body["name"], stored.body["size"]) == (201, "notes.txt", 5)
    body = {"repo": repo.pk, "prompt": "true", "agents": [{"agent": "shell", "attempts": 2}], "attachments": [stored.body["id"]]}
    task = alices.post("/tasks", body)
    assert task.status == 201
    for run in task.body["runs"]:
        assert alices.get(f"/runs/{run['id']}/turns/1").body["attachments"] == [stored.body]


def test_files_go_with_follow_ups(alices: Program, run: Run) -> None:
    ids = [alices.upload("/attachments", b"x", name).body["id"] for name in ("a.txt", "b.txt")]
    turn = alices.post(f"/runs/{run.pk}/turns", {"prompt": "more", "attachments": ids})
    assert (turn.status, [file["name"] for file in turn.body["attachments"]]) == (201, ["a.txt", "b.txt"])
    assert alices.post(f"/tasks/{run.task_id}/turns", {"runs": [run.pk], "prompt": "again", "attachments": ids[:1]}).status == 200
    assert Turn.objects.get(prompt="again").attachments.get().pk == ids[0]


def test_drafts_are_told_from_what_was_sent_and_can_be_deleted(alices: Program, run: Run) -> None:
    draft, sent = (alices.upload("/attachments", b"x").body["id"] for _ in range(2))
    alices.post(f"/runs/{run.pk}/turns", {"prompt": "more", "attachments": [sent]})
    alices.post(f"/runs/{run.pk}/turns", {"prompt": "again", "attachments": [sent]})

    def listed(query: str = "") -> list[int]:
        return [file["id"] for file in alices.get(f"/attachments{query}").body["items"]]

    assert (listed(), listed("?is_draft=true"), listed("?is_draft=false")) == ([sent, draft], [draft], [sent])
    assert alices.ask("DELETE", f"/attachments/{sent}").status == 409
    assert alices.ask("DELETE", f"/attachments/{draft}").status == 204
    assert listed() == [sent]


def test_a_file_comes_back_as_bytes_that_do_nothing(alices: Program) -> None:
    script = b"<script>alert(1)</script>"
    stored = alices.upload("/attachments", script, "page.html").body
    assert alices.get(f"/attachments/{stored['id']}").body == stored
    answer = alices.get(f"/attachments/{stored['id']}/content")
    assert (answer.content, answer.headers["Content-Type"]) == (script, "application/octet-stream")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="page.html"'
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("name", "kept"), [("../../etc/passwd", "passwd"), (".env", "env"), ("a\u202egpj.exe", "agpj.exe"), ("--rf", "rf")]
)
def test_names_are_made_safe(alices: Program, name: str, kept: str) -> None:
    assert alices.upload("/attachments", b"x", name).body["name"] == kept


def test_what_is_too_much_is_refused_in_words(alices: Program, run: Run, repo: Repo) -> None:
    for content, sentence in ((b"", "is empty"), (bytes(attachments.MOST_BYTES + 1), "are the most for one file")):
        answer = alices.upload("/attachments", content)
        assert (answer.status, sentence in answer.body["detail"]) == (422, True)
    assert alices.post("/attachments", {"file": "x"}).status == 422
    assert not Attachment.objects.exists()
    many = {"prompt": "more", "attachments": list(range(1, attachments.MOST_FILES + 2))}
    assert alices.post(f"/runs/{run.pk}/turns", many).status == 422


def test_files_of_others_and_files_that_are_gone_are_not_there(alices: Program, bobs: Program, run: Run, repo: Repo) -> None:
    bobs_file = bobs.upload("/attachments", b"x").body["id"]
    task = {"prompt": "true", "agents": [{"agent": "shell"}], "attachments": [bobs_file]}
    for path, body in (
        (f"/runs/{run.pk}/turns", {"prompt": "more", "attachments": [bobs_file]}),
        (f"/tasks/{run.task_id}/turns", {"runs": [run.pk], "prompt": "more", "attachments": [bobs_file]}),
        ("/tasks", task | {"repo": repo.pk}),
        ("/tasks", task | {"repo": "https://example.org/new.git"}),
    ):
        answer = alices.post(path, body)
        assert (answer.status, answer.body["errors"][0]["field"]) == (422, "attachments"), path
    assert (Turn.objects.count(), Task.objects.count()) == (1, 1)
    assert not Repo.objects.filter(source="https://example.org/new.git").exists()


def test_an_upload_that_is_sent_twice_is_stored_once(alices: Program) -> None:
    first, second = (alices.upload("/attachments", b"one", key="file") for _ in range(2))
    assert (first.body, second.headers["Idempotent-Replayed"]) == (second.body, "true")
    assert alices.upload("/attachments", b"two", key="file").body["code"] == "idempotency_key_reused"
    assert alices.upload("/attachments", b"one", "other.txt", key="file").body["code"] == "idempotency_key_reused"
    assert Attachment.objects.count() == 1


def test_turns_ask_no_more_when_there_are_more_files(alices: Program, run: Run) -> None:
    ids = [alices.upload("/attachments", b"x").body["id"] for _ in range(4)]
    alices.post(f"/runs/{run.pk}/turns", {"prompt": "one", "attachments": ids[:1]})
    with CaptureQueriesContext(connection) as few:
        alices.get(f"/runs/{run.pk}/turns")
    for _ in range(3):
        alices.post(f"/runs/{run.pk}/turns", {"prompt": "more", "attachments": ids})
    with CaptureQueriesContext(connection) as many:
        alices.get(f"/runs/{run.pk}/turns")
    assert len(many) == len(few)
    assert not any('."content"' in query["sql"] for query in many.captured_queries)
