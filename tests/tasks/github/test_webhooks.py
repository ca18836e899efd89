"""What deliveries of GitHub's change, in whatever order and with whatever in them they come."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import django_rq
import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from asynccode import cron
from tasks.errors import InvalidInput
from tasks.github import jobs, sightings, webhooks
from tasks.github.sightings import Seen, Sighting
from tasks.models import Delivery, DeliveryStatus, PullRequest, PullRequestState, Run, RunStatus, SandboxStatus
from tasks.running import nudge
from tests.tasks.github.deliveries import HEAD, OTHER, about, check, closed, pull_request, review

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
Captured = Any


@pytest.fixture(autouse=True)
def _own_cache(settings: Settings) -> None:
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}


@pytest.fixture
def pull(make_run: MakeRun) -> PullRequest:
    """Pull request 7 of octo/hello, of a run that is over and has a sandbox."""
    return add_pull(make_run(status=RunStatus.SUCCEEDED, sandbox=True))


def add_pull(run: Run, **fields: Any) -> PullRequest:
    known = {"repository": "octo/hello", "number": 7, "base": "main", "head_sha": HEAD, "branch": "asynccode/1"}
    return PullRequest.objects.create(run=run, url="https://github.com/octo/hello/pull/7", **known | fields)


def deliver(event: str, payload: Any, delivery_id: str = "") -> Delivery:
    """Receive it, and do the job."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    delivery, _ = webhooks.receive(delivery_id=delivery_id or str(uuid4()), event=event, body=body)
    jobs.work_on_delivery(delivery.pk)
    delivery.refresh_from_db()
    return delivery


def now(pull: PullRequest) -> PullRequest:
    pull.refresh_from_db()
    return pull


def is_asked_for(pull: PullRequest) -> bool:
    return cache.get(f"github:soon:{pull.pk}") is not None


# --- pull requests ---


@pytest.mark.parametrize(
    ("payload", "state"),
    [
        (pull_request("opened", at="10:00:00"), "open"),
        (pull_request("converted_to_draft", at="10:00:00", draft=True), "draft"),
        (pull_request("ready_for_review", at="10:00:00"), "open"),
        (closed(at="10:00:00"), "closed"),
        (closed(at="10:00:00", merged=True), "merged"),
        (pull_request("reopened", at="10:00:00"), "open"),
    ],
)
def test_a_pull_requests_state_is_what_github_says(pull: PullRequest, payload: dict[str, Any], state: str) -> None:
    delivery = deliver("pull_request", payload)
    assert (delivery.status, delivery.outcome) == (DeliveryStatus.DONE, f"Pull request 7 is {state}.")
    assert now(pull).state == state
    assert pull.seen_at == datetime(2026, 11, 20, 10, tzinfo=UTC)


def test_what_comes_late_sets_nothing_back(pull: PullRequest) -> None:
    deliver("pull_request", closed(at="10:00:05"))
    late = deliver("pull_request", pull_request("edited", at="10:00:04", base="other"))
    assert late.status == DeliveryStatus.IGNORED
    assert late.outcome == "Nothing was done: something newer is known of pull request 7 already."
    assert (now(pull).state, pull.base) == ("closed", "main")
    deliver("pull_request", pull_request("reopened", at="10:00:06"))
    assert now(pull).state == "open"


def test_what_was_merged_stays_merged_whatever_comes(pull: PullRequest) -> None:
    deliver("pull_request", closed(at="10:00:00", merged=True))
    assert deliver("pull_request", pull_request("edited", at="10:00:09")).status == DeliveryStatus.IGNORED
    assert now(pull).state == "merged"


def test_a_time_in_the_future_silences_nothing_that_follows(pull: PullRequest) -> None:
    payload = pull_request("edited", at="10:00:00")
    payload["pull_request"]["updated_at"] = "2099-01-01T00:00:00Z"
    deliver("pull_request", payload)
    seen = sightings.see(pull.pk, Sighting(at=timezone.now() + timedelta(seconds=1), state=PullRequestState.CLOSED))
    assert seen is Seen.NEWS


def test_the_case_of_a_repositorys_name_does_not_matter(pull: PullRequest) -> None:
    payload = closed(at="10:00:00") | about("Octo/Hello")
    assert deliver("pull_request", payload).status == DeliveryStatus.DONE
    assert now(pull).state == "closed"


