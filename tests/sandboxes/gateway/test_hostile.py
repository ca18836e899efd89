"""Whatever a sandbox or a host sends: the gateway answers or closes, and nothing of it goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandboxes.gateway import Gateway
from sandboxes.proxy import open_connection

from .conftest import PUBLIC, can_connect, until

PIECES = [
    *(
        b"GET ",
        b"POST ",
        b"CONNECT ",
        b"HEAD ",
        b"http://example.org/",
        b"http://",
        b"example.org:443",
        b"127.0.0.1",
        b"[::1]",
        b"/",
        b"*",
        b"@",
        b"%",
    ),
    *(
        b" HTTP/1.1",
        b" HTTP/1.0",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 100 Continue",
        b"HTTP/1.1 304 Not Modified",
        b"\r\n",
        b"\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
    ),
    *(
        b"Host: a",
        b"Content-Length: 3",
        b"Content-Length: 99999999999999999999",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"X: y",
        b": ",
        b" ",
    ),
    *(b"3\r\nabc\r\n", b"0\r\n\r\n", b"ffffffff\r\n", b"abc", b"\x00", b"\xff\xfe", b"\t"),
]
WHOLE = [
    b"GET http://example.org/ HTTP/1.1\r\nHost: a\r\n",
    b"POST http://example.org/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST http://example.org/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
    b"CONNECT example.org:443 HTTP/1.1\r\n",
]
noise = st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=12).map(b"".join)
requests = st.binary(max_size=200) | noise | st.tuples(st.sampled_from(WHOLE), noise).map(b"".join)
answers = noise | st.tuples(st.just(b"HTTP/1.1 200 OK\r\n"), noise).map(b"".join)


class Box:
    """A sandbox's socket on a gateway in a thread of its own, and a host that answers whatever it is told to."""

    def __init__(self, root: Path) -> None:
        self.path = root / "box" / "gateway" / "gateway.sock"
        self.path.parent.mkdir(parents=True)
        (root / "box" / "state").mkdir()
        (root / "box" / "state" / "spec.json").write_text(json.dumps({"key": "a", "network": {"mode": "public", "hosts": []}}))
        self.gateway = Gateway(root, on_attempt=lambda *_: None, resolve=self.resolve, connect=self.connect)
        self.answer = b""
        self.port = 0
        self.troubles: list[object] = []

    async def resolve(self, host: str, port: int) -> list[str]:
        return [PUBLIC] if host == "example.org" else ["127.0.0.1"]

    async def connect(self, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert address == PUBLIC
        return await open_connection("127.0.0.1", self.port)

    async def host(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.answer)
            await writer.drain()
        writer.close()

    async def run(self, stop: asyncio.Event) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.troubles.append(context))
        server = await asyncio.start_server(self.host, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        serving = asyncio.create_task(self.gateway.serve())
        await stop.wait()
        server.close()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    def ask(self, data: bytes) -> bytes:
        """All that comes back when `data` is all that is sent; a timeout when the gateway neither answers nor closes."""
        got = b""
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(ConnectionError):
            client.settimeout(5)
            client.connect(str(self.path))
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while chunk := client.recv(65536):
                got += chunk
        return got


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    box = Box(tmp_path_factory.mktemp("hostile"))
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    class Trouble(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            box.troubles.append(record.getMessage())

    handler = Trouble(logging.ERROR)
    logging.getLogger("sandboxes").addHandler(handler)
    thread = threading.Thread(target=loop.run_until_complete, args=(box.run(stop),))
    thread.start()
    asyncio.run(until(lambda: box.path.exists() and can_connect(box.path)))
    yield box
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()
    logging.getLogger("sandboxes").removeHandler(handler)


STATUS = re.compile(rb"HTTP/1\.1 (200|304|400|403|404|413|431|502) ")


@settings(max_examples=400, deadline=None)
@given(data=requests)
def test_any_bytes_as_a_request_are_answered_or_the_connection_closed(box: Box, data: bytes) -> None:
    box.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    answer = box.ask(data)
    assert answer == b"" or STATUS.match(answer)
    assert box.troubles == []


@settings(max_examples=300, deadline=None)
@given(data=answers, request_bytes=st.sampled_from(WHOLE[:3]))
def test_any_bytes_as_an_answer_are_passed_on_properly_or_are_a_502(box: Box, data: bytes, request_bytes: bytes) -> None:
    box.answer = data
    answer = box.ask(
        request_bytes + b"Connection: close\r\n\r\n" if b"GET" in request_bytes else request_bytes + b"5\r\nabcde\r\n0\r\n\r\n"
    )
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert box.troubles == []
