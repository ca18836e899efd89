"""What is decided about a pull request is done by GitHub, and shown at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone
from pytest_django import Settings

from tasks.errors import AppError, Conflict
from tasks.github import merging
from tasks.github.asking import github_as
from tasks.github_api import limits
from tasks.github_api.errors import PermissionMissing, RateLimited, Refused, TokenRefused, Unavailable
from tasks.models import GitHubAccount, PullRequest, Run, RunStatus, SandboxStatus, User
from tests.github.server import GitHubServer, github_server

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
BRANCH = "asynccode/1"


@pytest.fixture(scope="module")
def server() -> Iterator[GitHubServer]:
    with github_server() as server:
        server.add_user("alice", "token-of-alice")
        server.add_user("bob", "token-of-bob")
        yield server


class Open:
    """alice's run with a pull request on a repository of its own."""

    def __init__(self, server: GitHubServer, shop: str, row: PullRequest) -> None:
        self.server, self.shop, self.row = server, shop, row

    @property
    def run(self) -> Run:
        return self.row.run

    @property
    def head(self) -> str:
        return self.server.branches(self.shop)[BRANCH]

    def merge(self, method: str = "squash", head_sha: str = "") -> None:
        merging.merge(run=self.run, by=self.run.task.owner, method=method, head_sha=head_sha or self.head)

    def state(self) -> str:
        self.row.refresh_from_db()
        return self.row.state

    def there(self) -> dict[str, Any]:
        return self.server.pull(self.shop, self.row.number)


@pytest.fixture
def make_open(server: GitHubServer, settings: Settings, alice: User, make_run: MakeRun) -> Callable[..., Open]:
    server.forget()
    settings.GITHUB_URL, settings.GITHUB_API_URL, settings.GITHUB_TOKEN = server.url, server.api_url, ""
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}

    def make(*, draft: bool = False, role: str = "push", **repository: Any) -> Open:
        shop = f"acme/shop-{uuid4().hex[:8]}"
        server.add_repo(shop, {"a.txt": "a\n"}, permissions={"alice": role}, **repository)
        server.push(shop, BRANCH, {"b.txt": "b\n"})
        account = GitHubAccount(user=alice, github_id=1, login="alice", scopes=["repo"])
        account.token = "token-of-alice"
        account.save()
        number = server.add_pull(shop, BRANCH, draft=draft)
        run = make_run(status=RunStatus.SUCCEEDED, sandbox=True)
        fields: dict[str, Any] = {
            "repository": shop,
            "number": number,
            "branch": BRANCH,
            "base": "main",
            "state": "draft" if draft else "open",
        }
        row = PullRequest.objects.create(run=run, url=f"{server.url}/{shop}/pull/{number}", **fields)
        server.front.seen.clear()
        return Open(server, shop, row)

    return make


@pytest.fixture
def opened(make_open: Callable[..., Open]) -> Open:
    return make_open()


# --- merging ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_it_is_merged_and_the_sandbox_given_back(opened: Open, method: str) -> None:
    opened.merge(method)
    assert opened.state() == "merged"
    assert opened.server.read(opened.shop, "main", "b.txt") == "b\n"
    assert opened.run.sandboxes.get().status == SandboxStatus.LOST
    opened.run.task.repo.refresh_from_db()
    assert opened.run.task.repo.merge_method == method


def test_merging_twice_is_merging_once(opened: Open) -> None:
    opened.merge()
    main = opened.server.branches(opened.shop)["main"]
    opened.merge()
    assert (opened.state(), opened.server.branches(opened.shop)["main"]) == ("merged", main)


def test_what_somebody_else_has_merged_is_merged(opened: Open) -> None:
    opened.server.merge(opened.shop, opened.row.number)
    opened.merge()
    assert opened.state() == "merged"


def test_the_ways_that_the_repository_allows_are_offered_the_last_one_first(make_open: Callable[..., Open]) -> None:
    opened = make_open(merge_methods=("merge", "rebase"))
    opened.run.task.repo.merge_method = "rebase"
    found = merging.offer(run=opened.run, by=opened.run.task.owner)
    assert (found.methods, found.pull.head_sha) == (("rebase", "merge"), opened.head)


def test_only_what_was_seen_is_merged(opened: Open) -> None:
    seen = opened.head
    opened.server.push(opened.shop, BRANCH, {"c.txt": "c\n"})
    with pytest.raises(Refused, match=r"Head branch was modified.*Look at what is new"):
        opened.merge(head_sha=seen)
    assert opened.state() == "open"


def test_conflicts_are_told_in_githubs_words_and_what_to_do(opened: Open) -> None:
    opened.server.push(opened.shop, "main", {"b.txt": "other\n"})
    with pytest.raises(Refused, match=r"not mergeable.*update the pull request"):
        opened.merge()
    opened.row.refresh_from_db()
    assert opened.row.mergeable == "conflicts"


def test_rules_of_the_branch_are_told(opened: Open) -> None:
    opened.server.protect(opened.shop, "main")
    with pytest.raises(Refused, match=r"approving review is required.*Ask for a review"):
        opened.merge()


def test_a_way_that_is_not_allowed_is_refused(make_open: Callable[..., Open]) -> None:
    with pytest.raises(Refused, match=r"not allowed.*Choose another way"):
        make_open(merge_methods=("merge",)).merge("squash")