def test_a_new_base_is_known(pull: PullRequest) -> None:
    deliver("pull_request", pull_request("edited", at="10:00:00", base="release"))
    assert now(pull).base == "release"


def test_somebody_elses_push_makes_the_checks_unknown_but_not_what_we_pushed(pull: PullRequest) -> None:
    PullRequest.objects.update(checks="success", mergeable="clean")
    deliver("pull_request", pull_request("synchronize", at="10:00:00", head=HEAD))
    assert (now(pull).checks, pull.mergeable) == ("success", "")
    deliver("pull_request", pull_request("synchronize", at="10:00:01", head=OTHER))
    assert (now(pull).checks, pull.head_sha) == ("", HEAD)
    assert is_asked_for(pull)


def test_a_conflict_is_known(pull: PullRequest) -> None:
    deliver("pull_request", pull_request("edited", at="10:00:00", mergeable_state="dirty"))
    assert now(pull).mergeable == "conflicts"


@pytest.mark.parametrize("payload", [pull_request(at="10:00:00", number=8), pull_request(at="10:00:00") | about("octo/other")])
def test_what_no_run_has_opened_is_ignored_and_it_is_said_why(pull: PullRequest, payload: dict[str, Any]) -> None:
    delivery = deliver("pull_request", payload)
    assert delivery.status == DeliveryStatus.IGNORED
    assert "no run here has opened" in delivery.outcome
    assert now(pull).seen_at is None


def test_an_action_that_changes_nothing_is_ignored(pull: PullRequest) -> None:
    assert deliver("pull_request", pull_request("locked", at="10:00:00")).status == DeliveryStatus.IGNORED


# --- the sandbox, and pages ---


def test_a_merge_gives_the_sandbox_back(pull: PullRequest, django_capture_on_commit_callbacks: Captured, nudged: list[Any]) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        deliver("pull_request", closed(at="10:00:00", merged=True))
    box = pull.run.sandboxes.get()
    assert box.status == SandboxStatus.LOST
    assert ("host-here", "destroy_sandbox", box.pk) in nudged


@pytest.mark.parametrize("status", [RunStatus.QUEUED, RunStatus.STARTING, RunStatus.RUNNING])
def test_a_run_with_another_turn_before_it_keeps_its_sandbox(make_run: MakeRun, status: RunStatus) -> None:
    pull = add_pull(make_run(status=status, sandbox=True))
    deliver("pull_request", closed(at="10:00:00", merged=True))
    assert now(pull).state == "merged"
    assert pull.run.sandboxes.get().status == SandboxStatus.LIVE


def test_one_that_is_closed_only_keeps_its_sandbox(pull: PullRequest) -> None:
    deliver("pull_request", closed(at="10:00:00"))
    assert pull.run.sandboxes.get().status == SandboxStatus.LIVE


