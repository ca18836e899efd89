"""Sockets: whose they are, and that a run's events come in order, without gap or double, whenever one connects."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.db import connection
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext

from asynccode.asgi import application
from tasks import services
from tasks.models import EventKind, Patch, Run, User
from tasks.running import events, lifecycle
from tasks.web import consumers, log

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("closed_connections")]
Socket = WebsocketCommunicator


async def dial(user: User | None, path: str, client: AsyncClient | None = None, *, origin: str = "http://localhost") -> tuple[Socket, bool]:
    if client is None:
        client = AsyncClient()
        if user is not None:
            await client.aforce_login(user)
    cookie = client.cookies.output(header="", sep=";").strip().encode()
    socket = Socket(application, path, headers=[(b"origin", origin.encode()), (b"cookie", cookie)])
    is_open, _ = await socket.connect(timeout=10)
    return socket, is_open


@asynccontextmanager
async def connected(user: User, path: str, client: AsyncClient | None = None) -> AsyncIterator[Socket]:
    socket, is_open = await dial(user, path, client)
    assert is_open
    yield socket
    await socket.disconnect()


async def take(socket: Socket) -> dict[str, Any]:
    message: dict[str, Any] = await socket.receive_json_from(timeout=10)
    await socket.send_json_to({"ack": True})
    return message


Write = Callable[[int, int], Awaitable[None]]


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    return make_run()


@pytest.fixture
def write(run: Run) -> Write:
    """Append log events number `first` to `last`."""

    def write(first: int, last: int) -> None:
        for number in range(first, last + 1):
            events.append(run.pk, EventKind.LOG, {"stream": "stdout", "text": f"line {number}\n"})

    return sync_to_async(write)


async def read(socket: Socket, last: int) -> list[int]:
    """The numbers of the lines that come, up to `last`."""
    seen: list[int] = []
    while seen[-1:] != [last]:
        message = await take(socket)
        seen += [int(number) for number in re.findall(r"line (\d+)<", message["html"])]
    return seen


async def test_a_socket_is_refused_to_strangers(run: Run, bob: User) -> None:
    for path in (f"/ws/runs/{run.pk}/", f"/ws/tasks/{run.task_id}/", "/ws/runs/999/"):
        assert not (await dial(bob, path))[1]
        assert not (await dial(None, path))[1]
    assert not (await dial(None, "/ws/user/"))[1]


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost.evil.example", "null"])
async def test_a_socket_is_refused_to_foreign_pages(run: Run, alice: User, origin: str) -> None:
    for path in (f"/ws/runs/{run.pk}/", f"/ws/tasks/{run.task_id}/", "/ws/user/"):
        assert not (await dial(alice, path, origin=origin))[1]
    assert (await dial(alice, f"/ws/runs/{run.pk}/"))[1]


async def test_events_come_as_they_are_written(run: Run, alice: User, write: Write) -> None:
    await write(1, 3)
    async with connected(alice, f"/ws/runs/{run.pk}/?after=0") as socket:
        assert await read(socket, 3) == [1, 2, 3]
        await write(4, 6)
        assert await read(socket, 6) == [4, 5, 6]


async def test_one_who_comes_back_with_the_last_seq_misses_nothing_and_sees_nothing_twice(run: Run, alice: User, write: Write) -> None:
    await write(1, 5)
    async with connected(alice, f"/ws/runs/{run.pk}/?after=0") as socket:
        message = await take(socket)
    await write(6, 8)  # nobody watches
    async with connected(alice, f"/ws/runs/{run.pk}/?after={message['seq']}") as socket:
        assert await read(socket, 8) == [6, 7, 8]


async def test_what_is_written_while_one_connects_is_not_lost(run: Run, alice: User, write: Write) -> None:
    for round_ in range(5):
        first = 10 * round_ + 1
        writing = sync_to_async(
            lambda first=first: [events.append(run.pk, EventKind.LOG, {"text": f"line {n}\n"}) for n in range(first, first + 10)]
        )
        socket, _ = await dial(alice, f"/ws/runs/{run.pk}/?after={10 * round_}")
        await writing()
        assert await read(socket, first + 9) == list(range(first, first + 10))
        await socket.disconnect()


async def test_a_long_log_comes_in_pages_each_when_the_one_before_was_taken(
    run: Run, alice: User, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MOST_EVENTS", 10)
    await write(1, 35)
    async with connected(alice, f"/ws/runs/{run.pk}/") as socket:
        first = await socket.receive_json_from(timeout=10)
        assert (first["after"], first["seq"]) == (0, 10)
        assert await socket.receive_nothing(timeout=0.3)
        await socket.send_json_to({"ack": True})
        assert await read(socket, 35) == list(range(11, 36))


async def test_a_move_of_the_run_is_news(run: Run, alice: User) -> None:
    async with connected(alice, f"/ws/runs/{run.pk}/") as socket:
        first = await take(socket)  # the page was made before the socket was there
        assert first == {"after": 0, "seq": 0, "html": "", "is_news": True}
        await sync_to_async(services.cancel_run)(run=run, by=alice)
        message = await take(socket)
    assert message["is_news"]
    assert "Canceled" in message["html"]


async def test_lines_alone_are_no_news(run: Run, alice: User, write: Write) -> None:
    async with connected(alice, f"/ws/runs/{run.pk}/") as socket:
        await take(socket)
        await write(1, 1)
        assert not (await take(socket))["is_news"]


async def test_a_follow_up_that_comes_to_wait_or_is_withdrawn_is_news(make_run: Callable[..., Run], alice: User) -> None:
    run = await sync_to_async(make_run)(status="running")
    async with connected(alice, f"/ws/runs/{run.pk}/") as socket:
        await take(socket)
        turn = await sync_to_async(services.send_follow_up)(run=run, by=alice, prompt="more")
        assert await take(socket) == {"after": 0, "seq": 0, "html": "", "is_news": True}
        await sync_to_async(services.withdraw_follow_up)(turn=turn, by=alice)
        assert (await take(socket))["is_news"]


async def test_what_an_agent_writes_is_escaped_on_the_socket_too(run: Run, alice: User) -> None:
    await sync_to_async(events.append)(run.pk, EventKind.LOG, {"text": "<img src=x>\u202e"})
    async with connected(alice, f"/ws/runs/{run.pk}/") as socket:
        html = (await take(socket))["html"]
    assert "<img" not in html
    assert "\u202e" not in html


async def test_a_run_that_changes_hands_ends_the_socket(run: Run, alice: User, bob: User, write: Write) -> None:
    async with connected(alice, f"/ws/runs/{run.pk}/") as socket:
        run.task.owner = bob
        await run.task.asave()
        await write(1, 1)
        assert (await socket.receive_output(timeout=10))["type"] == "websocket.close"


@pytest.mark.parametrize("path", ["/ws/runs/{}/", "/ws/user/"])
@pytest.mark.parametrize("how", ["signed out", "deactivated", "password changed"])
async def test_who_may_not_come_in_any_more_is_shown_the_door(
    run: Run, alice: User, path: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "LOOK_S", 0.2)
    client = AsyncClient()
    await client.aforce_login(alice)
    async with connected(alice, path.format(run.pk), client) as socket:
        await take(socket)
        assert await socket.receive_nothing(timeout=0.6)  # looks come and go
        match how:
            case "signed out":
                await client.alogout()
            case "deactivated":
                await User.objects.filter(pk=alice.pk).aupdate(is_active=False)
            case _:
                alice.set_password("another")
                await alice.asave()
        closed = await socket.receive_output(timeout=10)
    assert (closed["type"], closed["code"]) == ("websocket.close", consumers.GONE)


async def test_a_run_that_never_pauses_lets_nobody_stay(run: Run, alice: User, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is more to tell each time that the browser has taken what it was told."""
    monkeypatch.setattr(consumers, "LOOK_S", 0.0)
    client = AsyncClient()
    await client.aforce_login(alice)
    async with connected(alice, f"/ws/runs/{run.pk}/", client) as socket:
        assert await socket.receive_json_from(timeout=10)
        await client.alogout()
        await write(1, 3)
        await socket.send_json_to({"ack": True})
        closed = await socket.receive_output(timeout=10)
    assert closed["type"] == "websocket.close"