def test_who_may_not_push_cannot_merge(make_open: Callable[..., Open]) -> None:
    opened = make_open(role="pull")
    with pytest.raises(PermissionMissing, match="push access"):
        opened.merge()
    assert opened.state() == "open"


def test_what_is_closed_or_a_draft_is_not_merged(make_open: Callable[..., Open], opened: Open) -> None:
    opened.server.close(opened.shop, opened.row.number)
    with pytest.raises(Conflict, match=r"is closed. Reopen it"):
        opened.merge()
    assert opened.state() == "closed"


def test_a_lost_answer_does_not_hide_that_it_was_merged(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    merge = merging.GitHub.merge

    def lost(*args: Any, **more: Any) -> str:
        merge(*args, **more)
        raise Unavailable("GitHub did not answer in time. Try again.")

    monkeypatch.setattr(merging.GitHub, "merge", lost)
    opened.merge()
    assert opened.state() == "merged"


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 502}, {"drops": True}])
def test_a_broken_github_is_told_and_nothing_is_claimed(opened: Open, fault: dict[str, Any]) -> None:
    opened.server.fault(r"/merge$", **fault)
    with pytest.raises(Unavailable):
        opened.merge()
    assert opened.state() == "open"


@pytest.mark.parametrize("is_secondary", [False, True])
def test_while_github_wants_to_be_left_alone_it_is(opened: Open, is_secondary: bool) -> None:
    opened.server.limit(secondary=is_secondary, seconds=600, login="alice")
    with pytest.raises(RateLimited, match="answers again at"):
        opened.merge()
    opened.server.front.limits.clear()
    opened.server.front.seen.clear()
    for act in (opened.merge, lambda: merging.close(run=opened.run, by=opened.run.task.owner)):
        with pytest.raises(RateLimited, match="answers again at"):
            act()
    assert opened.server.seen == []


def test_who_shares_a_token_is_told_of_its_limit_too(opened: Open, bob: User, settings: Settings) -> None:
    settings.GITHUB_TOKEN = "token-of-alice"
    until = timezone.now() + timedelta(minutes=5)
    limits.remember("token-of-alice", opened.run.task.owner_id, until)
    assert limits.of_user(bob.pk) is None
    with pytest.raises(RateLimited), github_as(bob, opened.shop):
        pass
    assert limits.of_user(bob.pk) == until


def test_a_token_that_is_not_taken_any_more_is_noted(opened: Open) -> None:
    opened.server.fault(r"/pulls/\d+$", status=401, body={"message": "Bad credentials"})
    with pytest.raises(TokenRefused):
        opened.merge()
    assert GitHubAccount.objects.get().refused_at is not None


# --- besides ------------------------------------------------------------------------------------------------------------


def test_a_draft_becomes_ready(make_open: Callable[..., Open]) -> None:
    opened = make_open(draft=True)
    with pytest.raises(Conflict, match="still a draft"):
        opened.merge()
    for _ in range(2):
        merging.mark_ready(run=opened.run, by=opened.run.task.owner)
        assert (opened.state(), opened.there()["draft"]) == ("open", False)
    opened.merge()
    assert opened.state() == "merged"


def test_it_is_closed_and_opened_again(opened: Open) -> None:
    owner = opened.run.task.owner
    for _ in range(2):
        merging.close(run=opened.run, by=owner)
        assert (opened.state(), opened.there()["state"]) == ("closed", "closed")
    for _ in range(2):
        merging.reopen(run=opened.run, by=owner)
        assert (opened.state(), opened.there()["state"]) == ("open", "open")
    opened.merge()
    for act in (merging.close, merging.reopen):
        with pytest.raises(Conflict, match="is merged"):
            act(run=opened.run, by=owner)


def test_a_run_without_a_pull_request_has_nothing_to_decide(make_open: Callable[..., Open], make_run: MakeRun) -> None:
    with pytest.raises(Conflict, match="Open one first"):
        merging.close(run=make_run(), by=make_run().task.owner)


def delete(opened: Open) -> None:
    merging.delete_branch(run=opened.run, by=opened.run.task.owner)
    opened.row.refresh_from_db()


def test_the_branch_is_deleted_once_it_is_merged(opened: Open) -> None:
    with pytest.raises(Conflict, match="not merged"):
        delete(opened)
    opened.merge()
    for _ in range(2):
        delete(opened)
        assert opened.row.is_branch_gone
        assert BRANCH not in opened.server.branches(opened.shop)


def test_a_branch_that_github_has_deleted_is_gone(opened: Open) -> None:
    opened.merge()
    opened.server.delete_branch(opened.shop, BRANCH)
    delete(opened)
    assert opened.row.is_branch_gone


def test_what_others_have_pushed_since_is_not_deleted(opened: Open) -> None:
    opened.merge()
    opened.server.push(opened.shop, BRANCH, {"d.txt": "d\n"})
    with pytest.raises(Conflict, match="Somebody has pushed"):
        delete(opened)
    assert BRANCH in opened.server.branches(opened.shop)


def test_a_branch_that_may_not_be_deleted_stays(opened: Open) -> None:
    opened.merge()
    opened.server.protect(opened.shop, BRANCH)
    with pytest.raises(AppError, match=r"Cannot delete this protected branch.*protection"):
        delete(opened)
    assert not opened.row.is_branch_gone
