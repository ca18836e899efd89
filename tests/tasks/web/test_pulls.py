"""Publishing a run from its pages: the form, how far it is, what is in the way and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tasks.git import refusals
from tasks.github_api.answers import Label
from tasks.models import Operation, Patch, Publication, PullRequest, Repo, Run, Task
from tasks.web import publishing
from tasks.web.pulls import PullRequestForm

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
FILE = {"path": "a<b>.py", "old_path": "a.py", "state": "modified", "additions": 3, "deletions": 1, "is_binary": False}


def text(page: str) -> str:
    return " ".join(page.split())


def address(run: Run, name: str = "run-pull") -> str:
    return reverse(name, args=[run.pk])


def page_of(client: Client, run: Run) -> str:
    return text(client.get(address(run)).content.decode())


@pytest.fixture
def changed(make_task: Callable[..., Task], make_run: MakeRun) -> Run:
    """A run on a repository of GitHub's that has changed one file."""
    task = make_task(title="Fix it", prompt="Please fix it")
    Repo.objects.filter(pk=task.repo_id).update(source="https://github.com/acme/shop", name="acme/shop")
    run = make_run(Task.objects.get(pk=task.pk), status="succeeded", branch="asynccode/1-fix")
    run.turns.update(answer="Fixed.")
    patch = {"content": b"diff", "sha256": "1" * 64, "files": [FILE], "additions": 3, "deletions": 1}
    Patch.objects.create(run=run, turn=run.turns.get(), kind="final", **patch)
    return run


def publication(run: Run, **fields: Any) -> Publication:
    defaults = {"by": run.task.owner, "patch": run.patches.get(), "title": "Typed", "body": "Typed too", "base": "main", "message": "x"}
    return Publication.objects.create(run=run, **defaults | fields)


def operation(run: Run, status: str, **fields: Any) -> Operation:
    return Operation.objects.create(kind="pull_request", subject=f"run:{run.pk}", status=status, **fields)


def pull_request(run: Run, **fields: Any) -> PullRequest:
    defaults = {"repository": "acme/shop", "number": 7, "url": "https://github.com/acme/shop/pull/7", "branch": run.branch, "base": "main"}
    return PullRequest.objects.create(run=run, **defaults | fields)


# --- what is offered ----------------------------------------------------------------------------------------------------


def test_the_form_is_filled_in_and_shows_what_is_published(as_alice: Client, changed: Run) -> None:
    page = page_of(as_alice, changed)
    assert 'value="Fix it"' in page
    assert "Fixed." in page
    assert "Please fix it" in page
    assert 'value="main"' in page
    assert "a&lt;b&gt;.py" in page
    assert '<span class="added">+3</span>' in page
    assert "Push branch only" in page


def test_the_runs_page_and_its_card_lead_there(as_alice: Client, changed: Run) -> None:
    for where in (changed.get_absolute_url(), changed.task.get_absolute_url()):
        assert f'href="{address(changed)}"' in as_alice.get(where).content.decode()


def test_what_is_not_on_github_is_told_so_and_can_be_had_by_hand(as_alice: Client, changed: Run) -> None:
    Repo.objects.update(source="https://example.org/acme/shop")
    page = page_of(as_alice, changed)
    assert "is on example.org, not on github.com" in page
    assert page.count("disabled") == 2
    assert f"git apply --index --allow-empty run-{changed.pk}.patch" in page
    assert f'href="{reverse("run-patch", args=[changed.pk])}?download"' in page
    assert "is on example.org, not on github.com" in text(as_alice.get(changed.get_absolute_url()).content.decode())


def test_without_a_connection_the_form_says_what_to_do(as_alice: Client, changed: Run) -> None:
    sent = as_alice.post(address(changed), {"title": "Mine", "body": "Words", "base": "main"})
    page = text(sent.content.decode())
    assert sent.status_code == 422
    assert "Connect" in page
    assert 'value="Mine"' in page
    assert not Operation.objects.filter(kind="pull_request").exists()


@pytest.mark.parametrize(
    ("field", "value", "words"), [("title", "", "Give the pull request a title."), ("base", "a b", "contains a space")]
)
def test_what_was_typed_wrong_is_said_beside_it(as_alice: Client, changed: Run, field: str, value: str, words: str) -> None:
    sent = as_alice.post(address(changed), {"title": "Mine", "body": "Words", "base": "main", field: value})
    assert sent.status_code == 422
    assert words in sent.content.decode()


def test_secrets_need_a_second_word(as_alice: Client, changed: Run) -> None:
    changed.patches.update(secrets_found=["API_KEY"])
    sent = as_alice.post(address(changed), {"title": "Mine", "body": "", "base": "main"})
    assert sent.status_code == 422
    assert "API_KEY" in sent.content.decode()
    assert 'name="allows_secrets"' in sent.content.decode()


# --- how it goes on -----------------------------------------------------------------------------------------------------


