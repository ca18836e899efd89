"""What programs and people elsewhere are told of runs: written down with what happened, signed, tried again, and bounded."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.conf import settings
from django.core import mail
from django.utils import timezone
from pytest_django import Settings

from tasks import outgoing
from tasks.errors import AppError, Conflict, InvalidInput
from tasks.github import sightings
from tasks.models import OutgoingDelivery, OutgoingEvent, OutgoingState, OutgoingWebhook, PullRequest, Run, RunStatus, Turn, User
from tasks.running import delivering, jobs, lifecycle

pytestmark = pytest.mark.django_db
ALL = list(OutgoingEvent.values)
DOCUMENT = settings.BASE_DIR / "docs/webhooks.md"  # the receiver there is what looks at the signature here
MakeRun = Callable[..., Run]


@dataclass
class Receiver:
    """Somebody's server: what it got, and what it answers."""

    url: str = ""
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver(settings: Settings) -> Iterator[Receiver]:
    there = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            there.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, content))
            self.send_response(there.status)
            for name, value in there.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(there.body)

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    there.url = f"http://127.0.0.1:{server.server_address[1]}/hook?to=me"
    settings.ALLOW_PRIVATE_HOSTS = frozenset({f"127.0.0.1:{server.server_address[1]}"})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield there
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def hook(receiver: Receiver, alice: User) -> OutgoingWebhook:
    return outgoing.add(by=alice, url=receiver.url, events=ALL)[0]


def end(run: Run, to: str = "succeeded", **fields: Any) -> None:
    assert lifecycle.finish(run.pk, source=[RunStatus.RUNNING], to=RunStatus(to), **fields)


def only() -> OutgoingDelivery:
    return OutgoingDelivery.objects.get()


def said() -> list[str]:
    return list(OutgoingDelivery.objects.order_by("pk").values_list("event", flat=True))


# --- what is told -------------------------------------------------------------------------------------------------------


def test_the_end_of_a_run_is_posted_signed(hook: OutgoingWebhook, receiver: Receiver, make_run: MakeRun) -> None:
    run = make_run(status="running")
    end(run, "failed", error="It broke.", stage="agent")
    jobs.deliver(only().pk)
    [(path, headers, body)] = receiver.got
    assert path == "/hook?to=me"
    content = json.loads(body)
    assert (content["event"], content["id"], content["run"]["status"], content["run"]["error"]) == (
        "run.failed",
        headers["webhook-id"],
        "failed",
        "It broke.",
    )
    assert content["task"]["title"] == run.task.title
    assert content["run"]["url"].endswith(run.get_absolute_url())
    receiver: dict[str, Any] = {}
    exec(re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)[0], receiver)
    assert receiver["is_genuine"](hook.secret, headers, body)
    assert not receiver["is_genuine"](hook.secret, headers, body + b" ")
    assert (only().state, only().status, only().attempts) == (OutgoingState.DELIVERED, 204, 1)


@pytest.mark.parametrize(
    ("to", "event"),
    [
        ("succeeded", "run.finished"),
        ("errored", "run.failed"),
        ("interrupted", "run.failed"),
        ("waiting", "run.waiting"),
        ("canceled", None),
    ],
)
def test_each_end_is_what_it_is_called(hook: OutgoingWebhook, make_run: MakeRun, to: str, event: str | None) -> None:
    end(make_run(status="running"), to)
    assert said() == ([event] if event else [])


def test_what_goes_on_is_hidden_or_was_not_asked_for_is_not_told(
    hook: OutgoingWebhook, make_run: MakeRun, make_task: Callable[..., Any], alice: User
) -> None:
    goes_on = make_run(status="running")
    Turn.objects.create(run=goes_on, number=2, prompt="more", author=alice, status="queued")
    end(goes_on)
    end(make_run(make_task(is_trial=True), status="running"))
    OutgoingWebhook.objects.update(events=["run.failed"])
    end(make_run(status="running"))
    OutgoingWebhook.objects.update(is_active=False)
    end(make_run(status="running"), "failed")
    assert said() == []


def test_nobody_hears_of_somebody_elses_runs(hook: OutgoingWebhook, make_run: MakeRun, bob: User) -> None:
    end(make_run(owner=bob, status="running"))
    assert said() == []


def test_states_of_a_pull_request_are_told_once_each(hook: OutgoingWebhook, make_run: MakeRun) -> None:
    row = PullRequest.objects.create(run=make_run(status="succeeded"), repository="a/b", number=3, url="https://x/3", branch="b")
    for _ in range(2):
        sightings.see(row.pk, sightings.Sighting(at=timezone.now(), state=sightings.PullRequestState.MERGED))
    assert (said(), only().payload["pull_request"]["state"]) == (["pull_request.changed"], "merged")


# --- again and again ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [{"status": 500, "body": b"busy"}, {"status": 302, "headers": {"Location": "http://127.0.0.1:9/"}}])
def test_what_is_not_taken_is_tried_again_later_with_the_same_id(
    hook: OutgoingWebhook, receiver: Receiver, make_run: MakeRun, answer: dict[str, Any]
) -> None:
    end(make_run(status="running"))
    for name, value in answer.items():
        setattr(receiver, name, value)
    jobs.deliver_due()
    jobs.deliver_due()  # not yet
    row = only()
    assert (row.state, row.status, row.answer, row.attempts) == ("due", answer["status"], answer.get("body", b"").decode(), 1)
    assert timedelta(seconds=5) < row.due_at - timezone.now() < timedelta(seconds=11)
    receiver.status = 200
    OutgoingDelivery.objects.update(due_at=timezone.now())
    jobs.deliver_due()
    assert [headers["webhook-id"] for _, headers, _ in receiver.got] == [row.key] * 2
    assert (only().state, only().attempts) == ("delivered", 2)


