"""The address at which GitHub's webhooks arrive."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from tasks.github import webhooks
from tasks.models import Delivery, GitHubApp
from tests.tasks.github.deliveries import SECRET, about, closed, signature

pytestmark = pytest.mark.django_db
PUSH = json.dumps(about(ref="refs/heads/main")).encode()


@pytest.fixture(autouse=True)
def _secret(settings: Settings) -> None:
    settings.GITHUB_WEBHOOK_SECRET = SECRET


@pytest.fixture
def github() -> Client:
    """Whoever sends without a session and without a token against forgery of forms."""
    return Client(enforce_csrf_checks=True)


def send(
    client: Client, body: bytes = PUSH, *, content_type: str = "application/json", path: str = "/github/webhook", **headers: str
) -> Any:
    given = {
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "X-Hub-Signature-256": signature(body),
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, body, content_type=content_type, headers=given)


def test_a_delivery_is_answered_at_once_and_waits_for_a_job(github: Client) -> None:
    response = send(github)
    assert (response.status_code, response.content) == (202, b"Received.")
    delivery = Delivery.objects.get()
    assert (delivery.delivery_id, delivery.event, delivery.status) == ("72d3162e-cc78-11e3-81ab-4c9367dc0958", "push", "queued")


@pytest.mark.parametrize("is_set", [True, False])
def test_what_is_signed_with_the_github_apps_secret_is_taken_too(github: Client, settings: Settings, is_set: bool) -> None:
    settings.GITHUB_WEBHOOK_SECRET = SECRET if is_set else ""
    app = GitHubApp(app_id=7, slug="ours", name="ours", html_url=f"{settings.GITHUB_URL}/apps/ours", owner="octo", client_id="Iv1")
    app.client_secret, app.private_key, app.webhook_secret = "client", "pem", "of the app"
    app.save()
    assert send(github, X_Hub_Signature_256=signature(PUSH, "of the app")).status_code == 202
    assert send(github, X_Hub_Signature_256=signature(PUSH, "of another")).status_code == 403
    assert send(github).status_code == (200 if is_set else 403)
    app.webhook_secret = ""
    app.save()
    assert send(github, X_Hub_Signature_256=signature(PUSH, "")).status_code == (403 if is_set else 404)


def test_the_same_delivery_is_taken_once(github: Client) -> None:
    send(github)
    response = send(github)
    assert (response.status_code, response.content) == (200, b"This was received before.")
    assert Delivery.objects.count() == 1


def test_without_a_secret_there_is_no_such_address(github: Client, settings: Settings) -> None:
    settings.GITHUB_WEBHOOK_SECRET = ""
    assert send(github, X_Hub_Signature_256=signature(PUSH, "")).status_code == 404
    assert not Delivery.objects.exists()


@pytest.mark.parametrize(
    "wrong",
    ["", signature(PUSH, "guessed"), signature(PUSH + b" "), signature(PUSH).removeprefix("sha256="), signature(PUSH).upper(), "sha256=é"],
)
def test_what_is_not_signed_with_our_secret_is_refused(github: Client, wrong: str) -> None:
    response = send(github, X_Hub_Signature_256=wrong)
    assert response.status_code == 403
    assert "GITHUB_WEBHOOK_SECRET" in response.content.decode()
    assert not Delivery.objects.exists()


def test_nothing_is_parsed_before_the_signature_is_found_good(github: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "receive", lambda **_: pytest.fail("It was parsed."))
    assert send(github, b"{", X_Hub_Signature_256=signature(b"[")).status_code == 403


def test_the_signature_is_of_the_bytes_and_not_of_what_they_mean(github: Client) -> None:
    body = '{ "repository" : {"full_name":"octo/h\\u0065llo"},  "ref":"é" }\n'.encode()
    assert send(github, body).status_code == 202
    assert Delivery.objects.get().repository == "octo/hello"


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"])
def test_only_json_is_taken(github: Client, content_type: str) -> None:
    response = send(github, content_type=content_type)
    assert response.status_code == 415
    assert "application/json" in response.content.decode()


def test_what_declares_to_be_too_big_is_not_read(github: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "is_signed", lambda *_: pytest.fail("It was read."))
    assert send(github, Content_Length=str(webhooks.MOST_BYTES + 1)).status_code == 413


@pytest.mark.parametrize(("over", "status"), [(0, 202), (1, 413)])
def test_no_more_is_read_than_github_sends(github: Client, monkeypatch: pytest.MonkeyPatch, over: int, status: int) -> None:
    monkeypatch.setattr(webhooks, "MOST_BYTES", len(PUSH) - over)
    assert send(github, Content_Length=str(len(PUSH) - over)).status_code == (403 if over else 202)
    assert send(github, X_GitHub_Delivery="2").status_code == status


def test_more_than_a_form_may_hold_is_taken(github: Client, settings: Settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    body = json.dumps(closed(at="10:00:00")).encode()
    assert len(body) > 1000
    assert send(github, body, X_GitHub_Event="pull_request").status_code == 202


@pytest.mark.parametrize("headers", [{"X_GitHub_Delivery": ""}, {"X_GitHub_Delivery": "../1"}, {"X_GitHub_Event": "<b>"}])
def test_headers_that_nothing_can_be_kept_by_are_refused(github: Client, headers: dict[str, str]) -> None:
    assert send(github, **headers).status_code == 400
    assert not Delivery.objects.exists()


@pytest.mark.parametrize("body", [b"null", b"{", b"\xff\xfe", b"[" * 200_000])
def test_a_signed_body_that_cannot_be_used_is_refused_in_a_sentence_and_kept(github: Client, body: bytes) -> None:
    response = send(github, body)
    assert response.status_code == 400
    assert response.content.decode() == Delivery.objects.get().outcome
    assert Delivery.objects.get().status == "failed"


def test_it_takes_nothing_but_post(github: Client) -> None:
    assert github.get("/github/webhook").status_code == 405


def test_a_session_changes_nothing(as_alice: Client) -> None:
    assert send(as_alice, X_Hub_Signature_256="").status_code == 403


def test_it_asks_the_database_a_few_times_only(github: Client) -> None:
    with CaptureQueriesContext(connection) as queries:
        send(github)
    assert len(queries) <= 8
