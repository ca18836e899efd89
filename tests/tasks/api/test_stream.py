"""Following a run's events: each once and in order, whoever comes back, and an end when there will be no more."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.layers import get_channel_layer

from asynccode.asgi import application
from tasks import services, tokens
from tasks.api import stream
from tasks.models import EventKind, Run, User
from tasks.running import events
from tests.tasks.api.conftest import Program

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("closed_connections")]
Write = Callable[[int, int], Awaitable[None]]


class Stream:
    """An open stream. `read` gives its events as (id, name, data), comments as (None, "comment", text); None when it has ended."""

    def __init__(self, talk: ApplicationCommunicator, status: int) -> None:
        self.talk, self.status = talk, status
        self._text, self._is_over = "", False

    async def read(self) -> tuple[int | None, str, Any] | None:
        while "\n\n" not in self._text:
            if self._is_over:
                return None
            part = await self.talk.receive_output(timeout=10)
            self._text += part.get("body", b"").decode()
            self._is_over = not part.get("more_body", False)
        block, _, self._text = self._text.partition("\n\n")
        if block.startswith(":"):
            return None, "comment", block[1:].strip()
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        return int(fields["id"]) if "id" in fields else None, fields.get("event", "message"), json.loads(fields["data"])

    async def read_to(self, last: int) -> list[int]:
        """The seqs that come, up to `last`."""
        seen: list[int] = []
        while seen[-1:] != [last]:
            found = await self.read()
            assert found is not None, f"it ended after {seen}"
            if found[1] == "message":
                seen.append(found[2]["seq"])
                assert found[0] == found[2]["seq"]
        return seen

    async def rest(self) -> list[tuple[int | None, str, Any]]:
        found = []
        while (one := await self.read()) is not None:
            found.append(one)
        return found


@asynccontextmanager
async def opened(program: Program, path: str, **headers: str) -> AsyncIterator[Stream]:
    named = {"authorization": f"Bearer {program.secret}", "host": "localhost"} | headers
    path, _, query = path.partition("?")
    talk = ApplicationCommunicator(
        application,
        {
            "type": "http",
            "method": "GET",
            "path": f"/api/v1{path}",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        },
    )
    await talk.send_input({"type": "http.request"})
    started = await talk.receive_output(timeout=10)
    yield Stream(talk, started["status"])
    await talk.send_input({"type": "http.disconnect"})
    await talk.wait(timeout=10)


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    return make_run(status="running")


@pytest.fixture
def write(run: Run) -> Write:
    def write(first: int, last: int) -> None:
        for number in range(first, last + 1):
            events.append(run.pk, EventKind.LOG, {"stream": "stdout", "text": f"line {number}\n"})

    return sync_to_async(write)


async def test_events_come_as_they_are_written(run: Run, alices: Program, write: Write) -> None:
    await write(1, 3)
    async with opened(alices, f"/runs/{run.pk}/events/stream") as following:
        assert await following.read_to(3) == [1, 2, 3]
        await write(4, 6)
        assert await following.read_to(6) == [4, 5, 6]


async def test_each_comes_once_while_many_are_written(run: Run, alices: Program, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "AT_ONCE", 7)
    async with opened(alices, f"/runs/{run.pk}/events/stream") as following:
        writing = asyncio.gather(write(1, 40))
        assert await following.read_to(40) == list(range(1, 41))
        await writing


async def test_one_who_comes_back_misses_nothing(run: Run, alices: Program, write: Write) -> None:
    await write(1, 6)
    async with opened(alices, f"/runs/{run.pk}/events/stream?after=2") as following:
        assert await following.read_to(6) == [3, 4, 5, 6]
    async with opened(alices, f"/runs/{run.pk}/events/stream?after=2", **{"last-event-id": "4"}) as following:
        assert await following.read_to(6) == [5, 6]


async def test_it_ends_when_the_run_is_over_and_all_is_sent(run: Run, alices: Program, alice: User, write: Write) -> None:
    await write(1, 2)
    async with opened(alices, f"/runs/{run.pk}/events/stream") as following:
        await following.read_to(2)
        await sync_to_async(Run.objects.filter(pk=run.pk).update)(status="queued")
        await sync_to_async(services.cancel_run)(run=run, by=alice)
        rest = [one for one in await following.rest() if one[1] != "comment"]
    assert [name for _, name, _ in rest] == ["message", "end"]
    assert rest[0][2]["data"]["status"] == "canceled"
    assert rest[1][2] == {"status": "canceled", "last": 3}


async def test_without_nudges_it_looks_by_itself_and_says_that_it_is_there(
    run: Run, alices: Program, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "LOOK_S", 0.2)
    monkeypatch.setattr(get_channel_layer(), "group_send", _lost)
    async with opened(alices, f"/runs/{run.pk}/events/stream") as following:
        assert [(await following.read())[2] for _ in range(2)] == ["hello", "still here"]  # type: ignore[index]
        await write(1, 1)
        assert await following.read_to(1) == [1]


async def _lost(group: str, message: dict[str, Any]) -> None:
    """A nudge that Redis has lost."""


async def test_a_token_that_is_revoked_meanwhile_ends_it(
    run: Run, alices: Program, alice: User, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "LOOK_S", 0.2)
    async with opened(alices, f"/runs/{run.pk}/events/stream") as following:
        await write(1, 1)
        await following.read_to(1)
        token = await sync_to_async(alice.api_tokens.get)()
        await sync_to_async(tokens.revoke_token)(token=token, by=alice)
        await write(2, 2)
        assert all(name == "comment" for _, name, _ in await following.rest())


async def test_a_client_that_leaves_frees_all(run: Run, alices: Program, alice: User) -> None:
    layer = get_channel_layer()
    async with opened(alices, f"/runs/{run.pk}/events/stream") as following:
        await following.read()
        assert stream._open[alice.pk] == 1
    assert stream._open == {}
    assert not layer._get_layer().channels
    assert not layer._get_layer().groups


async def test_one_that_leaves_at_once_frees_all_as_well(run: Run, alices: Program) -> None:
    for _ in range(10):
        begun = time.monotonic()
        async with opened(alices, f"/runs/{run.pk}/events/stream") as following:
            assert following.status == 200
        assert time.monotonic() - begun < 5
        assert stream._open == {}


async def test_a_user_has_so_many_streams_and_no_more(run: Run, alices: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_STREAMS", 1)
    async with opened(alices, f"/runs/{run.pk}/events/stream") as first:
        await first.read()
        async with opened(alices, f"/runs/{run.pk}/events/stream") as second:
            assert second.status == 429
    async with opened(alices, f"/runs/{run.pk}/events/stream") as third:
        assert third.status == 200


async def test_it_is_refused_to_strangers(run: Run, bobs: Program) -> None:
    async with opened(bobs, f"/runs/{run.pk}/events/stream") as following:
        assert following.status == 404
    async with opened(Program("ac_none"), f"/runs/{run.pk}/events/stream") as following:
        assert following.status == 401