def test_progress_is_shown_until_it_is_over(as_alice: Client, changed: Run) -> None:
    publication(changed)
    doing = operation(changed, "running", percent=60, progress="Pushed 1234")
    page = page_of(as_alice, changed)
    assert "Pushed 1234" in page
    assert 'hx-trigger="every 1s"' in page
    assert "<form" not in page.partition('id="publishing"')[2].partition("</main>")[0]
    assert "Pushed 1234" in text(as_alice.get(changed.get_absolute_url()).content.decode())
    Operation.objects.filter(pk=doing.pk).update(status="succeeded")
    pull_request(changed)
    Publication.objects.update(pushed="1" * 64, head_sha="2" * 40)
    page = text(as_alice.get(address(changed), headers={"HX-Request": "true"}).content.decode())
    assert page.startswith('<div class="publishing"')
    assert "PR #7 open" in page
    assert "every 1s" not in page


def test_an_error_is_told_and_what_was_typed_is_kept(as_alice: Client, changed: Run) -> None:
    publication(changed, error="GitHub does not take your token any more.", error_code="token_refused")
    operation(changed, "failed")
    page = page_of(as_alice, changed)
    assert "does not take your token" in page
    assert f'href="{reverse("settings")}#github"' in page
    assert 'value="Typed"' in page
    assert "Typed too" in page


def test_conflicts_are_named_and_can_be_sent_to_the_agent(as_alice: Client, changed: Run) -> None:
    Run.objects.update(agent="claude")
    found = [{"path": "a<b>.py", "text": "<<<<<<<"}]
    publication(changed, error="These changes conflict.", error_code="conflicts", conflicts=found, conflicts_with="3" * 40)
    operation(changed, "failed")
    named = page_of(as_alice, changed).partition("Changed on both sides:")[2].partition("</ul>")[0]
    assert "a&lt;b&gt;.py" in named
    assert "text" not in named
    sent = as_alice.post(address(changed, "run-pull-resolve"))
    assert sent.headers["Location"] == changed.get_absolute_url()
    turn = changed.turns.get(number=2)
    assert "a<b>.py" in turn.prompt
    assert Publication.objects.get().settled == {"a<b>.py": "3" * 40}


def test_a_script_is_not_sent_conflicts_to_run_as_bash(as_alice: Client, changed: Run) -> None:
    publication(changed, error="These changes conflict.", error_code="conflicts", conflicts=[{"path": "a.py", "text": "<<<<<<<"}])
    operation(changed, "failed")
    assert "Send the conflicts to the agent" not in page_of(as_alice, changed)
    assert "A script cannot be told" in as_alice.post(address(changed, "run-pull-resolve"), follow=True).content.decode()
    assert changed.turns.count() == 1


def test_a_later_patch_is_offered_as_an_update(as_alice: Client, changed: Run) -> None:
    publication(changed, pushed="0" * 64, head_sha="2" * 40)
    pull_request(changed)
    assert "Update pull request" in page_of(as_alice, changed)
    assert "Update pull request" in as_alice.get(changed.get_absolute_url()).content.decode()
    Publication.objects.update(pushed="1" * 64)
    assert "Update pull request" not in page_of(as_alice, changed)


def test_what_cannot_be_updated_says_why(as_alice: Client, changed: Run) -> None:
    publication(changed, pushed="0" * 64, head_sha="2" * 40)
    pull_request(changed, state="merged")
    assert "Pull request #7 is merged." in page_of(as_alice, changed)
    sent = as_alice.post(address(changed, "run-pull-update"), follow=True)
    assert "is merged" in sent.content.decode()


# --- what is in the way, and beside it what mends it ---------------------------------------------------------------------


ACCOUNT, NAME, HANDS = f'href="{reverse("settings")}#github"', 'href="#id_branch"', 'href="#by-hand"'


@pytest.mark.parametrize(
    ("kind", "way_out"),
    [
        *dict.fromkeys(
            ["token_refused", "github_not_connected", "github_permission_missing", "workflow", "sign_in", "sso"], ACCOUNT
        ).items(),
        *dict.fromkeys(["branch_moved", "protected", "rules", "name_taken", "rejected"], NAME).items(),
        *dict.fromkeys(["push_missing", "archived", "denied", "gone", "ip_refused", "github_not_found"], HANDS).items(),
        *dict.fromkeys(["secrets", "too_large", "private_email", "lfs_missing", "rate_limited", "github_unavailable"], "").items(),
    ],
)
def test_each_refusal_has_its_way_out(as_alice: Client, changed: Run, kind: str, way_out: str) -> None:
    publication(changed, error=f"Because of {kind}.", error_code=kind)
    operation(changed, "failed")
    said = page_of(as_alice, changed).partition('<div class="failure" role="alert">')[2].partition("</div>")[0]
    assert f"Because of {kind}." in said
    assert [way for way in (ACCOUNT, NAME, HANDS) if way in said] == ([way_out] if way_out else [])


