"""What is asked of GitHub, and what becomes of each of its answers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.views.debug import ExceptionReporter
from pytest_django import Settings

from tasks.github_api.client import GitHub
from tasks.github_api.errors import (
    NotFoundOnGitHub,
    PermissionMissing,
    PullExists,
    RateLimited,
    Refused,
    TokenRefused,
    Unavailable,
)
from tests.github.server import GitHubServer, github_server

_numbers = itertools.count(1)
TOKEN = "ghp_alice"


@pytest.fixture(scope="module")
def server() -> Iterator[GitHubServer]:
    with github_server() as server:
        server.add_user("alice", TOKEN, ["acme"])
        server.add_user("bob", "ghp_bob")
        yield server


@pytest.fixture(autouse=True)
def _there(server: GitHubServer, settings: Settings) -> None:
    server.forget()
    settings.GITHUB_URL, settings.GITHUB_API_URL = server.url, server.api_url


@pytest.fixture
def github(server: GitHubServer) -> Iterator[GitHub]:
    with GitHub(TOKEN) as github:
        yield github


@pytest.fixture
def shop(server: GitHubServer) -> str:
    """A private repository of alice's."""
    name = f"alice/shop{next(_numbers)}"
    server.add_repo(name, {"a.txt": "a\n"}, private=True, permissions={"bob": "push"})
    return name


@pytest.fixture
def pull(server: GitHubServer, shop: str) -> int:
    """A pull request of the branch "feature"."""
    server.push(shop, "feature", {"b.txt": "b\n"})
    return server.add_pull(shop, "feature", login="alice")


# --- people -------------------------------------------------------------------------------------------------------------


def test_whose_token_it_is(server: GitHubServer, github: GitHub) -> None:
    viewer = github.viewer()
    assert (viewer.login, viewer.name, viewer.email, viewer.orgs) == ("alice", "Alice", "alice@example.org", ("acme",))
    assert viewer.id == server.world.people["alice"].id
    assert viewer.scopes is not None
    assert "repo" in viewer.scopes


def test_an_address_that_is_kept_private_is_in_no_commit(server: GitHubServer) -> None:
    person = server.add_user("carol", "ghp_carol")
    assert GitHub("ghp_carol").viewer().commit_email == person.noreply
    server.add_user("dave", "ghp_dave", is_email_public=True)
    assert GitHub("ghp_dave").viewer().commit_email == "dave@example.org"


def test_a_token_that_may_see_little_is_fine(server: GitHubServer) -> None:
    server.add_token("alice", "ghp_little", ("repo",))
    viewer = GitHub("ghp_little").viewer()
    assert viewer.email == ""
    assert viewer.commit_email.startswith(f"{viewer.id}+alice@users.noreply.")


def test_a_fine_grained_token_tells_no_scopes(server: GitHubServer) -> None:
    server.add_token("alice", "github_pat_1", None)
    assert GitHub("github_pat_1").viewer().scopes is None


def test_who_is_a_member_of_an_organization(github: GitHub, server: GitHubServer) -> None:
    server.add_user("erin", orgs=["other"])
    assert github.is_member("acme", "alice")
    assert not github.is_member("acme", "bob")
    assert not github.is_member("other", "erin")  # not said in public


def test_what_somebody_may_do(github: GitHub, shop: str, server: GitHubServer) -> None:
    server.add_user("mallory")
    assert [github.permission(shop, login) for login in ("alice", "bob", "mallory", "nobody")] == ["admin", "write", "none", "none"]


# --- repositories -------------------------------------------------------------------------------------------------------


def test_a_repository(github: GitHub, shop: str, server: GitHubServer) -> None:
    found = github.repo(shop)
    assert (found.full_name, found.role, found.default_branch, found.can_push) == (shop, "admin", "main", True)
    assert (found.is_private, found.is_archived, found.is_fork) == (True, False, False)
    assert (found.url, found.clone_url) == (f"{server.url}/{shop}", f"{server.url}/{shop}.git")


def test_what_is_archived_takes_no_pushes(github: GitHub, shop: str, server: GitHubServer) -> None:
    server.archive(shop)
    assert github.repo(shop).is_archived
    assert not github.repo(shop).can_push


def test_ways_to_merge_are_those_the_repository_allows(github: GitHub, server: GitHubServer) -> None:
    server.add_repo("alice/squash", merge_methods=("squash",))
    assert github.repo("alice/squash").merge_methods == ("squash",)


