"""What the follower makes of backends far away, and of a queue that is due; its work proper is seen in tests/spine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.utils import timezone

from sandboxes.errors import AccountRefused, SandboxError
from tasks.models import CreationBucket, Run, RunStatus, Sandbox
from tasks.running import nudge
from tasks.running.follower import Follower
from tests.tasks.running.fake import FakeBackend, FakeBox

pytestmark = pytest.mark.django_db(transaction=True)
InCloud = Callable[..., tuple[Run, Sandbox, FakeBox]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """The jobs that were asked for, and when."""
    found: list[tuple[float, str]] = []
    monkeypatch.setattr(nudge, "enqueue_now", lambda _queue, job, *_args: found.append((time.time(), job)))
    return found


@pytest.fixture
async def follower() -> AsyncIterator[tuple[Follower, psycopg.AsyncConnection[object]]]:
    made = Follower()
    async with await made._connect() as conn:
        yield made, conn
        await made._drop(list(made.held))
    await sync_to_async(connections.close_all)()  # those of the thread in which asynchronous code uses the database


Following = tuple[Follower, psycopg.AsyncConnection[object]]


async def test_the_queue_is_dispatched_when_it_is_due_and_once(follower: Following, asked: list[tuple[float, str]]) -> None:
    due = timezone.now() + timedelta(seconds=0.2)
    await CreationBucket.objects.acreate(backend="e2b", filled_at=timezone.now(), wake_at=due)
    await CreationBucket.objects.acreate(backend="later", filled_at=timezone.now(), wake_at=due + timedelta(minutes=1))
    for _ in range(2):
        await follower[0]._wake_queue(follower[1])
    await asyncio.gather(*follower[0]._dispatches)
    assert [job for _, job in asked] == ["dispatch"]
    assert asked[0][0] >= due.timestamp()
    assert await CreationBucket.objects.filter(wake_at=None).acount() == 1


@pytest.mark.parametrize(
    ("error", "job"),
    [
        (None, ["sandbox_lost"]),
        (AccountRefused("E2B refused the account (401)."), ["give_up"]),
        (SandboxError("E2B could not say how a sandbox is: 503"), []),
    ],
)
async def test_only_a_sandbox_that_is_gone_is_lost(
    follower: Following, in_cloud: InCloud, cloud: FakeBackend, asked: list[tuple[float, str]], error: SandboxError | None, job: list[str]
) -> None:
    run, _, _ = await sync_to_async(in_cloud)(status=RunStatus.RUNNING)
    cloud.boxes.clear()
    if error is not None:
        cloud.errors["connect"] = error
    await follower[0]._claim(follower[1])
    assert [name for _, name in asked] == job
    assert list(follower[0].put_off) == ([run.pk] if not job else [])


async def test_a_journal_that_breaks_off_is_read_again_later(
    follower: Following, in_cloud: InCloud, cloud: FakeBackend, asked: list[tuple[float, str]]
) -> None:
    run, _, _ = await sync_to_async(in_cloud)(status=RunStatus.RUNNING)
    cloud.errors["journal"] = SandboxError("E2B could not read the journal: 503")
    made, conn = follower
    await made._claim(conn)
    task = made.held[run.pk].task
    assert task is not None
    await task
    await made._flush(conn)
    assert not asked
    assert run.pk in made.put_off
    await made._claim(conn)
    assert not made.held
    made.put_off[run.pk] = 0
    await made._claim(conn)
    assert run.pk in made.held