async def test_what_a_look_costs_does_not_grow(run: Run, alice: User, write: Write) -> None:
    """Whether nothing has happened or two hundred events: a handful of queries."""
    consumer = consumers.RunConsumer()
    consumer.user, consumer._seq = alice, 0
    consumer.scope = {"url_route": {"kwargs": {"pk": run.pk}}}

    def look() -> int:
        with CaptureQueriesContext(connection) as queries:
            consumer.groups_to_watch()
            consumer.news()
        return len(queries)

    assert await sync_to_async(look)() <= 3
    await write(1, 200)
    assert await sync_to_async(look)() <= 9


async def test_the_home_page_is_told_when_a_run_moves(run: Run, alice: User) -> None:
    async with connected(alice, "/ws/user/") as socket:
        assert (await take(socket))["news"]  # the page was made before the socket was there
        await sync_to_async(lifecycle.finish)(run.pk, source=["queued"], to="canceled")
        assert (await take(socket))["news"]


async def test_the_home_page_finds_stages_and_checkpoints_at_its_next_look(
    make_run: Callable[..., Run], alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "LOOK_S", 0.1)
    run = await sync_to_async(make_run)(status="running", stage="setup")
    turn = await run.turns.aget()
    async with connected(alice, "/ws/user/") as socket:
        await take(socket)
        await Run.objects.filter(pk=run.pk).aupdate(stage="agent")
        assert (await take(socket))["news"]
        patch = await Patch.objects.acreate(run=run, turn=turn, kind="checkpoint", content=b"x", sha256="1", files=[])
        assert (await take(socket))["news"]
        await Patch.objects.filter(pk=patch.pk).aupdate(sha256="2")
        assert (await take(socket))["news"]
        assert await socket.receive_nothing(timeout=0.5)


async def test_a_tasks_page_is_told_of_follow_ups_and_tokens(run: Run, alice: User) -> None:
    async with connected(alice, f"/ws/tasks/{run.task_id}/") as socket:
        await take(socket)
        await sync_to_async(services.send_follow_up)(run=run, by=alice, prompt="more")
        assert (await take(socket))["news"]
        await Run.objects.filter(pk=run.pk).aupdate(output_tokens=7)
        await sync_to_async(events.append)(run.pk, EventKind.USAGE, {})
        assert (await take(socket))["news"]


async def test_a_tasks_page_is_told_of_moves_and_not_of_every_line(run: Run, alice: User, write: Write) -> None:
    async with connected(alice, f"/ws/tasks/{run.task_id}/") as socket:
        await take(socket)
        await write(1, 20)
        assert await socket.receive_nothing(timeout=0.5)
        await sync_to_async(services.cancel_run)(run=run, by=alice)
        await take(socket)
        run = await Run.objects.select_related("task").aget(pk=run.pk)
        new = await sync_to_async(services.retry_run)(run=run, by=alice)
        await take(socket)
        await sync_to_async(services.cancel_run)(run=new, by=alice)
        await take(socket)


def test_sockets_are_taken_from_our_own_hosts_only() -> None:
    assert "*" not in settings.ALLOWED_HOSTS