def test_it_is_given_up_in_the_end_and_can_be_sent_again_by_hand(
    hook: OutgoingWebhook, receiver: Receiver, make_run: MakeRun, alice: User
) -> None:
    end(make_run(status="running"))
    receiver.status = 503
    for _ in range(len(delivering.PAUSES) + 3):
        OutgoingDelivery.objects.update(due_at=timezone.now())
        jobs.deliver_due()
    assert (only().state, only().attempts) == ("failed", len(delivering.PAUSES) + 1)
    receiver.status = 200
    outgoing.send_again(delivery=only(), by=alice)
    jobs.deliver_due()
    assert only().state == "delivered"


def test_who_dies_while_sending_is_followed_by_another(hook: OutgoingWebhook, receiver: Receiver, make_run: MakeRun) -> None:
    end(make_run(status="running"))
    OutgoingDelivery.objects.update(attempts=1, due_at=timezone.now() + timedelta(minutes=1))  # as a dead one leaves it
    jobs.deliver(only().pk)
    assert receiver.got == []
    OutgoingDelivery.objects.update(due_at=timezone.now())
    jobs.deliver_due()
    assert (len(receiver.got), only().attempts) == (1, 2)


def test_an_address_that_is_gone_is_turned_off(hook: OutgoingWebhook, receiver: Receiver, make_run: MakeRun) -> None:
    end(make_run(status="running"))
    receiver.status = 410
    jobs.deliver_due()
    hook.refresh_from_db()
    assert (only().state, hook.is_active) == ("failed", False)


def test_logs_have_a_bound(hook: OutgoingWebhook, alice: User) -> None:
    OutgoingDelivery.objects.bulk_create(
        OutgoingDelivery(owner=alice, webhook=hook, event="test", payload={}, state="delivered" if number else "due")
        for number in range(delivering.MOST_KEPT + 20)
    )
    OutgoingDelivery.objects.create(owner=alice, event="test", payload={}, state="failed")
    OutgoingDelivery.objects.filter(webhook=None).update(created_at=timezone.now() - timedelta(days=31))
    jobs.forget_outgoing()
    assert OutgoingDelivery.objects.filter(state="delivered").count() == delivering.MOST_KEPT
    assert OutgoingDelivery.objects.exclude(state="delivered").count() == 1  # what is still to be sent


# --- where to -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.org/", "not encrypted"),
        ("https://127.0.0.1/", "private or local"),
        ("https://[::1]/", "private or local"),
        ("https://169.254.169.254/latest", "private or local"),
        ("https://localhost/", "private or local"),
        ("https://me:secret@example.org/", "without"),
        ("ftp://example.org/", "no https"),
        ("https://exa mple.org/", "without spaces"),
        ("https://", "no address"),
    ],
)
def test_addresses_that_nothing_is_sent_to(alice: User, url: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        outgoing.add(by=alice, url=url, events=ALL)


def test_a_name_is_judged_when_it_is_contacted(hook: OutgoingWebhook, receiver: Receiver, make_run: MakeRun, settings: Settings) -> None:
    settings.ALLOW_PRIVATE_HOSTS = frozenset()
    OutgoingWebhook.objects.update(url=receiver.url.replace("http://127.0.0.1", "https://localhost"))
    end(make_run(status="running"))
    jobs.deliver_due()
    assert "private or reserved address" in only().answer
    assert (only().status, receiver.got) == (None, [])


def test_there_are_not_too_many_and_each_has_a_secret_of_its_own(alice: User, bob: User) -> None:
    made = [outgoing.add(by=alice, url="https://example.org/", events=["run.failed"]) for _ in range(outgoing.MOST_WEBHOOKS)]
    assert len({secret for _, secret in made}) == len(made)
    assert all(secret.encode() not in bytes(webhook.secret_encrypted) for webhook, secret in made)
    with pytest.raises(Conflict, match="Remove one"):
        outgoing.add(by=alice, url="https://example.org/", events=ALL)
    for events in ([], ["run.exploded"]):
        with pytest.raises(InvalidInput):
            outgoing.add(by=bob, url="https://example.org/", events=events)


# --- by e-mail ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def reader(alice: User, settings: Settings) -> User:
    """alice, who wants to have mail."""
    settings.SENDS_EMAIL = True
    alice.email = "alice@example.org"
    alice.save()
    outgoing.set_mails(user=alice, events=["run.finished", "run.waiting"])
    return alice


def test_who_wants_it_gets_a_plain_mail_with_a_link(reader: User, make_run: MakeRun) -> None:
    run = make_run(status="running", agent="claude")
    run.task.title = "Fix\nit\u202e"
    run.task.save()
    end(run)
    jobs.deliver_due()
    [sent] = mail.outbox
    assert (sent.to, sent.subject) == (["alice@example.org"], "Claude Code has finished: Fix it ")
    assert f"{run.get_absolute_url()}\n" in sent.body
    assert only().state == "delivered"


def test_nobody_gets_what_they_do_not_want_or_cannot_get(reader: User, make_run: MakeRun, settings: Settings) -> None:
    end(make_run(status="running"), "failed")
    settings.SENDS_EMAIL = False
    end(make_run(status="running"))
    assert said() == []
    reader.email = ""
    with pytest.raises(AppError, match="under Profile"):
        outgoing.set_mails(user=reader, events=["run.failed"])
