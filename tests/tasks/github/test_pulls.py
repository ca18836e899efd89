"""A run's patch becomes a branch and a pull request: once, whatever dies, and by nobody but who may."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tasks.errors import AppError, Conflict, InvalidInput, NotAllowed
from tasks.git import mirrors
from tasks.github import names, publishing, pulls
from tasks.github_api import installations
from tasks.models import GitHubAccount, GitHubApp, Operation, OperationStatus, Patch, Publication, PullRequest, Repo, Run, Task, Turn, User
from tasks.running import jobs, operations
from tasks.running.patches import changed_files
from tests.github.server import GitHubServer, github_server
from tests.tasks.github_app import known, manifest

pytestmark = pytest.mark.django_db
SHOP = "acme/shop"
FILES = {"README.md": "# Shop\n", "shop.py": "price = 1\n", "other.py": "x = 1\n"}
GIT = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]


@pytest.fixture(scope="module")
def server() -> Iterator[GitHubServer]:
    with github_server() as server:
        yield server


class Shop:
    """alice's run on a repository of GitHub's, with what its sandbox has made of it."""

    def __init__(self, server: GitHubServer, run: Run, name: str, folder: Path) -> None:
        self.server, self.run, self.name, self.folder = server, run, name, folder

    @property
    def alice(self) -> User:
        return self.run.task.owner

    def change(self, files: dict[str, str], *, turn: int = 1, answer: str = "Done.", **fields: Any) -> Patch:
        """Let the run have changed these files, beside what it had, when this turn was over."""
        for name, content in files.items():
            (self.folder / name).write_text(content)
        subprocess.run([*GIT, "add", "-A"], cwd=self.folder, check=True)
        content = subprocess.run([*GIT, "diff", "--binary", "--cached", "HEAD"], cwd=self.folder, check=True, capture_output=True).stdout
        defaults = {"prompt": f"prompt {turn}", "author": self.alice, "status": "succeeded", "answer": answer}
        row, _ = Turn.objects.update_or_create(run=self.run, number=turn, defaults=defaults)
        found = changed_files(content)
        return Patch.objects.create(
            run=self.run,
            turn=row,
            kind="final",
            content=content,
            sha256=hashlib.sha256(content).hexdigest(),
            files=[asdict(file) for file in found],
            additions=sum(file.additions for file in found),
            deletions=sum(file.deletions for file in found),
            **fields,
        )

    def open(self, **options: Any) -> Publication:
        return pulls.open_pull_request(run=self.run, by=self.alice, **options)

    def work(self) -> Operation:
        """Do what is to be done."""
        operation = Operation.objects.filter(kind="pull_request").latest("pk")
        jobs.run_operation(operation.pk)
        operation.refresh_from_db()
        return operation

    def opened(self, **options: Any) -> PullRequest:
        self.open(**options)
        operation = self.work()
        assert operation.status == OperationStatus.SUCCEEDED, operation.error
        return PullRequest.objects.get(run=self.run)

    def publication(self) -> Publication:
        return Publication.objects.get(run=self.run)

    def pushed(self, path: str) -> str:
        return self.server.read(self.name, self.run.branch, path)

    def branches(self) -> set[str]:
        return set(self.server.branches(self.name))

    def log(self, form: str, branch: str = "") -> str:
        repository = self.server.world.repositories[self.name]
        return repository.git("log", "-1", f"--format={form}", branch or self.run.branch).decode().strip()


_count = iter(range(1, 1000))


@pytest.fixture
def shop(
    server: GitHubServer, settings: Any, tmp_path: Path, alice: User, make_task: Callable[..., Task], make_run: Callable[..., Run]
) -> Iterator[Shop]:
    settings.GITHUB_URL, settings.GITHUB_API_URL, settings.GITHUB_TOKEN = server.url, server.api_url, ""
    settings.ALLOW_PRIVATE_HOSTS = frozenset({server.url.removeprefix("http://")})
    settings.DATA = tmp_path
    settings.BASE_URL = "https://code.example.org"
    name = f"acme/shop{next(_count)}"
    person = server.add_user("alice-gh", "token-of-alice", orgs=["acme"])
    server.add_repo(name, FILES, private=True, permissions={"alice-gh": "push"})
    account = GitHubAccount(user=alice, github_id=person.id, login="alice-gh", scopes=["repo", "workflow"])
    account.token = "token-of-alice"
    account.save()
    repo = Repo.objects.create(owner=alice, source=f"{server.url}/{name}", name=name, default_branch="main")
    mirrors.ensure(repo.mirror_path, operations.source_of(repo), token="token-of-alice", timeout=30)
    base = mirrors.resolve(repo.mirror_path, "main")
    task = make_task(repo=repo, base_commit=base, title="Raise the price", prompt="Raise the price @everyone")
    run = make_run(task, agent="claude", status="succeeded", branch=f"asynccode/{task.pk}-raise-claude-1")
    subprocess.run([*GIT, "clone", "-q", str(repo.mirror_path), str(tmp_path / "workspace")], check=True)
    yield Shop(server, run, name, tmp_path / "workspace")
    server.forget()


@pytest.fixture
def changed(shop: Shop) -> Shop:
    shop.change({"shop.py": "price = 2\n", "new.py": "new\n"}, answer="The price is 2 now.")
    return shop


# --- opening ------------------------------------------------------------------------------------------------------------


def test_it_becomes_a_branch_and_a_pull_request(changed: Shop) -> None:
    pull = changed.opened()
    assert (pull.repository, pull.branch, pull.base, pull.state) == (changed.name, changed.run.branch, "main", "open")
    assert (changed.pushed("shop.py"), changed.pushed("new.py"), changed.pushed("README.md")) == ("price = 2\n", "new\n", "# Shop\n")
    assert pull.head_sha == changed.server.branches(changed.name)[changed.run.branch]
    there = changed.server.pull(changed.name, pull.number)
    assert (there["title"], there["head"]["ref"], there["base"]["ref"], there["draft"]) == (
        "Raise the price",
        changed.run.branch,
        "main",
        False,
    )
    assert pull.url == f"{changed.server.url}/{changed.name}/pull/{pull.number}"


def test_without_a_token_of_their_own_the_github_app_opens_it_for_who_may_write(changed: Shop) -> None:
    app = changed.server.apps.add("acme", manifest())
    known(app, changed.server)
    changed.server.apps.install(app, "acme")
    GitHubAccount.objects.update(token_encrypted=b"")
    pull = changed.opened()
    assert changed.server.pull(changed.name, pull.number)["user"]["login"] == app.bot
    assert changed.log("%an") == "alice-gh"
    changed.server.world.repositories[changed.name].permissions["alice-gh"] = "pull"
    installations.forget(GitHubApp.objects.get(), "acme")
    changed.change({"shop.py": "price = 3\n"}, turn=2)
    with pytest.raises(AppError, match="GitHub is not connected"):
        pulls.update_pull_request(run=changed.run, by=changed.alice)


def test_the_commit_is_the_users_with_the_agent_as_co_author(changed: Shop) -> None:
    changed.opened(title="A better price")
    account = changed.alice.github
    assert changed.log("%an %ae") == f"alice-gh {account.github_id}+alice-gh@users.noreply.127.0.0.1"
    assert changed.log("%s") == "A better price"
    assert "Co-authored-by: Claude <noreply@anthropic.com>" in changed.log("%b")
    assert f"https://code.example.org/runs/{changed.run.pk}/" in changed.log("%b")


def test_the_body_has_what_the_agent_said_the_prompt_and_the_run(changed: Shop) -> None:
    pull = changed.opened()
    body = changed.server.pull(changed.name, pull.number)["body"]
    assert body.startswith("The price is 2 now.")
    assert "```text\nRaise the price @everyone\n```" in body
    assert f"Made by Claude Code: https://code.example.org/runs/{changed.run.pk}/" in body


def test_the_repositorys_template_is_in_it(changed: Shop) -> None:
    changed.server.push(changed.name, "main", {".github/pull_request_template.md": "## Checklist\n- [ ] tested\n"})
    pull = changed.opened()
    assert "## Checklist\n- [ ] tested" in changed.server.pull(changed.name, pull.number)["body"]


def test_what_was_edited_is_what_is_sent(changed: Shop) -> None:
    pull = changed.opened(title="Mine", body="Own words", is_draft=True)
    there = changed.server.pull(changed.name, pull.number)
    assert (there["title"], there["body"], there["draft"], pull.state) == ("Mine", "Own words", True, "draft")


# --- labels and reviewers -----------------------------------------------------------------------------------------------


@pytest.fixture
def dressed(changed: Shop) -> Shop:
    """The repository has the labels price and Big, and bob-gh may review in it."""
    changed.server.add_label(changed.name, "price")
    changed.server.add_label(changed.name, "Big")
    changed.server.add_user("bob-gh")
    changed.server.world.repositories[changed.name].permissions["bob-gh"] = "pull"
    return changed


def dress_of(shop: Shop) -> tuple[list[str], list[str]]:
    there = shop.server.pulls(shop.name)[0]
    return sorted(label["name"] for label in there["labels"]), [user["login"] for user in there["requested_reviewers"]]


def test_labels_and_reviewers_are_asked_for_once(dressed: Shop) -> None:
    dressed.opened(labels=["price", "big"], reviewers=["@bob-gh"])
    assert dress_of(dressed) == (["Big", "price"], ["bob-gh"])
    assert (dressed.publication().labels, dressed.publication().reviewers, dressed.publication().refused) == ([], [], [])


@pytest.mark.parametrize(
    ("options", "words", "field"),
    [
        ({"labels": ["price", "prise", "huge"]}, "has no label prise, huge", "labels"),
        ({"reviewers": ["bob-gh", "nobody"]}, "nobody cannot review in", "reviewers"),
        ({"labels": [str(n) for n in range(21)]}, "at most 20 labels", "labels"),
    ],
)
def test_unknown_names_are_refused_before_anything_is_pushed(dressed: Shop, options: dict[str, Any], words: str, field: str) -> None:
    with pytest.raises(InvalidInput, match=words) as error:
        dressed.open(**options)
    assert error.value.field == field
    assert not Publication.objects.exists()
    assert dressed.branches() == {"main"}


def test_what_github_refuses_of_them_leaves_the_pull_request_and_is_asked_for_again(dressed: Shop) -> None:
    dressed.server.add_user("carol-gh")
    permissions = dressed.server.world.repositories[dressed.name].permissions
    permissions["carol-gh"] = "pull"
    dressed.open(labels=["price"], reviewers=["bob-gh", "carol-gh"])
    del permissions["bob-gh"]  # since it was looked up
    assert dressed.work().status == OperationStatus.SUCCEEDED
    publication = dressed.publication()
    assert (publication.error, publication.labels, publication.reviewers) == ("", [], ["bob-gh"])
    assert [why.partition(":")[0] for why in publication.refused] == ["bob-gh was not asked for a review"]
    assert dress_of(dressed) == (["price"], ["carol-gh"])
    permissions["bob-gh"] = "pull"
    pulls.update_pull_request(run=dressed.run, by=dressed.alice)
    assert dressed.work().status == OperationStatus.SUCCEEDED
    assert dress_of(dressed) == (["price"], ["carol-gh", "bob-gh"])
    assert (dressed.publication().reviewers, dressed.publication().refused) == ([], [])


def test_trouble_at_github_is_no_fault_of_a_label(dressed: Shop) -> None:
    dressed.server.fault(r"/issues/\d+/labels$", method="POST", status=502)
    dressed.opened(labels=["price", "big"])
    publication = dressed.publication()
    assert publication.labels == ["price", "Big"]
    assert publication.refused == ["The label price, Big was not set: GitHub has trouble at the moment (it answered 502). Try again."]
    pulls.update_pull_request(run=dressed.run, by=dressed.alice, labels=[])  # it can be let be
    assert dressed.work().status == OperationStatus.SUCCEEDED
    assert (dress_of(dressed), dressed.publication().refused) == (([], []), [])


def test_they_are_listed_to_choose_from_and_kept_for_a_while(dressed: Shop) -> None:
    assert {"price", "Big"} <= {label.name for label in names.labels(dressed.alice, dressed.name)}
    before = len(dressed.server.seen)
    names.labels(dressed.alice, dressed.name)
    assert len(dressed.server.seen) == before
    found = names.reviewers(dressed.alice, dressed.name)
    assert "bob-gh" in found
    assert "alice-gh" not in found


# --- once, whatever happens ---------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What no code of ours catches."""