def test_repositories_are_those_one_can_push_to_the_last_pushed_first(server: GitHubServer) -> None:
    server.add_user("frank", "ghp_frank")
    server.add_user("owner")
    server.add_repo("frank/old")
    server.add_repo("owner/mine", permissions={"frank": "push"})
    server.add_repo("owner/theirs", permissions={"frank": "pull"})
    for name, at in (("frank/old", "2026-01-02"), ("owner/mine", "2026-01-01")):
        permissions = {"frank": "push"} if name == "owner/mine" else {}
        server.world.emulator.tell("repo", full_name=name, permissions=permissions, settings={"pushed_at": at}, default_branch="main")
    found = GitHub("ghp_frank").repos()
    assert [one.full_name for one in found.found] == ["frank/old", "owner/mine"]
    assert found.next_page is None


def test_repositories_are_searched_as_one_types(server: GitHubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.github_api.client.PER_PAGE", 2)
    monkeypatch.setattr("tasks.github_api.client._SCANNED_PAGES", 2)
    server.add_user("grace", "ghp_grace")
    for name in ("alpha", "beta", "gamma", "alphabet", "delta"):
        server.add_repo(f"grace/{name}")
    github = GitHub("ghp_grace")
    first = github.repos("ALPHA grace")
    assert first.next_page == 3
    rest = github.repos("ALPHA grace", first.next_page)
    assert {one.full_name for one in first.found + rest.found} == {"grace/alpha", "grace/alphabet"}
    assert rest.next_page is None
    assert github.repos("grace/alpha").found[0].full_name == "grace/alpha"


def test_branches_are_found_by_a_part_of_their_name(github: GitHub, shop: str, server: GitHubServer) -> None:
    for name in ("fix/login", "feature/login-page", "docs"):
        server.push(shop, name, {"x": name})
    assert sorted(github.branches(shop)) == ["docs", "feature/login-page", "fix/login", "main"]
    assert sorted(github.branches(shop, "login")) == ["feature/login-page", "fix/login"]
    assert github.branches(shop, "nothing") == []


@pytest.mark.parametrize("path", [".github/PULL_REQUEST_TEMPLATE.md", "pull_request_template.md", "docs/pull_request_template.txt"])
def test_the_template_for_pull_requests_is_found_where_github_looks(github: GitHub, shop: str, server: GitHubServer, path: str) -> None:
    assert github.pull_template(shop) == ""
    server.push(shop, "main", {path: "## What\n"})
    assert github.pull_template(shop) == "## What\n"


# --- pull requests ------------------------------------------------------------------------------------------------------


def test_a_pull_request_is_opened_once(github: GitHub, shop: str, server: GitHubServer) -> None:
    assert github.find_pull(shop, "feature") is None
    head = server.push(shop, "feature", {"b.txt": "b\n"})
    made = github.create_pull(shop, head="feature", base="main", title="T", body="B", is_draft=True, labels=["bug"], reviewers=["bob"])
    assert (made.state, made.head, made.base, made.head_sha, made.author) == ("draft", "feature", "main", head, "alice")
    assert made.url == f"{server.url}/{shop}/pull/{made.number}"
    kept = server.pull(shop, made.number)
    assert [one["name"] for one in kept["labels"]] == ["bug"]
    assert [one["login"] for one in kept["requested_reviewers"]] == ["bob"]
    with pytest.raises(PullExists, match="already exists for alice:feature"):
        github.create_pull(shop, head="feature", base="main", title="T")
    found = github.find_pull(shop, "feature")
    assert found is not None
    assert found.number == made.number


def test_of_a_branchs_pull_requests_the_open_one_counts(github: GitHub, shop: str, pull: int, server: GitHubServer) -> None:
    server.close(shop, pull)
    closed = github.find_pull(shop, "feature")
    assert closed is not None
    assert closed.state == "closed"
    second = server.add_pull(shop, "feature")
    found = github.find_pull(shop, "feature")
    assert found is not None
    assert (found.number, found.state) == (second, "open")


@pytest.mark.parametrize(
    ("head", "base", "words"),
    [("gone", "main", "head is invalid"), ("feature", "gone", "base is invalid"), ("same", "main", "No commits between main and same")],
)
def test_what_cannot_become_a_pull_request_is_refused_in_githubs_words(
    github: GitHub, shop: str, server: GitHubServer, head: str, base: str, words: str
) -> None:
    server.push(shop, "feature", {"b.txt": "b\n"})
    server.world.repositories[shop].git("branch", "same", "main")
    with pytest.raises(Refused, match=words):
        github.create_pull(shop, head=head, base=base, title="T")


def test_asking_again_costs_nothing_until_something_happens(github: GitHub, shop: str, pull: int, server: GitHubServer) -> None:
    first = github.pull(shop, pull)
    assert first is not None
    assert (first.state, first.mergeable) == ("open", "clean")
    assert github.pull(shop, pull, first.etag) is None
    assert server.seen[-1].status == 304
    head = server.push(shop, "feature", {"c.txt": "c\n"})
    second = github.pull(shop, pull, first.etag)
    assert second is not None
    assert second.head_sha == head


def test_conflicts_and_protection_are_seen(github: GitHub, shop: str, server: GitHubServer) -> None:
    server.push(shop, "other", {"a.txt": "other\n"})
    number = server.add_pull(shop, "other")
    server.protect(shop, "main")
    assert github.pull(shop, number).mergeable == "blocked"  # type: ignore[union-attr]
    server.push(shop, "main", {"a.txt": "main\n"})
    assert github.pull(shop, number).mergeable == "conflicts"  # type: ignore[union-attr]


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_a_pull_request_is_merged(github: GitHub, shop: str, pull: int, server: GitHubServer, method: str) -> None:
    commit = github.merge(shop, pull, method, head_sha=server.branches(shop)["feature"])
    assert server.branches(shop)["main"] == commit
    assert server.read(shop, "main", "b.txt") == "b\n"
    merged = github.pull(shop, pull)
    assert merged is not None
    assert (merged.state, merged.merge_sha) == ("merged", commit)


def test_what_cannot_be_merged_is_refused_in_githubs_words(github: GitHub, shop: str, pull: int, server: GitHubServer) -> None:
    with pytest.raises(Refused, match="Head branch was modified"):
        github.merge(shop, pull, "squash", head_sha="a" * 40)
    server.push(shop, "main", {"b.txt": "main\n"})
    with pytest.raises(Refused, match="not mergeable"):
        github.merge(shop, pull, "merge")
    with pytest.raises(Refused, match="no way to merge"):
        github.merge(shop, pull, "fast-forward")


def test_a_pull_request_is_changed(github: GitHub, shop: str, pull: int) -> None:
    assert github.update_pull(shop, pull, title="Better", state="closed").state == "closed"
    assert github.pull(shop, pull).title == "Better"  # type: ignore[union-attr]


def test_checks_are_summed_up(github: GitHub, shop: str, pull: int, server: GitHubServer) -> None:
    head = server.branches(shop)["feature"]
    assert github.checks(shop, head).state == ""
    run = server.add_check_run(shop, head, "tests", title="2 failed", details_url="https://ci.example.org/1")
    server.add_check_run(shop, head, "lint", conclusion="neutral")
    assert github.checks(shop, head).state == "pending"
    server.finish_check_run(shop, run, "success")
    server.add_status(shop, head, "deploy", "pending")
    assert github.checks(shop, head).state == "pending"
    server.add_status(shop, head, "deploy", "success")
    assert github.checks(shop, head).state == "success"
    server.finish_check_run(shop, run, "timed_out")
    found = github.checks(shop, head)
    assert found.state == "failure"
    assert [(one.name, one.url, one.text) for one in found.failed] == [("tests", "https://ci.example.org/1", "2 failed")]


def test_a_kind_of_check_that_the_token_may_not_see_is_left_out(github: GitHub, shop: str, pull: int, server: GitHubServer) -> None:
    head = server.branches(shop)["feature"]
    server.add_status(shop, head, "deploy", "success")
    server.fault("/check-runs", status=403, body={"message": "Resource not accessible by personal access token"}, times=2)
    assert github.checks(shop, head).state == "success"
    server.fault("/status$", status=403, body={"message": "Resource not accessible by personal access token"})
    with pytest.raises(PermissionMissing, match="Resource not accessible"):
        github.checks(shop, head)


def test_the_last_verdict_of_each_reviewer_counts(github: GitHub, shop: str, pull: int, server: GitHubServer) -> None:
    assert github.reviews(shop, pull).state == ""
    server.add_review(shop, pull, "bob", "REQUEST_CHANGES", "Name it better.")
    found = github.reviews(shop, pull)
    assert (found.state, found.all[0].author, found.all[0].text) == ("changes_requested", "bob", "Name it better.")
    server.add_review(shop, pull, "bob", "COMMENT")
    assert github.reviews(shop, pull).state == "changes_requested"
    server.add_review(shop, pull, "bob", "APPROVE")
    assert github.reviews(shop, pull).state == "approved"


def test_what_is_not_resolved_is_read_with_file_and_line(github: GitHub, shop: str, pull: int, server: GitHubServer) -> None:
    first = server.add_review_comment(shop, pull, "bob", "b.txt", 1, "Why?")
    done = server.add_review_comment(shop, pull, "bob", "b.txt", 1, "Typo.")
    server.resolve(done)
    github.reply(shop, pull, first, "Because.")
    [thread] = github.unresolved_threads(shop, pull)
    assert (thread.path, thread.line, thread.is_outdated) == ("b.txt", 1, False)
    assert [(one.author, one.text) for one in thread.comments] == [("bob", "Why?"), ("alice", "Because.")]
    assert thread.comments[0].id == first


def test_a_diff_is_read_hunk_by_hunk(github: GitHub, shop: str, server: GitHubServer) -> None:
    lines = [f"{number}\n" for number in range(1, 31)]
    server.push(shop, "main", {"long.txt": "".join(lines), "old.txt": "one\ntwo\nthree\n"})
    server.push(shop, "release/2", {"own.txt": "2\n"})
    lines[1], lines[25] = "second\n", "-- 26\n"
    server.push(shop, "topic", {"long.txt": "".join(lines), "old.txt": None, "new.txt": "one\ntwo\nthree\nfour\n", "pic.png": b"\0\1"})
    found = {file.path: file for file in github.differences(shop, "release/2", server.branches(shop)["topic"])}
    assert {path: file.old_path for path, file in found.items()} == {"long.txt": "long.txt", "new.txt": "old.txt", "pic.png": "pic.png"}
    first, second = found["long.txt"].hunks
    assert (first.sides["LEFT"][2], first.sides["RIGHT"][2], first.sides["RIGHT"][5]) == ("2", "second", "5")
    assert (6 in first.sides["RIGHT"], second.sides["RIGHT"][26], min(second.sides["LEFT"])) == (False, "-- 26", 23)
    assert found["pic.png"].hunks == ()
    assert found["new.txt"].blob == server.world.repositories[shop].git("rev-parse", "topic:new.txt").decode().strip()


def test_a_review_is_all_or_nothing(github: GitHub, shop: str, pull: int, server: GitHubServer) -> None:
    head = server.branches(shop)["feature"]
    [file] = github.differences(shop, "main", head)
    last = max(file.hunks[0].sides["RIGHT"])
    there, beyond = ({"path": "b.txt", "line": line, "side": "RIGHT", "body": "Why?"} for line in (last, last + 1))
    with pytest.raises(Refused, match="line must be part of the diff"):
        github.create_review(shop, pull, commit=head, body="<!-- x -->", comments=[there, beyond])
    assert (server.reviews(shop, pull), github.find_review(shop, pull, "<!-- x -->")) == ([], None)
    made = github.create_review(shop, pull, commit=head, body="<!-- x -->", comments=[there])
    assert github.find_review(shop, pull, "<!-- x -->") == made
    [review] = server.reviews(shop, pull)
    assert (review["state"], review["commit_id"], review["html_url"]) == ("COMMENTED", head, made.url)
    assert [(one["path"], one["line"], one["side"], one["body"]) for one in review["comments"]] == [("b.txt", last, "RIGHT", "Why?")]
    [thread] = github.unresolved_threads(shop, pull)
    assert thread.comments[0].review == made.id


def test_who_has_begun_a_review_at_github_has_to_end_it_first(github: GitHub, shop: str, pull: int, server: GitHubServer) -> None:
    server.as_user("alice", "POST", f"/repos/{shop}/pulls/{pull}/reviews", {"body": "<!-- x --> not sent"})
    assert github.find_review(shop, pull, "<!-- x -->") is None
    with pytest.raises(Refused, match="only have one pending review"):
        github.create_review(shop, pull, commit=server.branches(shop)["feature"], body="x", comments=[])


def test_comments_and_reactions(github: GitHub, shop: str, server: GitHubServer) -> None:
    issue = server.add_issue(shop, "bob", "It breaks")
    assert github.comment(shop, issue, "On it.").url.startswith(f"{server.url}/{shop}/issues/{issue}#")
    comment = server.add_comment(shop, issue, "bob", "Thanks.")
    for _ in range(2):
        github.react(shop, "eyes", number=issue)
    github.react(shop, "rocket", comment_id=comment)
    assert [one["body"] for one in server.comments(shop, issue)] == ["On it.", "Thanks."]
    found = [(one["subject"], one["content"]) for one in server.reactions if one["repository"] == shop]
    assert found == [(f"issues/{issue}", "eyes"), (f"issues/comments/{comment}", "rocket")]


# --- errors -------------------------------------------------------------------------------------------------------------


def test_a_token_taken_back_is_refused(server: GitHubServer) -> None:
    server.add_token("alice", "ghp_old")
    server.revoke("ghp_old")
    with pytest.raises(TokenRefused, match="Connect your GitHub account again"):
        GitHub("ghp_old").viewer()


def test_what_one_may_not_see_is_not_there(server: GitHubServer) -> None:
    server.add_user("stranger", "ghp_stranger")
    server.add_repo("alice/secret", private=True)
    for name in ("alice/secret", "alice/no-such"):
        with pytest.raises(NotFoundOnGitHub):
            GitHub("ghp_stranger").repo(name)


def test_a_scope_that_is_missing_is_named(server: GitHubServer, shop: str) -> None:
    server.add_token("alice", "ghp_narrow", ("user:email",))
    server.add_repo("alice/public", {"a": "a"})
    with pytest.raises(PermissionMissing, match="lacks the scope public_repo or repo"):
        GitHub("ghp_narrow").comment("alice/public", 1, "Hello")


@pytest.mark.parametrize(
    ("headers", "message", "words"),
    [
        ({"X-Accepted-GitHub-Permissions": "contents=write"}, "Resource not accessible", "lacks a permission: contents=write"),
        ({"X-GitHub-SSO": "required; url=https://evil.example/sso"}, "Resource protected by SAML", r"single sign-on\. Do so and try"),
        ({}, "The acme organization has enabled OAuth App access restrictions", "acme organization has enabled"),
    ],
)
def test_what_is_forbidden_says_what_would_allow_it(
    github: GitHub, server: GitHubServer, headers: dict[str, str], message: str, words: str
) -> None:
    server.fault("/repos/", status=403, body={"message": message}, headers=headers)
    with pytest.raises(PermissionMissing, match=words):
        github.repo("alice/any")


@pytest.mark.parametrize(("secondary", "status"), [(False, 403), (True, 403), (True, 429)])
def test_a_limit_says_when_it_is_over_and_nobody_sleeps(github: GitHub, server: GitHubServer, secondary: bool, status: int) -> None:
    server.limit(secondary=secondary, seconds=600, login="alice", status=status)
    began = time.monotonic()
    with pytest.raises(RateLimited, match="asked too often") as limited:
        github.viewer()
    assert time.monotonic() - began < 5
    assert 580 < (limited.value.until - datetime.now(UTC)).total_seconds() <= 601
    assert GitHub("ghp_bob").viewer().login == "bob"


@pytest.mark.parametrize("trouble", [{"status": 500}, {"status": 502, "body": b"<html>"}, {"drops": True}, {"status": 202}])
def test_trouble_at_github_is_said_at_once(github: GitHub, server: GitHubServer, trouble: dict[str, Any]) -> None:
    server.fault("/user$", **trouble)
    with pytest.raises(Unavailable):
        github.viewer()
    assert len(server.seen) == 1


def test_github_that_does_not_answer_is_not_waited_for(github: GitHub, server: GitHubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.github_api.connection.TIMEOUT_S", 0.1)
    server.fault("/user$", status=0, delay_s=0.5)
    with pytest.raises(Unavailable, match="did not answer"):
        github.viewer()


def test_an_answer_that_trickles_in_is_given_up(github: GitHub, server: GitHubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.github_api.connection.MOST_S", 0)
    with pytest.raises(Unavailable, match="did not answer in time"):
        github.viewer()


@pytest.mark.parametrize("trouble", [{"status": 500}, {"drops": True}, {"status": 301, "headers": {"Location": "https://x/"}}])
def test_the_token_is_in_no_log_and_no_report(server: GitHubServer, caplog: pytest.LogCaptureFixture, trouble: dict[str, Any]) -> None:
    caplog.set_level("DEBUG")
    token = "ghp_" + "kept_quiet"
    server.add_token("alice", token)
    server.fault("/user$", **trouble)
    with GitHub(token) as github, pytest.raises(Unavailable) as error:
        github.viewer()
    traceback = error.tb.tb_next  # without this test's own frame
    report = ExceptionReporter(None, error.type, error.value, traceback).get_traceback_html()
    assert "viewer" in report
    assert token not in report
    assert token not in caplog.text


def test_github_that_is_not_there(settings: Settings) -> None:
    settings.GITHUB_API_URL = "http://127.0.0.1:9/api/v3"
    with pytest.raises(Unavailable, match=r"cannot be reached at 127\.0\.0\.1:9"):
        GitHub(TOKEN).viewer()


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b"[1, null]", b"7", b'{"id": "x", "login": 3}', b"no JSON", b"[" * 100_000])
def test_answers_that_make_no_sense_are_an_error_or_nothing(github: GitHub, server: GitHubServer, body: bytes) -> None:
    server.fault("/", status=200, body=body, times=None)
    for ask in (github.viewer, lambda: github.repo("a/b"), lambda: github.pull("a/b", 1)):
        with pytest.raises(Unavailable):
            ask()
    for ask in (
        lambda: github.repos("x"),
        lambda: github.branches("a/b", "x"),
        lambda: github.find_pull("a/b", "x"),
        lambda: github.checks("a/b", "a" * 40),
        lambda: github.reviews("a/b", 1),
        lambda: github.unresolved_threads("a/b", 1),
        lambda: github.differences("a/b", "c", "d"),
        lambda: github.find_review("a/b", 1, "x"),
        lambda: github.pull_template("a/b"),
        lambda: github.permission("a/b", "c"),
    ):
        try:
            ask()
        except Unavailable:
            assert body in (b"no JSON", b"[" * 100_000)


def test_an_endless_answer_is_not_read(github: GitHub, server: GitHubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.github_api.connection._MOST_BYTES", 10_000)
    server.fault("/user$", status=200, body=b'"' + b"x" * 1_000_000 + b'"')
    with pytest.raises(Unavailable, match="longer"):
        github.viewer()


def test_texts_are_cut_and_addresses_are_web_addresses(github: GitHub, server: GitHubServer, shop: str, pull: int) -> None:
    body = {"number": 1, "html_url": "https://github.com/a/b/pull/1", "state": "open", "title": "x" * 9999, "body": "y" * 999_999}
    server.fault("/pulls/", status=200, body=body)
    found = github.pull(shop, pull)
    assert found is not None
    assert (len(found.title), len(found.body), found.head_sha, found.mergeable) == (500, 65536, "", "")
    server.fault("/check-runs", status=200, body={"check_runs": [{"name": "x", "details_url": "javascript:alert(1)"}]})
    assert github.checks(shop, server.branches(shop)["feature"]).all[0].url == ""


@pytest.mark.parametrize("name", ["alice", "../user", "a/..", "./a", "a/b/c", "a/b?x=1", "a/b#c", "a b/c", "http://x/y", ""])
def test_what_is_no_name_of_a_repository_is_not_asked_for(github: GitHub, server: GitHubServer, name: str) -> None:
    with pytest.raises(Refused, match="Write OWNER/NAME"):
        github.repo(name)
    assert server.seen == []


def test_only_the_apis_host_is_contacted(github: GitHub, server: GitHubServer, settings: Settings) -> None:
    with github_server() as elsewhere:
        elsewhere.add_user("alice", TOKEN)
        link = {"Link": f'<{elsewhere.api_url}/user/orgs?page=2>; rel="next"'}
        server.fault("/user/orgs", status=200, body=[{"login": "acme"}], headers=link)
        assert github.viewer().orgs == ("acme", "acme")  # page 2 is asked for where page 1 was
        for status in (301, 302, 307):
            server.fault("/repos/", status=status, headers={"Location": f"{elsewhere.url.replace('127.0.0.1', 'localhost')}/api/v3/user"})
            with pytest.raises((Unavailable, NotFoundOnGitHub)):
                github.repo("alice/moved")
        assert elsewhere.seen == []


def test_a_renamed_repository_is_followed(github: GitHub, server: GitHubServer, shop: str) -> None:
    server.fault("/repos/alice/former$", status=301, headers={"Location": f"{server.api_url}/repos/{shop}"})
    assert github.repo("alice/former").full_name == shop
