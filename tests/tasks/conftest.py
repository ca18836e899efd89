"""People and rows for the tests of the room `tasks`."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.utils import timezone

from tasks.models import Repo, Run, Sandbox, SandboxStatus, Task, Turn, User

_numbers = itertools.count(1)


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice", is_staff=True)


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob")


@pytest.fixture
def charlie(db: None) -> User:
    return User.objects.create_user("charlie")


@pytest.fixture
async def closed_connections() -> AsyncIterator[None]:
    """The thread in which asynchronous code uses the database leaves no connection open."""
    yield
    await sync_to_async(connections.close_all)()


MakeRun = Callable[..., Run]


@pytest.fixture
def make_task(alice: User) -> Callable[..., Task]:
    def make(owner: User | None = None, **fields: Any) -> Task:
        owner = owner or alice
        number = next(_numbers)
        repo = fields.pop("repo", None) or Repo.objects.create(
            owner=owner, source=f"https://example.org/r{number}", name=f"r{number}", default_branch="main", mirrored_at=timezone.now()
        )
        defaults = {"title": "Do it", "prompt": "true", "base_branch": "main", "base_commit": "a" * 40}
        return Task.objects.create(owner=owner, repo=repo, **defaults | fields)

    return make


@pytest.fixture
def make_run(make_task: Callable[..., Task]) -> MakeRun:
    """A run with its first turn; with `sandbox=True` also a live sandbox's row."""

    def make(task: Task | None = None, *, owner: User | None = None, sandbox: bool = False, **fields: Any) -> Run:
        task = task or make_task(owner)
        attempt = task.runs.count() + 1
        run = Run.objects.create(
            **{"task": task, "agent": "shell", "attempt": attempt, "backend": "local", "branch": "asynccode/1"} | fields
        )
        Turn.objects.create(run=run, number=1, prompt=task.prompt, author=task.owner, status=run.status)
        if sandbox:
            Sandbox.objects.create(
                run=run, generation=run.generation, backend="local", host="here", ref=f"ref-{run.pk}", status=SandboxStatus.LIVE
            )
        return run

    return make