def dying_at(percent: int) -> Callable[..., None]:
    def progress(at: int, text: str, log: str = "") -> None:
        if at == percent:
            raise Killed

    return progress


@pytest.mark.parametrize("percent", [60, 70, 95], ids=["after the push", "before the pull request", "before its row"])
def test_killed_anywhere_it_ends_with_one_branch_and_one_pull_request(changed: Shop, percent: int) -> None:
    changed.open()
    with pytest.raises(Killed):
        publishing.perform(f"run:{changed.run.pk}", dying_at(percent))
    assert not PullRequest.objects.exists()
    head = changed.server.branches(changed.name)[changed.run.branch]
    assert changed.work().status == OperationStatus.SUCCEEDED
    assert changed.branches() == {"main", changed.run.branch}
    assert changed.server.branches(changed.name)[changed.run.branch] == head
    assert [pull["number"] for pull in changed.server.pulls(changed.name)] == [PullRequest.objects.get().number]


@pytest.mark.parametrize("percent", [60, 70, 95, 97])
def test_killed_anywhere_no_label_and_no_reviewer_is_lost(dressed: Shop, percent: int) -> None:
    dressed.open(labels=["price"], reviewers=["bob-gh"])
    with pytest.raises(Killed):
        publishing.perform(f"run:{dressed.run.pk}", dying_at(percent))
    assert dressed.work().status == OperationStatus.SUCCEEDED
    assert len(dressed.server.pulls(dressed.name)) == 1
    assert dress_of(dressed) == (["price"], ["bob-gh"])