def test_no_refusal_is_forgotten_here() -> None:
    known = publishing.OF_ACCOUNT | publishing.OF_NAME | publishing.OF_ACCESS
    of_changes = {"secrets", "too_large", "private_email", "lfs_missing", "rate_limited"}  # mended in a follow-up, or by waiting
    assert {*refusals._DENIED, *refusals._DECLINED} <= known | of_changes


@pytest.mark.parametrize(
    ("kind", "offered"),
    [
        ("branch_moved", "asynccode/1-fix.2"),
        ("protected", "asynccode-1-fix"),
        ("name_taken", "asynccode-1-fix"),
        ("denied", "asynccode/1-fix"),
    ],
)
def test_another_name_is_offered_where_this_one_is_in_the_way(as_alice: Client, changed: Run, kind: str, offered: str) -> None:
    publication(changed, error="No.", error_code=kind)
    operation(changed, "failed")
    assert f'name="branch" value="{offered}"' in page_of(as_alice, changed)


def test_a_pull_request_whose_branch_others_changed_can_get_another_name(as_alice: Client, changed: Run) -> None:
    publication(changed, error="Somebody has pushed.", error_code="branch_moved", head_sha="2" * 40, branch="mine.2")
    pull_request(changed, branch="mine.2")
    operation(changed, "failed")
    page = page_of(as_alice, changed)
    assert 'name="branch" value="mine.3"' in page
    assert "Publish under this name" in page
    sent = as_alice.post(address(changed, "run-pull-update"), {"branch": "a b"})
    assert sent.status_code == 422
    assert "contains a space" in sent.content.decode()
    assert 'value="a b"' in sent.content.decode()


# --- labels and reviewers -----------------------------------------------------------------------------------------------


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = [
        Label("a<b>", "ff0000", "<i>"),
        *(Label(f"debug {n}", "", "") for n in range(30)),
        Label("bug-fix", "", ""),
        Label("Bug", "", ""),
    ]
    monkeypatch.setattr("tasks.github.names.labels", lambda user, repository: labels)
    monkeypatch.setattr("tasks.github.names.reviewers", lambda user, repository: ["bob-gh", "carol-gh"])


def names_found(client: Client, run: Run, of: str, q: str) -> list[str]:
    page = client.get(address(run, "run-pull-names"), {"of": of, "q": q}).content.decode()
    return re.findall(r'data-name="([^"]*)"', page)


@pytest.mark.usefixtures("listed")
def test_they_are_found_as_one_types_what_fits_best_first(as_alice: Client, changed: Run) -> None:
    assert names_found(as_alice, changed, "labels", "bug")[:3] == ["Bug", "bug-fix", "debug 0"]
    assert len(names_found(as_alice, changed, "labels", "bug")) == 20
    assert names_found(as_alice, changed, "labels", "<") == ["a&lt;b&gt;"]
    assert names_found(as_alice, changed, "reviewers", "O") == ["bob-gh", "carol-gh"]
    assert "Nothing of that name." in as_alice.get(address(changed, "run-pull-names"), {"q": "zebra"}).content.decode()


def test_where_github_cannot_be_asked_the_list_says_so(as_alice: Client, changed: Run) -> None:
    assert "GitHub is not connected." in as_alice.get(address(changed, "run-pull-names")).content.decode()


def test_several_names_are_typed_with_commas_and_kept(as_alice: Client, changed: Run) -> None:
    form = {"title": "Mine", "body": "Words", "base": "main", "labels": " Bug ,big,, bug", "reviewers": "bob-gh", "branch": "mine"}
    sent = as_alice.post(address(changed), form)
    page = text(sent.content.decode())
    assert sent.status_code == 422
    assert all(f'value="{value}"' in page for value in ("Mine", "mine", "bob-gh", " Bug ,big,, bug"))
    assert PullRequestForm({"labels": " Bug ,big,, bug"}).fields["labels"].clean(" Bug ,big,, bug") == ["bug", "big"]


def test_those_that_github_refused_are_said_and_can_be_asked_for_again(as_alice: Client, changed: Run) -> None:
    why = "bob-gh was not asked for a review: GitHub refused: no."
    publication(changed, pushed="1" * 64, head_sha="2" * 40, reviewers=["bob-gh"], refused=[why])
    pull_request(changed)
    operation(changed, "succeeded")
    page = page_of(as_alice, changed)
    assert why in page
    assert "The pull request is there all the same." in page
    assert 'value="bob-gh"' in page
    assert "Ask again" in page
    assert "The run has changed more since" not in page


# --- whose it is --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run-pull", "run-pull-update", "run-pull-resolve"])
def test_another_users_run_is_not_there(as_bob: Client, changed: Run, name: str) -> None:
    assert as_bob.post(address(changed, name), {"title": "x", "base": "main"}).status_code == 404
    if name == "run-pull":
        assert as_bob.get(address(changed)).status_code == 404
        assert as_bob.get(address(changed, "run-pull-names")).status_code == 404
    assert not Publication.objects.exists()