@pytest.fixture
def nudged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would be enqueued, and the groups that would be told."""
    found: list[Any] = []
    monkeypatch.setattr(nudge, "enqueue_now", lambda *call: found.append(call))
    monkeypatch.setattr(nudge, "_tell", found.extend)
    return found


def test_pages_are_told_of_news_only(pull: PullRequest, django_capture_on_commit_callbacks: Captured, nudged: list[Any]) -> None:
    groups = {f"run.{pull.run_id}", f"user.{pull.run.task.owner_id}"}
    with django_capture_on_commit_callbacks(execute=True):
        deliver("pull_request", closed(at="10:00:00"))
    assert groups <= set(nudged)
    nudged.clear()
    with django_capture_on_commit_callbacks(execute=True):
        deliver("pull_request", closed(at="10:00:01"))
    assert not groups & set(nudged)


# --- reviews and checks ---


def test_reviews_are_known_and_one_approval_does_not_outweigh_a_request(pull: PullRequest) -> None:
    deliver("pull_request_review", review("approved"))
    assert now(pull).review == "approved"
    deliver("pull_request_review", review("changes_requested"))
    deliver("pull_request_review", review("approved"))
    assert now(pull).review == "changes_requested"
    assert is_asked_for(pull)


def test_a_comment_is_no_verdict(pull: PullRequest) -> None:
    assert deliver("pull_request_review", review("commented")).status == DeliveryStatus.IGNORED
    assert now(pull).review == ""


def test_of_a_dismissed_review_github_is_asked(pull: PullRequest) -> None:
    assert deliver("pull_request_review", review("dismissed", "dismissed")).status == DeliveryStatus.DONE
    assert is_asked_for(pull)


@pytest.mark.parametrize("of", ["check_run", "check_suite"])
def test_checks_are_pending_and_then_what_comes_out(pull: PullRequest, of: str) -> None:
    deliver("check_suite", check("check_suite", "queued"))
    assert now(pull).checks == "pending"
    deliver("check_suite", check("check_suite", "completed", "success"))
    assert now(pull).checks == "success"
    deliver(of, check(of, "completed", "timed_out"))
    assert now(pull).checks == "failure"
    assert is_asked_for(pull)


def test_one_good_check_does_not_make_all_good(pull: PullRequest) -> None:
    deliver("check_run", check("check_run", "completed", "success"))
    assert now(pull).checks == "pending"
    PullRequest.objects.update(checks="failure")
    deliver("check_suite", check("check_suite", "completed", "success"))
    assert now(pull).checks == "failure"


@pytest.mark.parametrize(
    ("state", "checks"), [("pending", "pending"), ("success", "pending"), ("failure", "failure"), ("error", "failure")]
)
def test_statuses_are_checks(pull: PullRequest, state: str, checks: str) -> None:
    deliver("status", about(sha=HEAD, state=state))
    assert now(pull).checks == checks


def test_checks_of_another_commit_are_ignored(pull: PullRequest) -> None:
    delivery = deliver("check_run", check("check_run", "completed", "failure", head=OTHER))
    assert (delivery.status, now(pull).checks) == (DeliveryStatus.IGNORED, "")


# --- branches and repositories ---


def test_a_push_to_the_base_makes_it_unknown_whether_it_can_be_merged(pull: PullRequest, make_run: MakeRun) -> None:
    other, over = add_pull(make_run(), number=8, base="other"), add_pull(make_run(), number=9, state="closed")
    PullRequest.objects.update(mergeable="clean")
    assert deliver("push", about(ref="refs/heads/main")).status == DeliveryStatus.DONE
    assert [now(row).mergeable for row in (pull, other, over)] == ["", "clean", "clean"]
    assert [is_asked_for(row) for row in (pull, other, over)] == [True, False, False]


@pytest.mark.parametrize("ref", ["refs/heads/feature", "refs/tags/main", "main"])
def test_other_pushes_are_ignored(pull: PullRequest, ref: str) -> None:
    assert deliver("push", about(ref=ref)).status == DeliveryStatus.IGNORED


def test_a_deleted_repositorys_pull_requests_are_closed(pull: PullRequest) -> None:
    assert deliver("repository", about(action="deleted")).status == DeliveryStatus.DONE
    assert now(pull).state == "closed"


def test_in_an_archived_repository_nothing_can_be_merged(pull: PullRequest) -> None:
    deliver("repository", about(action="archived"))
    assert now(pull).mergeable == "blocked"
    deliver("repository", about(action="unarchived"))
    assert now(pull).mergeable == ""


@pytest.mark.parametrize(
    ("action", "name", "changes"),
    [
        ("renamed", "octo/new", {"repository": {"name": {"from": "hello"}}}),
        ("transferred", "new/hello", {"owner": {"from": {"user": {"login": "octo"}}}}),
        ("transferred", "new/hello", {"owner": {"from": {"organization": {"login": "octo"}}}}),
    ],
)
def test_where_a_repository_has_moved_to_is_known_and_pushes_go_where_they_went(
    pull: PullRequest, action: str, name: str, changes: Any
) -> None:
    source = pull.run.task.repo.source
    assert deliver("repository", about(name, action=action, changes=changes)).status == DeliveryStatus.DONE
    assert now(pull).repository == name
    assert is_asked_for(pull)
    assert PullRequest.objects.get().run.task.repo.source == source


@pytest.mark.parametrize("event", ["installation", "issues", "issue_comment", "star"])
def test_what_nothing_is_done_with_is_ignored(pull: PullRequest, event: str) -> None:
    delivery = deliver(event, about(action="labeled"))
    assert (delivery.status, delivery.action, delivery.repository) == (DeliveryStatus.IGNORED, "labeled", "octo/hello")
    assert delivery.outcome


def test_a_ping_is_answered() -> None:
    assert deliver("ping", {"zen": "Keep it logically awesome.", "hook_id": 1}).status == DeliveryStatus.DONE


# --- what else may be in them ---

GOOD = {
    "pull_request": pull_request("edited", at="10:00:00"),
    "pull_request_review": review("approved"),
    "check_run": check("check_run", "completed", "success"),
    "check_suite": check("check_suite", "completed", "success"),
    "status": about(sha=HEAD, state="success"),
    "push": about(ref="refs/heads/main"),
    "repository": about("octo/new", action="renamed", changes={"repository": {"name": {"from": "hello"}}}),
}
NASTY = [None, True, -1, 1.5, 10**30, "", "x" * 100_000, "\0\ud800\u202e\n", "../../etc/passwd", "'; DROP TABLE", [], [[]], {}, {"a": {}}]


def paths(value: Any) -> list[tuple[str, ...]]:
    """The way to every value within."""
    if not isinstance(value, dict):
        return [()]
    return [(), *((key, *rest) for key, inner in value.items() for rest in paths(inner))]


def replaced(value: Any, path: tuple[str, ...], by: Any) -> Any:
    return {**value, path[0]: replaced(value[path[0]], path[1:], by)} if path else by


@pytest.mark.parametrize("event", GOOD)
def test_whatever_stands_in_a_payload_ends_in_a_sentence(pull: PullRequest, event: str) -> None:
    assert deliver(event, GOOD[event]).status == DeliveryStatus.DONE
    for path in paths(GOOD[event]):
        for nasty in NASTY:
            delivery = deliver(event, replaced(GOOD[event], path, nasty))
            assert delivery.status != DeliveryStatus.QUEUED
            assert delivery.outcome.endswith(".")
            assert len(json.dumps(delivery.payload)) < 5000
    assert now(pull).base in ("main", "x", "../../etc/passwd", "'; DROP TABLE") or "\N{REPLACEMENT CHARACTER}" in pull.base


@pytest.mark.parametrize(
    ("event", "path", "value", "sentence"),
    [
        ("pull_request", ("pull_request", "number"), "7", "pull_request.number is missing, or is no whole number"),
        ("pull_request", ("pull_request", "merged"), "yes", "pull_request.merged is missing, or is neither true nor false."),
        ("pull_request", ("pull_request", "base", "ref"), "x" * 251, "pull_request.base.ref is longer than the 250 characters"),
        ("pull_request", ("pull_request", "updated_at"), "2026-02-31T00:00:00Z", "pull_request.updated_at is no time."),
        ("pull_request", ("pull_request", "updated_at"), "yesterday", "pull_request.updated_at is no time."),
        ("pull_request", ("pull_request",), [], "pull_request.number is missing, or is no whole number"),
        ("status", ("sha",), "HEAD", "sha is no commit."),
        ("push", ("repository", "full_name"), "../..", "names no repository"),
        ("push", ("repository", "full_name"), "a/b/c", "names no repository"),
    ],
)
def test_what_is_missing_or_wrong_is_named(pull: PullRequest, event: str, path: tuple[str, ...], value: Any, sentence: str) -> None:
    delivery = deliver(event, replaced(GOOD[event], path, value))
    assert delivery.status == DeliveryStatus.FAILED
    assert sentence in delivery.outcome
    assert (now(pull).state, pull.seen_at) == ("open", None)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"7", b"[" * 1_000_000, b'{"number": ' + b"9" * 5000 + b"}"])
def test_what_is_no_json_object_is_kept_with_its_end(body: bytes) -> None:
    delivery = deliver("push", body)
    assert delivery.status == DeliveryStatus.FAILED
    assert delivery.outcome.startswith("Nothing was done: the payload is no JSON")


def test_a_row_without_a_repository_is_nobodys(make_run: MakeRun) -> None:
    pull = add_pull(make_run(), repository="")
    deliver("pull_request", closed(at="10:00:00") | {"repository": None})
    assert now(pull).state == "open"


def test_only_the_fields_that_are_used_are_kept(pull: PullRequest) -> None:
    delivery = deliver("pull_request", closed(at="10:00:00", merged=True))
    assert delivery.payload == {
        "pull_request.number": 7,
        "pull_request.state": "closed",
        "pull_request.draft": False,
        "pull_request.merged": True,
        "pull_request.mergeable_state": "unknown",
        "pull_request.updated_at": "2026-11-20T10:00:00Z",
        "pull_request.head.sha": HEAD,
        "pull_request.base.ref": "main",
        "sender.login": "octocat",
    }
    assert (delivery.action, delivery.repository) == ("closed", "octo/hello")


@pytest.mark.parametrize(("delivery_id", "event"), [("", "push"), ("x" * 65, "push"), ("a/b", "push"), ("1", ""), ("1", "Push\n")])
def test_ids_and_events_are_plain_words(delivery_id: str, event: str) -> None:
    with pytest.raises(InvalidInput):
        webhooks.receive(delivery_id=delivery_id, event=event, body=b"{}")
    assert not Delivery.objects.exists()


# --- once, and not never ---


def receive(delivery_id: str) -> bool:
    try:
        return webhooks.receive(delivery_id=delivery_id, event="ping", body=b"{}")[1]
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_the_same_delivery_many_times_at_once_is_kept_once() -> None:
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(receive, ["same"] * 16)) == 1
    assert Delivery.objects.count() == 1


def work_on(pk: int) -> None:
    try:
        jobs.work_on_delivery(pk)
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_many_workers_do_the_work_once(pull: PullRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setitem(webhooks.HANDLERS, "ping", lambda *_: calls.append("once") or "Done.")
    delivery, _ = webhooks.receive(delivery_id="1", event="ping", body=b"{}")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work_on, [delivery.pk] * 4))
    assert calls == ["once"]
    delivery.refresh_from_db()
    assert (delivery.status, delivery.outcome) == (DeliveryStatus.DONE, "Done.")


def test_a_try_that_breaks_off_changes_nothing_and_is_made_again_a_few_times(pull: PullRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> str:
        PullRequest.objects.update(state="closed")
        raise RuntimeError("a bug of ours")

    monkeypatch.setitem(webhooks.HANDLERS, "ping", broken)
    delivery, _ = webhooks.receive(delivery_id="1", event="ping", body=b"{}")
    for _ in range(webhooks.MOST_TRIES):
        with pytest.raises(RuntimeError):
            jobs.work_on_delivery(delivery.pk)
    assert now(pull).state == "open"
    delivery.refresh_from_db()
    assert delivery.status == DeliveryStatus.QUEUED
    jobs.work_on_delivery(delivery.pk)
    delivery.refresh_from_db()
    assert delivery.status == DeliveryStatus.FAILED
    assert "5 tries" in delivery.outcome


def test_what_waits_for_more_than_a_minute_is_enqueued_again(nudged: list[Any]) -> None:
    late, fresh, over = (Delivery.objects.create(delivery_id=str(number), event="ping") for number in range(3))
    Delivery.objects.exclude(pk=fresh.pk).update(received_at=timezone.now() - timedelta(seconds=61))
    Delivery.objects.filter(pk=over.pk).update(status=DeliveryStatus.DONE)
    jobs.enqueue_deliveries_again()
    assert [call[1:] for call in nudged] == [("github.work_on_delivery", late.pk)]


def test_the_job_is_found_under_the_name_by_which_it_is_enqueued(django_capture_on_commit_callbacks: Captured) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        nudge.enqueue(settings.QUEUE_RUNS, "github.work_on_delivery", 7)
    job = django_rq.get_queue(settings.QUEUE_RUNS).jobs[-1]
    assert (job.func, job.args) == (jobs.work_on_delivery, (7,))
    job.delete()


def test_what_goes_by_the_clock_is_registered() -> None:
    functions = {entry["func"] for entry in cron.cron._job_data_registry}
    assert {jobs.enqueue_deliveries_again, jobs.forget_deliveries, jobs.look_at_pull_requests} <= functions


def test_old_deliveries_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "_MOST_DELETED", 2)
    for number in range(5):
        Delivery.objects.create(delivery_id=str(number), event="ping")
    Delivery.objects.exclude(delivery_id="0").update(received_at=timezone.now() - timedelta(days=31))
    jobs.forget_deliveries()
    assert Delivery.objects.get().delivery_id == "0"
