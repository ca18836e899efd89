"""Who may ask: programs with a token that is good, and nobody by a session."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from tasks import attachments, limits, outgoing, tokens
from tasks.models import ApiToken, Run, Task, User
from tests.tasks.api.conftest import Program

pytestmark = pytest.mark.django_db


def test_a_token_says_whose_it_is(program: Callable[..., Program], bob: User) -> None:
    answer = program(bob, "read").get("/me")
    assert answer.status == 200
    assert {name: answer.body[name] for name in ("username", "is_operator", "scope")} == {
        "username": "bob",
        "is_operator": False,
        "scope": "read",
    }


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer ac_wrong", "Basic YWxpY2U6eA==", "ac_wrong"])
def test_without_a_good_token_nothing_is_told(header: str, alice: User) -> None:
    answer = Program("").get("/me", **({"Authorization": header} if header else {}))
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "settings page" in answer.body["detail"]


def test_a_session_is_no_token(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert client.get("/api/v1/me").status_code == 401
    assert client.post("/api/v1/tasks", "{}", content_type="application/json").status_code == 401


def test_a_token_that_reads_changes_nothing(program: Callable[..., Program], alice: User, make_run: Callable[..., Run]) -> None:
    run = make_run()
    reader = program(alice, "read")
    assert reader.get(f"/runs/{run.pk}").status == 200
    for method, path in (
        ("POST", f"/runs/{run.pk}/stop"),
        ("DELETE", f"/repos/{run.task.repo_id}"),
        ("PATCH", f"/repos/{run.task.repo_id}"),
    ):
        answer = reader.ask(method, path, {})
        assert (answer.status, answer.body["code"]) == (403, "insufficient_scope")
        assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
    run.refresh_from_db()
    assert run.status == "queued"


def test_a_revoked_token_is_none(alices: Program, alice: User) -> None:
    assert alices.get("/me").status == 200
    tokens.revoke_token(token=alice.api_tokens.get(), by=alice)
    assert alices.get("/me").status == 401


def test_the_last_use_of_a_token_is_kept(alices: Program) -> None:
    alices.get("/me")
    assert ApiToken.objects.get().last_used_at is not None


def test_bad_tokens_are_counted_and_good_ones_never(alices: Program) -> None:
    bad = Program("ac_" + "0" * 43)
    answers = [bad.get("/me") for _ in range(limits.TOKENS.most + 5)]
    assert {answer.status for answer in answers} == {401, 429}
    assert int(answers[-1].headers["Retry-After"]) <= limits.TOKENS.seconds
    assert alices.get("/me").status == 200


def test_what_belongs_to_others_is_not_there(bobs: Program, make_run: Callable[..., Run], make_task: Callable[..., Task]) -> None:
    """Every address that names something of alice's."""
    run = make_run(status="succeeded")
    task, repo, turn, alice = run.task_id, run.task.repo_id, run.turns.get().number, run.task.owner
    artifact = run.artifacts.create(turn=run.turns.get(), path="a", content=b"a", size=1, sha256="0" * 64)
    (attachment,) = attachments.store(by=alice, files=[SimpleUploadedFile("a", b"a")])
    webhook, _ = outgoing.add(by=alice, url="https://example.org/", events=["run.failed"])
    delivery = webhook.deliveries.create(owner=alice, event="test", payload={}, state="failed")
    body = {"prompt": "x", "runs": [run.pk], "plan": "x", "after": 1, "to": 0, "value": "x", "method": "merge", "head_sha": "0" * 40}
    body |= {"path": "a", "start": 1, "end": 1, "body": "x", "comments": [1]}
    schema = Program("").get("/openapi.json").body
    ids = {"task_id": task, "repo_id": repo, "run_id": run.pk, "number": turn, "name": "A", "comment_id": 1}
    ids |= {"artifact_id": artifact.pk, "attachment_id": attachment.pk, "webhook_id": webhook.pk, "delivery_id": delivery.pk}
    asked = 0
    for path, methods in schema["paths"].items():
        if "{" not in path:
            continue
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            named = next(iter(content.values()))["schema"].get("$ref", "").rpartition("/")[2] if content else ""
            fields = schema["components"]["schemas"][named]["properties"] if named else {}
            sent = {name: value for name, value in body.items() if name in fields} if named else None
            answer = bobs.ask(method.upper(), path.format(**ids), sent)
            assert answer.status == 404, (method, path, answer)
            asked += 1
    assert asked > 25
    assert [bobs.get(path).body["items"] for path in ("/tasks", "/runs", "/repos", "/attachments", "/webhooks")] == [[]] * 5
