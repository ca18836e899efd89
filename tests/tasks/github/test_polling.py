"""GitHub is asked how pull requests are: seldom, cheaply, and at once when something has happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.cache import cache
from django.db.models import F
from django.utils import timezone
from pytest_django import Settings

from tasks.github import jobs, polling, sightings
from tasks.github.sightings import Seen, Sighting
from tasks.github_api.client import GitHub
from tasks.models import GitHubAccount, PullRequest, Run, RunStatus, SandboxStatus
from tests.github.server import GitHubServer, github_server

pytestmark = pytest.mark.django_db
SHOP = "acme/shop"
MakeRun = Callable[..., Run]


@pytest.fixture(scope="module")
def server() -> Iterator[GitHubServer]:
    with github_server() as server:
        server.add_user("alice", "token-of-alice")
        server.add_user("bob", "token-of-bob")
        yield server


@pytest.fixture(autouse=True)
def _there(server: GitHubServer, settings: Settings) -> None:
    server.forget()
    settings.GITHUB_URL, settings.GITHUB_API_URL, settings.GITHUB_TOKEN = server.url, server.api_url, "token-of-alice"
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}


@pytest.fixture
def shop(server: GitHubServer) -> str:
    """A repository of its own, with a branch to be merged."""
    name = f"acme/shop-{uuid4().hex[:8]}"
    server.add_repo(name, {"a.txt": "a\n"}, permissions={"alice": "admin", "bob": "admin"})
    server.push(name, "asynccode/1", {"b.txt": "b\n"})
    return name


@pytest.fixture
def pull(server: GitHubServer, shop: str, make_run: MakeRun) -> PullRequest:
    """One of a run that is over, opened two hours ago, never looked at."""
    return add_pull(server, shop, make_run(status=RunStatus.SUCCEEDED, sandbox=True))


def add_pull(server: GitHubServer, shop: str, run: Run) -> PullRequest:
    number = server.add_pull(shop, "asynccode/1")
    row = PullRequest.objects.create(
        run=run, repository=shop, number=number, url=f"{server.url}/{shop}/pull/{number}", branch="asynccode/1", base="main"
    )
    PullRequest.objects.filter(pk=row.pk).update(created_at=timezone.now() - timedelta(hours=2))
    return row


def asked(server: GitHubServer) -> list[tuple[str, int]]:
    """What was asked of pull requests as such since the last time, and the status of each answer."""
    found = [(request.path, request.status) for request in server.seen if "/pulls/" in request.path and request.path.count("/") == 5]
    server.front.seen.clear()
    return found


def later(minutes: float) -> None:
    """All was seen that much longer ago."""
    PullRequest.objects.update(seen_at=F("seen_at") - timedelta(minutes=minutes))


def now(pull: PullRequest) -> PullRequest:
    pull.refresh_from_db()
    return pull


def test_what_was_never_looked_at_is_looked_at(server: GitHubServer, pull: PullRequest) -> None:
    jobs.look_at_pull_requests()
    assert [status for _, status in asked(server)] == [200]
    assert now(pull).seen_at is not None
    assert pull.etag
    jobs.look_at_pull_requests()
    assert asked(server) == []


def test_a_merge_is_seen_and_gives_the_sandbox_back(server: GitHubServer, shop: str, pull: PullRequest) -> None:
    server.merge(shop, pull.number)
    jobs.look_at_pull_requests()
    assert now(pull).state == "merged"
    assert pull.run.sandboxes.get().status == SandboxStatus.LOST
    asked(server)
    later(60)
    jobs.look_at_pull_requests()
    assert asked(server) == []


def test_nothing_new_costs_nothing(server: GitHubServer, pull: PullRequest) -> None:
    jobs.look_at_pull_requests()
    seen_at = now(pull).seen_at
    cache.clear()  # an hour has passed
    later(10)
    server.front.seen.clear()
    jobs.look_at_pull_requests()
    assert [request.status for request in server.seen] == [304]
    assert now(pull).seen_at >= seen_at


def test_it_is_looked_at_every_two_minutes_while_something_happens_and_then_every_five(
    server: GitHubServer, shop: str, pull: PullRequest
) -> None:
    PullRequest.objects.update(created_at=timezone.now())
    jobs.look_at_pull_requests()
    later(2)
    asked(server)
    jobs.look_at_pull_requests()
    assert len(asked(server)) == 1
    PullRequest.objects.update(created_at=timezone.now() - timedelta(hours=2))
    cache.clear()  # an hour has passed
    later(4)
    jobs.look_at_pull_requests()
    assert asked(server) == []
    later(1)
    jobs.look_at_pull_requests()
    assert len(asked(server)) == 1


def test_checks_and_reviews_are_seen(server: GitHubServer, shop: str, pull: PullRequest) -> None:
    head = server.branches(shop)["asynccode/1"]
    check = server.add_check_run(shop, head)
    jobs.look_at_pull_requests()
    assert now(pull).checks == "pending"
    server.finish_check_run(shop, check, "success")
    server.add_review(shop, pull.number, "bob")
    polling.ask_soon([pull.pk])
    jobs.look_at_pull_requests()
    assert (now(pull).checks, pull.review) == ("success", "approved")


def test_a_check_that_ends_is_seen_though_the_pull_request_has_not_changed(server: GitHubServer, shop: str, pull: PullRequest) -> None:
    check = server.add_check_run(shop, server.branches(shop)["asynccode/1"])
    jobs.look_at_pull_requests()
    server.finish_check_run(shop, check, "failure")
    later(10)
    jobs.look_at_pull_requests()
    assert now(pull).checks == "failure"


def test_when_something_has_happened_the_answer_is_whole(server: GitHubServer, pull: PullRequest) -> None:
    jobs.look_at_pull_requests()
    asked(server)
    for _ in range(3):
        polling.ask_soon([pull.pk])
    jobs.look_at_pull_requests()
    jobs.look_at_pull_requests()
    assert [status for _, status in asked(server)] == [200]


@pytest.mark.parametrize("is_secondary", [False, True])
def test_who_asks_too_often_asks_nothing_until_github_lets_them(
    server: GitHubServer, shop: str, pull: PullRequest, make_run: MakeRun, bob: Any, is_secondary: bool
) -> None:
    server.push(shop, "asynccode/1", {"c.txt": "c\n"})
    other = add_pull(server, shop, make_run(owner=bob))
    account = GitHubAccount(user=bob, github_id=2, login="bob", scopes=["repo"])
    account.token = "token-of-bob"
    account.save()
    server.limit(secondary=is_secondary, seconds=600, login="alice")
    jobs.look_at_pull_requests()
    assert now(pull).seen_at is None
    assert now(other).seen_at is not None
    server.front.seen.clear()
    for _ in range(3):
        jobs.look_at_pull_requests()
    assert server.seen == []


@pytest.mark.parametrize("status", [404, 500, 502])
def test_after_an_error_it_is_left_alone_for_a_while(server: GitHubServer, pull: PullRequest, status: int) -> None:
    server.fault(r"/pulls/\d+$", status=status, times=100)
    jobs.look_at_pull_requests()
    assert (now(pull).state, pull.seen_at) == ("open", None)
    server.forget()
    jobs.look_at_pull_requests()
    assert asked(server) == []
    cache.clear()
    jobs.look_at_pull_requests()
    assert now(pull).seen_at is not None


def test_a_token_that_is_no_good_any_more_is_not_tried_again(server: GitHubServer, pull: PullRequest) -> None:
    account = GitHubAccount(user=pull.run.task.owner, github_id=1, login="alice", scopes=["repo"])
    account.token = "token-that-was-taken-back"
    account.save()
    jobs.look_at_pull_requests()
    account.refresh_from_db()
    assert account.refused_at is not None
    assert now(pull).seen_at is None


def test_without_any_token_nothing_is_asked(server: GitHubServer, pull: PullRequest, settings: Settings) -> None:
    settings.GITHUB_TOKEN = ""
    jobs.look_at_pull_requests()
    assert server.seen == []


def test_one_that_breaks_a_round_does_not_break_the_next(
    server: GitHubServer, shop: str, pull: PullRequest, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.push(shop, "asynccode/1", {"c.txt": "c\n"})
    other = add_pull(server, shop, make_run())
    see = sightings.see

    def broken(pk: int, sighting: Sighting) -> Seen:
        assert pk != pull.pk, "a bug of ours"
        return see(pk, sighting)

    monkeypatch.setattr(sightings, "see", broken)
    with pytest.raises(AssertionError):
        jobs.look_at_pull_requests()
    jobs.look_at_pull_requests()
    assert now(other).seen_at is not None


def test_what_a_webhook_changes_while_github_is_asked_is_asked_again(
    server: GitHubServer, pull: PullRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is that nothing has changed since the last one; the row has."""
    jobs.look_at_pull_requests()
    cache.clear()
    later(10)
    ask = GitHub.pull

    def meanwhile(*args: Any) -> Any:
        sightings.mark(PullRequest.objects.all(), mergeable="")
        return ask(*args)

    monkeypatch.setattr(GitHub, "pull", meanwhile)
    jobs.look_at_pull_requests()
    assert now(pull).mergeable == ""
    monkeypatch.undo()
    later(10)
    jobs.look_at_pull_requests()
    assert now(pull).mergeable == "clean"