def test_killed_after_the_push_of_an_update_it_pushes_nothing_twice(changed: Shop) -> None:
    first = changed.opened().head_sha
    changed.change({"shop.py": "price = 3\n"}, turn=2)
    pulls.update_pull_request(run=changed.run, by=changed.alice)
    with pytest.raises(Killed):
        publishing.perform(f"run:{changed.run.pk}", dying_at(60))
    head = changed.server.branches(changed.name)[changed.run.branch]
    assert changed.work().status == OperationStatus.SUCCEEDED
    assert head != first
    assert changed.server.branches(changed.name)[changed.run.branch] == PullRequest.objects.get().head_sha == head


def test_an_answer_that_got_lost_makes_no_second_pull_request(changed: Shop) -> None:
    changed.open()
    with pytest.raises(Killed):
        publishing.perform(f"run:{changed.run.pk}", dying_at(95))
    changed.server.fault(r"/pulls\?|/pulls$", method="GET", status=200, body=b"[]")  # GitHub's list is behind
    assert changed.work().status == OperationStatus.SUCCEEDED
    assert len(changed.server.pulls(changed.name)) == 1


def test_pressed_twice_it_is_one(changed: Shop) -> None:
    changed.open(title="First")
    changed.open(title="Second")
    assert Operation.objects.filter(kind="pull_request").count() == 1
    changed.work()
    changed.open(title="Third")
    assert Operation.objects.filter(kind="pull_request").count() == 1
    assert [pull["title"] for pull in changed.server.pulls(changed.name)] == ["First"]


