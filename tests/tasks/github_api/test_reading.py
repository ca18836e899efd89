"""Repositories on GitHub are read as their owner here may read them there, and a token is where it is needed and nowhere else."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from tasks import repositories, services
from tasks.choices import AgentChoice
from tasks.git import mirrors
from tasks.git.refusals import ReadRefused
from tasks.models import GitHubAccount, Operation, Repo, Run, Task, User
from tasks.running import jobs, operations
from tests.github.server import GitHubServer, github_server

pytestmark = pytest.mark.django_db
Connect = Callable[..., None]


@pytest.fixture(scope="module")
def server() -> Iterator[GitHubServer]:
    with github_server() as server:
        server.add_user("alice-gh", "ghp_alice")
        server.add_user("bob-gh", "ghp_bob")
        server.add_repo("alice-gh/open", {"a.txt": "a\n"})
        server.add_repo("alice-gh/secret", {"a.txt": "a\n"}, private=True, permissions={"bob-gh": "pull"})
        yield server


@pytest.fixture(autouse=True)
def _there(server: GitHubServer, settings: Settings, tmp_path: Path) -> None:
    server.forget()
    server.world.repositories["alice-gh/secret"].permissions["bob-gh"] = "pull"
    server.add_token("bob-gh", "ghp_bob")
    settings.GITHUB_URL, settings.GITHUB_API_URL, settings.GITHUB_TOKEN = server.url, server.api_url, ""
    settings.ALLOW_PRIVATE_HOSTS = frozenset({server.url.removeprefix("http://")})
    settings.DATA = tmp_path


@pytest.fixture
def connected(bob: User, server: GitHubServer) -> GitHubAccount:
    """bob's account, which may read the secret repository."""
    account = GitHubAccount(user=bob, github_id=server.world.people["bob-gh"].id, login="bob-gh", scopes=["repo"])
    account.token = "ghp_bob"
    account.save()
    return account


def add(by: User, name: str, server: GitHubServer) -> tuple[Repo, Operation]:
    """A user's repository, and how its first mirror went."""
    repo = repositories.add_repo(by=by, source=f"{server.url}/{name}")
    operation = Operation.objects.filter(kind="mirror").latest("pk")
    jobs.run_operation(operation.pk)
    operation.refresh_from_db()
    repo.refresh_from_db()
    return repo, operation


def task(by: User, repo: Repo) -> Task:
    return services.create_task(by=by, repo=Repo.objects.get(pk=repo.pk), prompt="true", agents=[AgentChoice("shell")])


def test_a_private_repository_is_read_with_the_owners_token_which_is_kept_nowhere(
    bob: User, connected: GitHubAccount, server: GitHubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv: list[str] = []
    popen = subprocess.Popen

    def recorded(args: Any, **options: Any) -> Any:
        argv.extend(map(str, args))
        return popen(args, **options)

    monkeypatch.setattr(subprocess, "Popen", recorded)
    repo, operation = add(bob, "alice-gh/secret", server)
    assert (operation.status, operation.error) == ("succeeded", "")
    commit = server.push("alice-gh/secret", "main", {"a.txt": "b\n"})
    assert task(bob, repo).base_commit == commit
    assert "fetch" in argv
    forms = ("ghp_bob", base64.b64encode(b"x-access-token:ghp_bob").decode())
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and any(form.encode() in path.read_bytes() for form in forms)]
    assert not kept
    assert not any(form in word for form in forms for word in argv)


def test_a_mirror_that_is_lost_is_made_again_with_the_token(bob: User, connected: GitHubAccount, server: GitHubServer) -> None:
    repo, _ = add(bob, "alice-gh/secret", server)
    commit = task(bob, repo).base_commit
    repo.mirror_path.rename(repo.mirror_path.with_suffix(".gone"))
    operations.ensure_mirror(repo, commit)
    assert mirrors.has(repo.mirror_path, commit)


