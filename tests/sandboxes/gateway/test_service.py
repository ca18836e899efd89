"""What is asked of the gateway itself: whole requests in, answers out as they are made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from sandboxes.connections import MAX_BODIES
from sandboxes.service import MAX_BODY, Fields

from .conftest import World, until

Answer = tuple[int, Fields, AsyncGenerator[bytes, None]]


class Desk:
    """A service that keeps what it was asked, and answers what it is told to, piece by piece."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str, Fields, bytes]] = []
        self.status = 200
        self.headers: Fields = [("content-type", "text/plain")]
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.has_begun = self.is_closed = False
        self.holds = asyncio.Event()
        self.holds.set()

    def say(self, *pieces: bytes, end: bool = True) -> None:
        for piece in pieces:
            self.pieces.put_nowait(piece)
        if end:
            self.pieces.put_nowait(None)

    async def __call__(self, key: str, method: str, target: str, headers: Fields, body: bytes) -> Answer:
        self.asked.append((key, method, target, headers, body))
        self.has_begun = True
        try:
            await self.holds.wait()
        except asyncio.CancelledError:
            self.is_closed = True
            raise
        return self.status, self.headers, self._answer()

    async def _answer(self) -> AsyncGenerator[bytes, None]:
        try:
            while (piece := await self.pieces.get()) is not None:
                if piece == b"!":
                    raise ConnectionResetError("the model is gone")
                yield piece
        finally:
            self.is_closed = True


@pytest.fixture
def desk(world: World) -> Desk:
    world.sandbox("box")
    return Desk()


async def body_of(reader: asyncio.StreamReader) -> bytes:
    """A chunked body, read to its end."""
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n"
    return body


async def test_it_is_told_who_asks_what(world: World, desk: Desk) -> None:
    await world.gateway(service=desk)
    desk.say(b"hello")
    answer = await world.ask(b"POST /a/b?c=d HTTP/1.1\r\nHost: x\r\nX-One: 1\r\nContent-Length: 3\r\nConnection: close\r\n\r\nyes")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n")
    assert answer.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    (key, method, target, headers, body) = desk.asked[0]
    assert (key, method, target, body) == ("test:box:1", "POST", "/a/b?c=d", b"yes")
    assert ("X-One", "1") in headers
    assert world.attempts == []


