"""The gateway's port for sandboxes on other machines, which the whole internet can reach."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from sandboxes.egress import Target
from sandboxes.listener import Bounds, Listener, parse_listen
from sandboxes.service import Fields

from .conftest import until
from .test_service import Desk, body_of

GOOD = b"POST /models/ask?x=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n"
WRONG = b"POST /models/ask HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer guess\r\nContent-Length: 0\r\n"


def identify(target: str, headers: Fields) -> str:
    shown = dict(headers).get("authorization", "").removeprefix("Bearer ")
    return f"key:{shown}" if shown.startswith("good") else ""


def free_port() -> int:
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return int(it.getsockname()[1])


class Port:
    def __init__(self) -> None:
        self.number = free_port()
        self.desk = Desk()
        self.tasks: list[asyncio.Task[None]] = []
        self.writers: list[asyncio.StreamWriter] = []

    def start(self, **bounds: Any) -> asyncio.Task[None]:
        bounds = {"wrong_s": 0.05, "sweep_s": 0.02, "again_s": 0.02, "linger_s": 0.2} | bounds
        listener = Listener(
            Target("127.0.0.1", self.number), paths=["models"], identify=identify, service=self.desk, bounds=Bounds(**bounds)
        )
        self.tasks.append(asyncio.create_task(listener.serve()))
        return self.tasks[-1]

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(5):
            while True:
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.number)
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.005)
        self.writers.append(writer)
        return reader, writer

    async def ask(self, request: bytes) -> bytes:
        """Send, and read all until it closes."""
        reader, writer = await self.dial()
        writer.write(request)
        async with asyncio.timeout(10):
            return await reader.read()

    async def stop(self) -> None:
        for writer in self.writers:
            writer.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    it = Port()
    yield it
    await it.stop()


async def test_a_token_of_ours_reaches_the_service_under_its_key(port: Port) -> None:
    port.start()
    port.desk.say(b"hel", b"lo")
    answer = await port.ask(GOOD + b"Content-Length: 3\r\nConnection: close\r\n\r\nyes")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n")
    assert [(key, method, target, body) for key, method, target, _, body in port.desk.asked] == [
        ("key:good", "POST", "/models/ask?x=1", b"yes")
    ]


async def test_an_answer_passes_piece_by_piece(port: Port) -> None:
    port.start()
    reader, writer = await port.dial()
    writer.write(GOOD + b"Content-Length: 0\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    for number in range(20):
        port.desk.say(b"piece %02d" % number, end=False)
        async with asyncio.timeout(5):
            assert await reader.readexactly(13) == b"8\r\npiece %02d\r\n" % number


async def test_requests_follow_each_other_on_one_connection(port: Port) -> None:
    port.start()
    reader, writer = await port.dial()
    for _ in range(3):
        port.desk.say(b"hello")
        writer.write(GOOD + b"Content-Length: 1\r\n\r\nx")
        await reader.readuntil(b"\r\n\r\n")
        assert await body_of(reader) == b"hello"


@pytest.mark.parametrize("line", ["GET /healthz", "HEAD /healthz", "GET /models", "HEAD /models/", "GET /models?x=1"])
async def test_whether_it_is_there_can_be_asked_by_anybody(port: Port, line: str) -> None:
    port.start()
    assert (await port.ask(f"{line} HTTP/1.1\r\nHost: x\r\n\r\n".encode())).startswith(b"HTTP/1.1 200 OK\r\n")
    assert port.desk.asked == []


@pytest.mark.parametrize(
    "line",
    [
        "CONNECT example.org:443",
        "GET http://example.org/",
        "POST http://127.0.0.1/models/ask",
        "GET /",
        "GET /modelsX/ask",
        "GET //models/ask",
        "GET /../models/ask",
        "GET /MODELS/ask",
        "GET /metrics",
        "POST /healthz",
        "GET /healthz/../models",
        "OPTIONS *",
    ],
)
async def test_there_is_nothing_else(port: Port, line: str) -> None:
    port.start()
    answer = await port.ask(f"{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert port.desk.asked == []


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /models/\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /models HTTP/2.0\r\nHost: x\r\n\r\n", 400),
        (GOOD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (GOOD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (GOOD + b"Content-Length: 999999999\r\n\r\n", 413),
        (GOOD + b"X: " + b"x" * 70000 + b"\r\n\r\n", 431),
        (GOOD + b"".join(b"X: y\r\n" for _ in range(300)) + b"\r\n", 431),
    ],
)
async def test_odd_and_oversized_requests_are_refused(port: Port, request_: bytes, status: int) -> None:
    port.start()
    assert (await port.ask(request_)).startswith(b"HTTP/1.1 %d " % status)
    assert port.desk.asked == []


async def test_a_wrong_token_is_answered_slowly_and_its_body_is_never_read(port: Port) -> None:
    port.start(wrong_s=0.3)
    reader, writer = await port.dial()
    began = asyncio.get_running_loop().time()
    writer.write(b"POST /models/ask HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n")
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert asyncio.get_running_loop().time() - began >= 0.29
    assert port.desk.asked == []


async def test_many_guesses_of_one_address_are_refused_at_once_and_hold_up_nobody(port: Port) -> None:
    port.start(wrong=2, wrong_s=5)
    attacker = b"X-Forwarded-For: 198.51.100.7, 203.0.113.9\r\n\r\n"
    held = [await port.dial() for _ in range(2)]
    for _, writer in held:
        writer.write(WRONG + attacker)
    async with asyncio.timeout(3):
        while not (answer := await port.ask(WRONG + attacker)).startswith(b"HTTP/1.1 429 "):
            pass
    assert answer.endswith(b"Try again in a moment.\n")
    port.desk.say(b"ok")  # who has a token is not kept waiting, even behind the same address
    assert (await port.ask(GOOD + b"Content-Length: 0\r\nConnection: close\r\n" + attacker)).startswith(b"HTTP/1.1 200 ")
    reader, writer = await port.dial()  # and another address has guesses of its own
    writer.write(WRONG + b"X-Forwarded-For: 203.0.113.9, 192.0.2.4\r\n\r\n")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readexactly(1), 0.1)


async def test_many_guesses_of_many_addresses_hold_few_connections(port: Port) -> None:
    port.start(wrong_in_all=2, wrong_s=5)
    held = [await port.dial() for _ in range(2)]
    for number, (_, writer) in enumerate(held):
        writer.write(WRONG + b"X-Forwarded-For: 203.0.113.%d\r\n\r\n" % number)
    another = WRONG + b"X-Forwarded-For: 203.0.113.9\r\n\r\n"
    async with asyncio.timeout(10):
        while not (await port.ask(another)).startswith(b"HTTP/1.1 429 "):
            pass


async def test_one_token_has_so_many_requests_at_once(port: Port) -> None:
    port.start(requests=2)
    port.desk.holds.clear()
    for _ in range(2):
        _, writer = await port.dial()
        writer.write(GOOD + b"Content-Length: 0\r\n\r\n")
    await until(lambda: len(port.desk.asked) == 2)
    assert (await port.ask(GOOD + b"Content-Length: 0\r\n\r\n")).startswith(b"HTTP/1.1 429 ")
    other = GOOD.replace(b"good", b"good2") + b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    for _ in range(3):
        port.desk.say(b"ok")
    port.desk.holds.set()
    assert (await port.ask(other)).startswith(b"HTTP/1.1 200 ")


async def test_there_are_so_many_connections_in_all(port: Port) -> None:
    port.start(connections=2)
    held = [await port.dial() for _ in range(2)]
    assert (await port.ask(b"")).startswith(b"HTTP/1.1 503 ")
    held[0][1].close()
    await until_async(lambda: _is_served(port))


async def _is_served(port: Port) -> bool:
    return (await port.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def until_async(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while not await condition():
            pass


async def test_all_bodies_together_are_bounded(port: Port) -> None:
    port.start(bodies=100_000)
    answer = await port.ask(GOOD + b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000)
    assert answer.startswith(b"HTTP/1.1 503 ")
    port.desk.say(b"ok")
    assert (await port.ask(GOOD + b"Content-Length: 5\r\nConnection: close\r\n\r\nsmall")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("bounds", "sent"),
    [
        ({"head_s": 0.1}, b"POST /models HTTP/1.1\r\n"),
        ({"body_s": 0.1}, GOOD + b"Content-Length: 5\r\n\r\nxx"),
        ({"idle_s": 0.1}, GOOD + b"Content-Length: 5\r\n\r\nxx"),
        ({"service_s": 0.1}, GOOD + b"Content-Length: 0\r\n\r\n"),
    ],
)
async def test_who_is_slow_is_not_waited_for(port: Port, bounds: dict[str, float], sent: bytes) -> None:
    port.start(**bounds)
    port.desk.holds.clear()
    assert (await port.ask(sent))[:12] in (b"HTTP/1.1 408", b"HTTP/1.1 504")


async def test_a_taken_port_is_said_once_and_had_as_soon_as_it_is_free(port: Port, caplog: pytest.LogCaptureFixture) -> None:
    first = port.start()
    await port.dial()
    second = port.start()
    await until(lambda: caplog.records)
    await asyncio.sleep(0.1)  # several tries
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert f"cannot listen at 127.0.0.1:{port.number}" in record.message
    assert "GATEWAY_LISTEN" in record.message
    first.cancel()
    await asyncio.wait({first})
    assert await _is_served(port)
    assert not second.done()


async def test_nothing_that_was_sent_is_logged(port: Port, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    port.start()
    port.desk.say(b"!")  # it breaks off
    await port.ask(GOOD + b"Content-Length: 6\r\n\r\nsecret")
    await port.ask(WRONG + b"\r\n")
    said = "".join(f"{record.getMessage()} {record.exc_text}" for record in caplog.records if record.name.startswith("sandboxes"))
    assert not any(word in said for word in ("good", "guess", "secret"))


@pytest.mark.parametrize("text", ["127.0.0.1:8010", "0.0.0.0:1", "localhost:65535", "[::1]:8010"])
def test_where_to_listen(text: str) -> None:
    assert str(parse_listen(text)) == text


@pytest.mark.parametrize("text", ["", "8010", ":8010", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "http://127.0.0.1:8010", "a b:1"])
def test_what_cannot_be_listened_at_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"^GATEWAY_LISTEN is “.*”, and should look like 127\.0\.0\.1:8010\. "):
        parse_listen(text)
