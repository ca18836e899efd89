"""The pages of webhooks and e-mail: made, tried, looked at, sent again and removed, each by their owner alone."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from tasks import outgoing
from tasks.models import OutgoingDelivery, OutgoingState, OutgoingWebhook, User

pytestmark = pytest.mark.django_db
PAGE = "/settings/webhooks/"
URL = "https://hooks.example.org/alice"


def words(response: Any) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", response.content.decode())).split())


@pytest.fixture
def hook(alice: User) -> OutgoingWebhook:
    return outgoing.add(by=alice, url=URL, events=["run.failed"])[0]


def test_the_secret_is_shown_once(as_alice: Client) -> None:
    made = as_alice.post(PAGE, {"url": URL, "events": ["run.finished"]})
    secret = OutgoingWebhook.objects.get().secret
    assert f'value="{secret}"' in made.content.decode()
    assert "no-store" in made.headers["Cache-Control"]
    again = as_alice.get(PAGE).content.decode()
    assert (URL in again, secret in again) == (True, False)


def test_what_is_wrong_is_said_where_it_was_typed(as_alice: Client) -> None:
    refused = as_alice.post(PAGE, {"url": "https://10.0.0.1/", "events": ["run.finished"]})
    assert refused.status_code == 422
    assert "10.0.0.1 is a private or local address" in words(refused)
    assert 'value="https://10.0.0.1/"' in refused.content.decode()
    assert not OutgoingWebhook.objects.exists()


def test_it_is_changed_tried_and_removed(as_alice: Client, hook: OutgoingWebhook) -> None:
    page = f"{PAGE}{hook.pk}/"
    assert as_alice.post(page, {"url": URL, "events": []}).status_code == 422
    as_alice.post(page, {"url": f"{URL}/2", "events": ["run.waiting"]})
    hook.refresh_from_db()
    assert (hook.url, hook.events, hook.is_active) == (f"{URL}/2", ["run.waiting"], False)
    as_alice.post(f"{page}test")
    assert "A message to try it" in words(as_alice.get(page))
    assert "Its log and its secret go with it." in words(as_alice.get(f"{page}remove"))
    as_alice.post(f"{page}remove")
    assert not OutgoingDelivery.objects.exists()


def test_the_log_shows_what_was_answered_as_text(as_alice: Client, hook: OutgoingWebhook, alice: User) -> None:
    said = {"event": "run.failed", "task": {"title": "<script>alert(1)</script>"}}
    row = OutgoingDelivery.objects.create(
        owner=alice, webhook=hook, event="run.failed", payload=said, state=OutgoingState.FAILED, attempts=8, status=500, answer="<b>no</b>"
    )
    page = as_alice.get(f"{PAGE}{hook.pk}/")
    assert "Given up, answered 500" in words(page)
    assert "&lt;b&gt;no&lt;/b&gt;" in page.content.decode()
    assert "<script>alert" not in page.content.decode()
    as_alice.post(f"{PAGE}messages/{row.pk}/again")
    row.refresh_from_db()
    assert (row.state, row.attempts) == ("due", 0)
    assert "It is under way already." in words(as_alice.post(f"{PAGE}messages/{row.pk}/again", follow=True))


def test_mails_are_chosen_by_who_has_an_address(as_alice: Client, alice: User, settings: Settings) -> None:
    assert "no mail server" in words(as_alice.get(PAGE))
    settings.SENDS_EMAIL = True
    refused = as_alice.post(f"{PAGE}mails", {"events": ["run.finished"]})
    assert (refused.status_code, "under Profile" in words(refused)) == (422, True)
    alice.email = "alice@example.org"
    alice.save()
    as_alice.post(f"{PAGE}mails", {"events": ["run.waiting", "run.finished"]})
    alice.refresh_from_db()
    assert alice.email_events == ["run.finished", "run.waiting"]
    as_alice.post(f"{PAGE}mails", {})
    alice.refresh_from_db()
    assert alice.email_events == []


def test_they_are_nobody_elses(as_bob: Client, hook: OutgoingWebhook, alice: User) -> None:
    row = OutgoingDelivery.objects.create(owner=alice, webhook=hook, event="test", payload={}, state=OutgoingState.FAILED)
    assert URL not in as_bob.get(PAGE).content.decode()
    for address in (f"{hook.pk}/", f"{hook.pk}/test", f"{hook.pk}/remove", f"messages/{row.pk}/again"):
        assert as_bob.post(f"{PAGE}{address}").status_code == 404