# --- under another name -------------------------------------------------------------------------------------------------


def test_under_another_name_it_goes_on_there(changed: Shop) -> None:
    pull = changed.opened(branch="alice/price")
    assert (pull.branch, changed.branches()) == ("alice/price", {"main", "alice/price"})
    changed.change({"shop.py": "price = 3\n"}, turn=2)
    pulls.update_pull_request(run=changed.run, by=changed.alice)
    assert changed.work().status == OperationStatus.SUCCEEDED
    assert changed.branches() == {"main", "alice/price"}
    assert changed.server.read(changed.name, "alice/price", "shop.py") == "price = 3\n"
    assert changed.server.branches(changed.name)["alice/price"] == PullRequest.objects.get().head_sha


@pytest.mark.parametrize(("name", "words"), [("main", "Others work on main"), ("a b", "contains a space"), ("-x", "starts with a dash")])
def test_a_name_that_cannot_be_the_runs_is_refused_at_once(changed: Shop, name: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as error:
        changed.open(branch=name)
    assert error.value.field == "branch"
    assert not Publication.objects.exists()


@pytest.mark.parametrize("rejected", ["taken", "protected"])
def test_after_a_name_that_was_rejected_another_one_does(changed: Shop, rejected: str) -> None:
    if rejected == "taken":
        changed.server.push(changed.name, changed.run.branch, {"x": "of others"})
    else:
        changed.server.protect(changed.name, changed.run.branch)
    changed.open(title="Mine")
    assert changed.work().status == OperationStatus.FAILED
    assert changed.publication().error_code == {"taken": "branch_moved", "protected": "protected"}[rejected]
    before = changed.server.branches(changed.name).get(changed.run.branch)
    pull = changed.opened(title="Mine", branch="alice/price")
    assert (pull.branch, changed.publication().error) == ("alice/price", "")
    assert changed.server.branches(changed.name).get(changed.run.branch) == before


def test_when_others_have_pushed_to_it_another_name_is_another_pull_request(changed: Shop) -> None:
    first = changed.opened()
    PullRequest.objects.update(checks="failure", mergeable="blocked", etag='"x"')
    theirs = changed.server.push(changed.name, changed.run.branch, {"x": "of others"})
    changed.change({"shop.py": "price = 3\n"}, turn=2)
    pulls.update_pull_request(run=changed.run, by=changed.alice)
    assert changed.work().status == OperationStatus.FAILED
    assert changed.publication().error_code == "branch_moved"
    pulls.update_pull_request(run=changed.run, by=changed.alice, branch="alice/price")
    with pytest.raises(Killed):
        publishing.perform(f"run:{changed.run.pk}", dying_at(95))
    assert PullRequest.objects.get().number == first.number
    assert changed.work().status == OperationStatus.SUCCEEDED
    second = PullRequest.objects.get()
    assert (second.branch, second.number, second.checks, second.etag) == ("alice/price", first.number + 1, "", "")
    assert changed.server.read(changed.name, "alice/price", "shop.py") == "price = 3\n"
    assert changed.server.branches(changed.name)[changed.run.branch] == theirs
    assert [pull["state"] for pull in changed.server.pulls(changed.name)] == ["open", "open"]


# --- afterwards ---------------------------------------------------------------------------------------------------------


def test_a_follow_up_goes_to_the_same_branch_and_pull_request(changed: Shop) -> None:
    first = changed.opened()
    changed.change({"shop.py": "price = 3\n"}, turn=2)
    pulls.update_pull_request(run=changed.run, by=changed.alice)
    assert changed.work().status == OperationStatus.SUCCEEDED
    second = PullRequest.objects.get()
    assert (second.number, second.turn, changed.pushed("shop.py")) == (first.number, 2, "price = 3\n")
    assert changed.log("%P") == first.head_sha
    assert changed.log("%s") == "prompt 2"
    assert len(changed.server.pulls(changed.name)) == 1


def test_only_the_branch_then_the_pull_request(changed: Shop) -> None:
    pulls.push_branch(run=changed.run, by=changed.alice)
    changed.work()
    assert changed.branches() == {"main", changed.run.branch}
    assert changed.server.pulls(changed.name) == []
    head = changed.server.branches(changed.name)[changed.run.branch]
    assert changed.opened(title="Later").head_sha == head
    assert changed.server.pulls(changed.name)[0]["title"] == "Later"


def test_one_that_is_merged_or_closed_takes_no_more(changed: Shop) -> None:
    pull = changed.opened()
    changed.change({"shop.py": "price = 3\n"}, turn=2)
    for state in ("merged", "closed"):
        PullRequest.objects.filter(pk=pull.pk).update(state=state)
        with pytest.raises(Conflict, match=state):
            pulls.update_pull_request(run=changed.run, by=changed.alice)


# --- what is in the way -------------------------------------------------------------------------------------------------


def refused(shop: Shop, **options: Any) -> str:
    with pytest.raises(AppError) as error:
        shop.open(**options)
    assert not Publication.objects.exists()
    assert not Operation.objects.filter(kind="pull_request").exists()
    return error.value.message


def test_nothing_is_opened_without_changes(shop: Shop) -> None:
    assert refused(shop) == "The run has changed nothing, so there is nothing to publish."
    shop.change({})
    assert refused(shop) == "The run has changed nothing, so there is nothing to publish."


def test_nothing_is_opened_while_the_run_is_at_work(changed: Shop) -> None:
    Run.objects.filter(pk=changed.run.pk).update(status="running")
    changed.run.refresh_from_db()
    assert "not over" in refused(changed)


def test_elsewhere_there_are_no_pull_requests(changed: Shop) -> None:
    Repo.objects.update(source="https://example.org/acme/shop")
    changed.run.task.repo.refresh_from_db()
    assert "is on example.org, not on 127.0.0.1" in refused(changed)


def test_secrets_are_published_only_when_somebody_says_so(shop: Shop) -> None:
    shop.change({"shop.py": "hunter2\n"}, secrets_found=["API_KEY"])
    assert "API_KEY" in refused(shop)
    assert shop.opened(allows_secrets=True).number


def test_who_may_not_push_is_told_at_once(changed: Shop) -> None:
    changed.server.world.repositories[changed.name].permissions["alice-gh"] = "pull"
    with pytest.raises(NotAllowed, match="write access"):
        changed.open()
    assert changed.branches() == {"main"}


def test_who_is_not_connected_is_told_where_to_do_it(changed: Shop) -> None:
    GitHubAccount.objects.all().delete()
    assert "Settings" in refused(changed)


@pytest.mark.parametrize("is_operator", [False, True])
def test_the_sites_token_publishes_to_private_repositories_for_operators_only(changed: Shop, settings: Any, is_operator: bool) -> None:
    GitHubAccount.objects.all().delete()
    settings.GITHUB_TOKEN = "token-of-alice"
    changed.alice.is_staff = is_operator
    if is_operator:
        assert changed.opened().number
    else:
        assert "Connect your own GitHub account" in refused(changed)


def test_a_token_that_is_refused_has_to_be_given_again(changed: Shop) -> None:
    changed.server.revoke("token-of-alice")
    assert "token" in refused(changed).lower()
    assert GitHubAccount.objects.get().refused_at


def test_a_refused_pull_request_says_why_and_goes_on_from_there(changed: Shop) -> None:
    changed.server.fault(r"/pulls$", method="POST", status=500)
    changed.open()
    operation = changed.work()
    assert operation.status == OperationStatus.FAILED
    assert changed.publication().error == operation.error != ""
    head = changed.publication().head_sha
    assert changed.opened().head_sha == head
    assert changed.publication().error == ""


# --- conflicts ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def conflicting(changed: Shop) -> Shop:
    """The base branch has another price by now, and another file besides."""
    changed.server.push(changed.name, "main", {"shop.py": "price = 7\n", "other.py": "x = 2\n"})
    changed.open()
    assert changed.work().status == OperationStatus.FAILED
    return changed


def test_what_has_moved_elsewhere_is_no_conflict(changed: Shop) -> None:
    moved = changed.server.push(changed.name, "main", {"other.py": "x = 2\n"})
    changed.opened()
    assert changed.log("%P") == moved
    assert (changed.pushed("other.py"), changed.pushed("shop.py")) == ("x = 2\n", "price = 2\n")


def test_conflicts_are_named(conflicting: Shop) -> None:
    publication = conflicting.publication()
    assert publication.error_code == "conflicts"
    assert [one["path"] for one in publication.conflicts] == ["shop.py"]
    assert "price = 7" in publication.conflicts[0]["text"]
    assert conflicting.branches() == {"main"}


def test_the_agent_settles_them_in_a_follow_up(conflicting: Shop) -> None:
    turn = pulls.send_conflicts(run=conflicting.run, by=conflicting.alice)
    assert (turn.number, turn.mode) == (2, "code")
    assert "shop.py" in turn.prompt
    assert "price = 7" in turn.prompt
    Run.objects.filter(pk=conflicting.run.pk).update(status="succeeded")
    conflicting.run.refresh_from_db()
    conflicting.change({"shop.py": "price = 9\n"}, turn=2)
    pull = conflicting.opened()
    assert (conflicting.pushed("shop.py"), conflicting.pushed("other.py")) == ("price = 9\n", "x = 2\n")
    conflicting.change({"shop.py": "price = 10\n"}, turn=3)
    assert conflicting.opened().number == pull.number
    assert (conflicting.pushed("shop.py"), conflicting.pushed("other.py")) == ("price = 10\n", "x = 2\n")


def test_they_are_not_settled_before_that_turn_has_succeeded(conflicting: Shop) -> None:
    pulls.send_conflicts(run=conflicting.run, by=conflicting.alice)
    Run.objects.filter(pk=conflicting.run.pk).update(status="failed")
    conflicting.run.refresh_from_db()
    conflicting.open()
    assert conflicting.work().status == OperationStatus.FAILED
    assert conflicting.publication().error_code == "conflicts"


def test_settled_is_only_what_the_agent_was_shown(conflicting: Shop) -> None:
    pulls.send_conflicts(run=conflicting.run, by=conflicting.alice)
    Run.objects.filter(pk=conflicting.run.pk).update(status="succeeded")
    conflicting.run.refresh_from_db()
    conflicting.change({"shop.py": "price = 9\n"}, turn=2)
    conflicting.server.push(conflicting.name, "main", {"shop.py": "price = 8\n"})
    conflicting.open()
    assert conflicting.work().status == OperationStatus.FAILED
    assert "price = 8" in conflicting.publication().conflicts[0]["text"]


def test_conflicts_may_be_left_to_github(conflicting: Shop) -> None:
    pulls.update_pull_request(run=conflicting.run, by=conflicting.alice, rebases=False)
    assert conflicting.work().status == OperationStatus.SUCCEEDED
    assert conflicting.log("%P") == conflicting.run.task.base_commit


# --- the command --------------------------------------------------------------------------------------------------------


def test_the_command_tells_in_json_what_has_become_of_it(changed: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.running.nudge.enqueue", lambda queue, job, *args: jobs.run_operation(*args))
    out = StringIO()
    call_command("open-pr", str(changed.run.pk), "--draft", "--json", stdout=out)
    pull = PullRequest.objects.get()
    assert json.loads(out.getvalue()) == {"number": pull.number, "url": pull.url, "branch": changed.run.branch, "state": "draft"}


def test_the_command_fails_with_the_reason(changed: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.running.nudge.enqueue", lambda queue, job, *args: jobs.run_operation(*args))
    changed.server.push(changed.name, "main", {"shop.py": "price = 7\n"})
    with pytest.raises(CommandError, match=r"shop\.py"):
        call_command("open-pr", str(changed.run.pk))