async def test_without_a_service_there_is_nothing(world: World, desk: Desk) -> None:
    await world.gateway()
    assert (await world.ask(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 404 ")


async def test_each_piece_arrives_before_the_next_is_made(world: World, desk: Desk) -> None:
    await world.gateway(service=desk)
    reader, writer = await world.dial()
    writer.write(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    for number in range(100):
        desk.say(b"piece %d" % number, end=False)
        async with asyncio.timeout(5):
            size = int(await reader.readuntil(b"\r\n"), 16)
            assert await reader.readexactly(size + 2) == b"piece %d\r\n" % number


async def test_requests_follow_each_other_on_one_connection(world: World, desk: Desk) -> None:
    await world.gateway(service=desk)
    reader, writer = await world.dial()
    chunked = b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\none\r\n4\r\nmore\r\n0\r\nT: 1\r\n\r\n"
    for request, body in ((b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b""), (chunked, b"onemore"), (chunked, b"onemore")):
        desk.say(b"hel", b"lo")
        writer.write(request)
        await reader.readuntil(b"\r\n\r\n")
        assert await body_of(reader) == b"hello"
        assert desk.asked[-1][4] == body


async def test_requests_sent_at_once_are_answered_in_turn(world: World, desk: Desk) -> None:
    await world.gateway(service=desk)
    reader, writer = await world.dial()
    writer.write(b"".join(b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%d" % (n, n) for n in range(5)))
    for number in range(5):
        desk.say(b"%d" % number)
        await reader.readuntil(b"\r\n\r\n")
        assert await body_of(reader) == b"%d" % number
        assert desk.asked[-1][2:] == (f"/{number}", desk.asked[-1][3], b"%d" % number)


async def test_http_10_and_head_get_plain_answers(world: World, desk: Desk) -> None:
    await world.gateway(service=desk)
    desk.say(b"hel", b"lo")
    assert (await world.ask(b"GET /a HTTP/1.0\r\n\r\n")).endswith(b"Connection: close\r\n\r\nhello")
    desk.say()
    answer = await world.ask(b"HEAD /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer == b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nConnection: close\r\n\r\n"


async def test_a_client_that_waits_for_leave_to_send_gets_it(world: World, desk: Desk) -> None:
    await world.gateway(service=desk)
    desk.say(b"hello")
    reader, writer = await world.dial()
    writer.write(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"yes")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
    assert await body_of(reader) == b"hello"


async def test_an_answer_that_breaks_off_is_seen_as_cut(world: World, desk: Desk) -> None:
    await world.gateway(service=desk)
    desk.say(b"hello", b"!")
    answer = await world.ask(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.endswith(b"5\r\nhello\r\n"), "without the last chunk"


@pytest.mark.parametrize("is_answering", [False, True])
async def test_a_client_that_leaves_ends_the_work(world: World, desk: Desk, is_answering: bool) -> None:
    await world.gateway(service=desk)
    if not is_answering:
        desk.holds.clear()
    reader, writer = await world.dial()
    writer.write(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    if is_answering:
        await reader.readuntil(b"\r\n\r\n")
    else:
        await until(lambda: desk.has_begun)
    writer.close()
    await until(lambda: desk.is_closed)


async def test_a_body_that_is_too_long_is_refused(world: World, desk: Desk) -> None:
    await world.gateway(service=desk)
    answer = await world.ask(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1))
    assert answer.startswith(b"HTTP/1.1 413 A request may be 64 MiB long at most.\r\n")
    reader, writer = await world.dial()
    writer.write(b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"%x\r\n%s\r\n" % (2**20, b"x" * 2**20)
    for _ in range(MAX_BODY // 2**20 + 1):
        writer.write(piece)
        await writer.drain()
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")
    assert desk.asked == []


async def test_one_sandbox_fills_no_more_than_its_share_of_the_memory(world: World, desk: Desk) -> None:
    await world.gateway(service=desk)
    desk.holds.clear()
    for number in range(MAX_BODIES // MAX_BODY):
        _, writer = await world.dial()
        writer.write(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % MAX_BODY + bytes(MAX_BODY))
        await until(lambda n=number: len(desk.asked) == n + 1)
    request = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
    assert (await world.ask(request)).startswith(b"HTTP/1.1 503 There are too many large requests at once.")
    writer.close()
    await until(lambda: desk.is_closed)
    desk.holds.set()
    for _ in range(MAX_BODIES // MAX_BODY):
        desk.say(b"hello")
    assert (await world.ask(request)).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_websocket_is_refused(world: World, desk: Desk) -> None:
    await world.gateway(service=desk)
    request = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert (await world.ask(request)).startswith(b"HTTP/1.1 426 There are no WebSockets here. Use plain HTTP requests.\r\n")


async def test_it_may_think_for_longer_than_a_tunnel_may_be_silent(world: World, desk: Desk) -> None:
    await world.gateway(service=desk, idle_s=0.05, service_s=0.6)
    reader, writer = await world.dial()
    writer.write(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    began = asyncio.get_running_loop().time()
    assert await reader.read() == b"", "cut, at last"
    assert asyncio.get_running_loop().time() - began >= 0.55
    await until(lambda: desk.is_closed)


async def test_a_service_that_never_answers_is_given_up(world: World, desk: Desk) -> None:
    await world.gateway(service=desk, service_s=0.2)
    desk.holds.clear()
    assert (await world.ask(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 504 Nothing came back for 0.2 s.\r\n")


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz",
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    ],
)
async def test_a_body_that_two_programs_might_read_in_two_ways_is_refused(world: World, desk: Desk, request_: bytes) -> None:
    await world.gateway(service=desk)
    assert (await world.ask(request_)).startswith(b"HTTP/1.1 400 ")
    assert desk.asked == []
