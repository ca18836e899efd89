"""Deleting one's own account: what goes at once, what goes after it, and who may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tasks import accounts, leaving, tokens
from tasks.errors import Conflict, InvalidInput
from tasks.models import (
    ApiToken,
    Credential,
    Event,
    GitHubAccount,
    LoginLink,
    Operation,
    OperationStatus,
    Patch,
    PreparedEnvironment,
    Repo,
    Run,
    RunStatus,
    Sandbox,
    SandboxStatus,
    Task,
    User,
)
from tasks.running import events, nudge, operations, reconcile

pytestmark = pytest.mark.django_db


def fill(user: User, make_run: Callable[..., Run]) -> tuple[Run, Run]:
    """Runs at work and over, and something of everything that may be a user's."""
    working = make_run(owner=user, status=RunStatus.RUNNING, sandbox=True)
    over = make_run(owner=user, status=RunStatus.SUCCEEDED, sandbox=True)
    turn = over.turns.get()
    Patch.objects.create(run=over, turn=turn, kind="final", content=b"x", sha256="0")
    events.append(over.pk, "log", {"stream": "stdout", "text": "x"}, turn_id=turn.pk)
    PreparedEnvironment.objects.create(repo=over.task.repo, backend="local", key="0", base_commit="0", ref="kept", status="ready")
    Repo.objects.create(owner=user, source="https://example.org/removed", name="removed", removed_at=timezone.now())
    variable = over.task.repo.variables.model(repo=over.task.repo, name="KEY")
    variable.value = "secret"
    variable.save()
    tokens.create_token(user=user, name="ci", scope="read", expires_in_days=None)
    accounts.create_login_link(user=user)
    key = Credential(owner=user, provider="openai", checked_at=timezone.now())
    key.secret = "sk-0123456789"
    key.save()
    account = GitHubAccount(user=user, github_id=1, login="octo")
    account.token = "gho_x"
    account.save()
    return working, over


def test_ways_in_and_secrets_go_at_once_and_runs_are_stopped(bob: User, alice: User, make_run: Callable[..., Run]) -> None:
    working, over = fill(bob, make_run)
    leaving.delete_account(user=bob, name="bob")
    bob.refresh_from_db()
    assert not bob.is_active
    for secrets in (ApiToken, LoginLink, GitHubAccount, Credential):
        assert not secrets.objects.exists()
    assert not over.task.repo.variables.exists()
    working.refresh_from_db()
    assert working.stop_requested_at is not None
    assert not Task.objects.filter(owner=bob, archived_at=None).exists()
    assert Operation.objects.get().subject == f"user:{bob.pk}"


def test_then_all_rows_go_once_the_sandboxes_are_destroyed(
    bob: User, alice: User, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bob, make_run)
    other = make_run(owner=alice, status=RunStatus.SUCCEEDED)
    leaving.delete_account(user=bob, name="bob")
    waited: list[int] = []
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(nudge, "enqueue_now", lambda *job: asked.append(job))

    def meanwhile(seconds: float) -> None:
        """What the follower and the hosts' jobs do."""
        waited.append(Sandbox.objects.exclude(status=SandboxStatus.DESTROYED).count())
        assert User.objects.filter(pk=bob.pk).exists()
        Run.objects.filter(task__owner=bob, status=RunStatus.RUNNING).update(status=RunStatus.CANCELED)
        reconcile.destroy_unneeded()
        assert len(asked) == 2
        Sandbox.objects.filter(run__task__owner=bob).update(status=SandboxStatus.DESTROYED)

    monkeypatch.setattr(leaving.time, "sleep", meanwhile)
    operations.work(Operation.objects.get().pk)
    assert waited == [2]
    assert Operation.objects.get(kind="leave").status == OperationStatus.SUCCEEDED
    assert list(User.objects.all()) == [alice]
    assert list(Run.objects.all()) == [other]
    for rows in (Patch, Event, PreparedEnvironment):
        assert not rows.objects.exists()
    assert list(Repo.objects.all()) == [other.task.repo]


def test_a_sandbox_that_does_not_end_keeps_nobody_here(bob: User, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "SANDBOXES_S", 0)
    fill(bob, make_run)
    leaving.delete_account(user=bob, name="bob")
    leaving.perform(f"user:{bob.pk}", lambda *args: None)
    leaving.perform(f"user:{bob.pk}", lambda *args: None)
    assert not User.objects.filter(pk=bob.pk).exists()


def test_nobody_is_deleted_who_did_not_ask_for_it(bob: User) -> None:
    leaving.perform(f"user:{bob.pk}", lambda *args: None)
    assert User.objects.filter(pk=bob.pk).exists()


def test_the_username_is_to_be_typed(bob: User) -> None:
    for name in ("", "alice", "Bob"):
        with pytest.raises(InvalidInput, match="not your username"):
            leaving.delete_account(user=bob, name=name)
    assert User.objects.get().is_active


def test_the_last_operator_stays(alice: User, bob: User, charlie: User) -> None:
    User.objects.filter(pk=charlie.pk).update(is_staff=True, is_active=False)
    with pytest.raises(Conflict, match="last operator"):
        leaving.delete_account(user=alice, name="alice")
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    leaving.delete_account(user=alice, name="alice")
    assert not User.objects.get(pk=alice.pk).is_active


# --- the page -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def as_bob(bob: User) -> Client:
    client = Client()
    client.force_login(bob)
    return client


def test_the_page_says_what_goes_and_wants_the_username(as_bob: Client, bob: User, alice: User, make_run: Callable[..., Run]) -> None:
    fill(bob, make_run)
    assert "/settings/account/delete" in as_bob.get("/settings/").content.decode()
    page = " ".join(as_bob.get("/settings/account/delete").content.decode().split())
    assert "your 2 tasks" in page
    assert "1 run at work will be stopped." in page
    response: Any = as_bob.post("/settings/account/delete", {"name": "alice"})
    assert response.status_code == 422
    assert "This is not your username." in response.content.decode()
    response = as_bob.post("/settings/account/delete", {"name": "bob"}, follow=True)
    assert "Your account is closed." in response.content.decode()
    assert as_bob.get("/settings/").status_code == 302


def test_the_last_operator_is_told_why_not(alice: User) -> None:
    client = Client()
    client.force_login(alice)
    response = client.post("/settings/account/delete", {"name": "alice"})
    assert response.status_code == 422
    assert "You are the last operator" in response.content.decode()