def test_a_mirror_that_another_host_left_behind_is_brought_up_to_the_commit(
    bob: User, connected: GitHubAccount, server: GitHubServer, tmp_path: Path
) -> None:
    repo, _ = add(bob, "alice-gh/secret", server)
    ours = shutil.copytree(repo.mirror_path, tmp_path / "ours")  # as this host had it when the other one fetched
    server.push("alice-gh/secret", "main", {"a.txt": "b\n"})
    commit = task(bob, repo).base_commit
    shutil.rmtree(repo.mirror_path)
    ours.rename(repo.mirror_path)
    assert not mirrors.has(repo.mirror_path, commit)
    operations.ensure_mirror(repo, commit)
    assert mirrors.has(repo.mirror_path, commit)


def test_access_that_was_taken_back_ends_the_next_task_before_it_is_made(bob: User, connected: GitHubAccount, server: GitHubServer) -> None:
    repo, _ = add(bob, "alice-gh/secret", server)
    server.world.repositories["alice-gh/secret"].permissions["bob-gh"] = "none"
    with pytest.raises(ReadRefused, match="not for your account to see"):
        task(bob, repo)
    assert repo.mirror_path.exists()
    assert not Task.objects.exists()


def test_a_token_that_was_taken_back_is_noted_and_the_user_asked_to_connect_again(
    bob: User, connected: GitHubAccount, server: GitHubServer
) -> None:
    repo, _ = add(bob, "alice-gh/secret", server)
    server.revoke("ghp_bob")
    with pytest.raises(ReadRefused, match="Connect GitHub again in Settings"):
        task(bob, repo)
    connected.refresh_from_db()
    assert connected.refused_at
    with pytest.raises(ReadRefused, match=r"it is private, or not there.*GitHub does not take your token any more"):
        task(bob, repo)


def test_what_is_public_is_read_all_the_same(bob: User, connected: GitHubAccount, server: GitHubServer) -> None:
    repo, _ = add(bob, "alice-gh/open", server)
    server.revoke("ghp_bob")
    assert task(bob, repo).base_commit
    connected.refresh_from_db()
    assert connected.refused_at
    assert task(bob, repo).base_commit


def test_without_an_account_only_what_is_public_is_read(bob: User, server: GitHubServer) -> None:
    assert add(bob, "alice-gh/open", server)[1].status == "succeeded"
    repo = repositories.add_repo(by=bob, source=f"{server.url}/alice-gh/secret")
    waiting = task(bob, repo)
    jobs.run_operation(Operation.objects.get(subject=f"repo:{repo.pk}").pk)
    run = Run.objects.get(task=waiting)
    assert (run.status, run.stage) == ("errored", "mirror")
    assert "it is private, or not there. Check the address. GitHub is not connected. Connect your repositories in Settings" in run.error


def test_the_sites_token_reads_for_operators_only(alice: User, bob: User, server: GitHubServer, settings: Settings) -> None:
    settings.GITHUB_TOKEN = "ghp_alice"
    assert add(bob, "alice-gh/secret", server)[1].status == "failed"
    repo, operation = add(alice, "alice-gh/secret", server)
    assert operation.status == "succeeded"
    settings.GITHUB_TOKEN = "ghp_gone"
    with pytest.raises(ReadRefused, match="An operator has to set another"):
        task(alice, repo)


def test_a_refusal_says_who_can_help(bob: User, connected: GitHubAccount, server: GitHubServer) -> None:
    repo, _ = add(bob, "alice-gh/secret", server)
    for said, shown in (
        (b"The 'acme' organization has enabled or enforced SAML SSO.", "asks for single sign-on. Authorize your token"),
        (b"Write access to repository not granted.", "does not let your account read alice-gh/secret. Ask its owners"),
    ):
        server.fault("/info/refs", status=403, body=said, headers={"Content-Type": "text/plain"})
        with pytest.raises(ReadRefused, match=shown):
            task(bob, repo)


def test_elsewhere_no_token_goes(bob: User, connected: GitHubAccount, server: GitHubServer, settings: Settings) -> None:
    settings.GITHUB_URL = "https://github.example.org"
    assert add(bob, "alice-gh/open", server)[1].status == "succeeded"
    assert not any("authorization" in request.headers for request in server.front.seen)
