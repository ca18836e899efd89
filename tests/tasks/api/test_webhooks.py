"""Webhooks by the API: what became of each message, and sending one again."""

from __future__ import annotations

import pytest

from tasks import outgoing
from tasks.models import OutgoingDelivery, OutgoingState, OutgoingWebhook, User
from tests.tasks.api.conftest import Program

pytestmark = pytest.mark.django_db


@pytest.fixture
def hook(alice: User) -> OutgoingWebhook:
    return outgoing.add(by=alice, url="https://hooks.example.org/alice", events=["run.failed"])[0]


def told(hook: OutgoingWebhook, **fields: object) -> OutgoingDelivery:
    return hook.deliveries.create(owner=hook.owner, event="run.failed", payload={"event": "run.failed"}, **fields)


def test_a_webhook_is_shown_without_its_secret(alices: Program, hook: OutgoingWebhook) -> None:
    (shown,) = alices.get("/webhooks").body["items"]
    assert (shown["id"], shown["url"], shown["events"], shown["is_active"]) == (hook.pk, hook.url, ["run.failed"], True)
    assert alices.get(f"/webhooks/{hook.pk}").body == shown
    assert hook.secret not in str(shown)


def test_its_messages_tell_how_they_stand(alices: Program, hook: OutgoingWebhook) -> None:
    given_up = told(hook, state=OutgoingState.FAILED, attempts=8, status=500, answer="<b>no</b>")
    due = told(hook, attempts=1)
    newest, oldest = alices.get(f"/webhooks/{hook.pk}/deliveries").body["items"]
    assert (newest["key"], newest["state"], newest["attempts"], newest["due_at"] is None) == (due.key, "due", 1, False)
    assert (oldest["id"], oldest["status"], oldest["answer"], oldest["due_at"]) == (given_up.pk, 500, "<b>no</b>", None)
    assert oldest["payload"] == {"event": "run.failed"}
    assert [one["id"] for one in alices.get(f"/webhooks/{hook.pk}/deliveries?state=failed").body["items"]] == [given_up.pk]
    page = alices.get(f"/webhooks/{hook.pk}/deliveries?limit=1").body
    assert [one["id"] for one in alices.get(page["next"]).body["items"]] == [given_up.pk]


def test_one_is_sent_again_once(alices: Program, hook: OutgoingWebhook) -> None:
    over = told(hook, state=OutgoingState.FAILED, attempts=8)
    address = f"/webhooks/{hook.pk}/deliveries/{over.pk}/redeliver"
    first, second = (alices.post(address, key="again") for _ in range(2))
    assert (first.status, first.body["state"], first.body["attempts"]) == (202, "due", 0)
    assert (second.body, second.headers["Idempotent-Replayed"]) == (first.body, "true")
    refused = alices.post(address)
    assert (refused.status, refused.body["detail"]) == (409, "It is under way already.")


def test_a_message_is_found_at_its_own_webhook_only(alices: Program, hook: OutgoingWebhook, alice: User) -> None:
    other = outgoing.add(by=alice, url="https://hooks.example.org/other", events=["run.failed"])[0]
    over = told(other, state=OutgoingState.FAILED)
    assert alices.post(f"/webhooks/{hook.pk}/deliveries/{over.pk}/redeliver").status == 404


def test_operators_send_nobody_elses_by_the_api(bobs: Program, bob: User, hook: OutgoingWebhook) -> None:
    bob.is_staff = True
    bob.save()
    over = told(hook, state=OutgoingState.FAILED)
    assert bobs.post(f"/webhooks/{hook.pk}/deliveries/{over.pk}/redeliver").status == 404
