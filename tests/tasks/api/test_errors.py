"""Everything that goes wrong is a problem of RFC 9457, wherever it comes from."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from tasks import services
from tasks.errors import AppError, Conflict, InvalidInput, NotAllowed, RepoUnavailable
from tasks.github_api.errors import RateLimited, TokenRefused, Unavailable
from tasks.models import Run
from tasks.running.quotas import QuotaUsedUp
from tests.tasks.api.conftest import Answer, Program

pytestmark = pytest.mark.django_db


def is_problem(answer: Answer, status: int) -> bool:
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.body.keys() == {"type", "title", "status", "detail", "instance", "code", "errors"}
    assert answer.body["status"] == answer.status
    assert answer.body["detail"]
    assert answer.body["instance"].startswith("/api/")
    return answer.status == status


def test_what_a_verb_refuses(alices: Program, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    soon = timezone.now() + timedelta(seconds=30)
    refusals: list[tuple[AppError, int, str]] = [
        (InvalidInput("No.", field="prompt"), 422, "invalid"),
        (NotAllowed("No."), 403, "not_allowed"),
        (Conflict("No."), 409, "conflict"),
        (RepoUnavailable("No."), 409, "repo_unavailable"),
        (TokenRefused("No."), 403, "token_refused"),
        (Unavailable("No."), 503, "github_unavailable"),
        (RateLimited("No.", until=soon), 429, "github_rate_limited"),
        (QuotaUsedUp("No."), 429, "quota_used_up"),
        (AppError("No."), 409, "error"),
    ]
    for error, status, code in refusals:
        monkeypatch.setattr(services, "cancel_run", _raising(error))
        answer = alices.post(f"/runs/{run.pk}/stop")
        assert is_problem(answer, status)
        assert (answer.body["detail"], answer.body["code"]) == ("No.", code)
        assert answer.body["errors"] == ([{"field": "prompt", "message": "No."}] if status == 422 else [])
        assert ("Retry-After" in answer.headers) == (status in (429, 503))


def _raising(error: Exception) -> Callable[..., Any]:
    def fail(**_: Any) -> None:
        raise error

    return fail


def test_a_body_that_is_wrong_says_where(alices: Program) -> None:
    answer = alices.post("/tasks", {"repo": 1, "prompt": " ", "agents": [{"agent": "shell", "attempts": 0}], "promt": "x"})
    assert is_problem(answer, 422)
    assert {error["field"] for error in answer.body["errors"]} == {"prompt", "agents.0.attempts", "promt"}
    assert answer.body["code"] == "invalid"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'"\\ud800"', b"[" * 100_000])
def test_a_body_that_is_no_json(alices: Program, body: bytes) -> None:
    answer = alices.ask("POST", "/tasks", body)
    assert is_problem(answer, answer.status)
    assert answer.status in (400, 422)


def test_text_that_no_database_can_hold(alices: Program) -> None:
    for prompt in ("a\0b", "\ud800"):
        answer = alices.ask("POST", "/tasks", json.dumps({"repo": 1, "prompt": prompt, "agents": [{"agent": "shell"}]}))
        assert is_problem(answer, 422), answer


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=x", "state=x", "repo=99999999999999999999"])
def test_a_query_that_is_wrong(alices: Program, query: str) -> None:
    answer = alices.get(f"/tasks?{query}")
    assert is_problem(answer, 422)
    assert [error["field"] for error in answer.body["errors"]] == [query.partition("=")[0]]


@pytest.mark.parametrize("path", ["/nowhere", "/", "/tasks/", "/tasks/x", "/tasks/999999999", f"/tasks/{10**30}", "/runs/-1"])
def test_what_is_not_there(alices: Program, path: str) -> None:
    answer = alices.get(path)
    assert is_problem(answer, 422 if "000" in path else 404)


def test_a_method_that_an_address_does_not_take(alices: Program) -> None:
    answer = alices.ask("DELETE", "/tasks")
    assert is_problem(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "POST"}


def test_an_address_that_cannot_be(alices: Program) -> None:
    assert is_problem(alices.get("/tasks?q=%00"), 400)


def test_a_body_that_is_too_large(alices: Program) -> None:
    assert is_problem(alices.ask("POST", "/repos", json.dumps({"source": "x" * 5 * 2**20})), 413)


def test_what_breaks_here_tells_nothing_of_it(alices: Program, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    monkeypatch.setattr(services, "cancel_run", _raising(ValueError("a secret")))
    answer = alices.post(f"/runs/{run.pk}/stop")
    assert is_problem(answer, 500)
    assert b"secret" not in answer.content
    monkeypatch.setattr(services, "cancel_run", _raising(OperationalError("a secret")))
    answer = alices.post(f"/runs/{run.pk}/stop")
    assert is_problem(answer, 503)
    assert answer.headers["Retry-After"]
    assert b"secret" not in answer.content


def test_pages_have_their_own_words(client: Client) -> None:
    for path in ("/nowhere", "/?q=%00"):
        assert client.get(path).headers["Content-Type"].startswith("text/html")
