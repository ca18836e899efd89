"""As much of HTTP/1.1 as both halves need: a head, a body that streams, and an ASGI application on one connection.

Written here because daphne, the one ASGI server at hand, takes a request's body as a whole, and StreamInput needs it in pieces.
Standard library only: it runs inside the sandboxes too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

LIMIT = 256 * 1024  # of a head, and of what is read ahead
PIECE = 256 * 1024


@dataclass(frozen=True)
class Head:
    """A request up to its body; the names of `headers` are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    raw: bytes

    @property
    def path(self) -> str:
        return unquote(self.raw_path)

    @property
    def raw_path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def is_chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "").lower()


@dataclass(frozen=True)
class Reply:
    """An answer that is known as a whole. `body` may be anything that JSON can say; None is no body."""

    status: int
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()

    def encode(self, *, close: bool = False) -> bytes:
        content = b"" if self.body is None else json.dumps(self.body).encode()
        head = [status_line(self.status), *(f"{name}: {value}" for name, value in self.headers)]
        if self.body is not None:
            head.append("content-type: application/json")
        if self.status != HTTPStatus.NO_CONTENT:
            head.append(f"content-length: {len(content)}")
        if close:
            head.append("connection: close")
        return "\r\n".join([*head, "", ""]).encode() + content


def status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next request of a connection; None when there is none any more."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
        return None
    first, *lines = raw[:-4].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Head(method, target, headers, raw)


async def read_body(head: Head, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises EOFError (IncompleteReadError) when the connection ends within it."""
    if head.is_chunked:
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            left = size
            while left:
                if not (piece := await reader.read(min(left, PIECE))):
                    raise EOFError
                left -= len(piece)
                yield piece
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return
    left = int(head.headers.get("content-length", 0))
    while left:
        if not (piece := await reader.read(min(left, PIECE))):
            raise EOFError
        left -= len(piece)
        yield piece


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


async def run_asgi(application: Callable[..., Any], head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request by an ASGI application, then close the connection. The application is cancelled when the client goes
    away. An answer without a length is chunked, so that one cut short does not look whole."""
    connection = _Asgi(head, reader, writer)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": head.method,
        "path": head.path,
        "raw_path": head.raw_path.encode(),
        "query_string": urlsplit(head.target).query.encode(),
        "root_path": "",
        "scheme": "http",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in head.headers.items()],
    }
    connection.task = asyncio.ensure_future(application(scope, connection.receive, connection.send))
    try:
        # Whatever the application says when it is cancelled, nobody is there to hear it.
        await asyncio.gather(connection.task, return_exceptions=True)
    finally:
        if connection.watch is not None:
            connection.watch.cancel()
        if connection.is_whole:
            with contextlib.suppress(OSError):
                await writer.drain()
            writer.close()
        else:
            writer.transport.abort()


class _Asgi:
    """The two callables of an ASGI application, on a connection that is used for one request."""

    def __init__(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.task: asyncio.Future[Any] | None = None
        self.watch: asyncio.Task[None] | None = None
        self.is_whole = False
        self._body = read_body(head, reader)
        self._reader, self._writer = reader, writer
        self._is_chunked = True
        self._gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if self.watch is not None:
            await self._gone.wait()
            return {"type": "http.disconnect"}
        try:
            return {"type": "http.request", "body": await anext(self._body), "more_body": True}
        except StopAsyncIteration:
            self.watch = asyncio.create_task(self._watch())
            return {"type": "http.request", "body": b"", "more_body": False}
        except (EOFError, OSError):
            return {"type": "http.disconnect"}

    async def _watch(self) -> None:
        with contextlib.suppress(OSError):
            while await self._reader.read(PIECE):
                pass
        self._gone.set()
        if self.task is not None and not self.is_whole:
            self.task.cancel()

    async def send(self, message: dict[str, Any]) -> None:
        if self._writer.transport.is_closing():
            raise ConnectionResetError
        if message["type"] == "http.response.start":
            self._start(message["status"], message.get("headers", ()))
            return
        if data := message.get("body", b""):
            self._writer.write(chunk(data) if self._is_chunked else data)
        if not message.get("more_body", False):
            if self._is_chunked:
                self._writer.write(LAST_CHUNK)
            self.is_whole = True
        await self._writer.drain()

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        lines = [status_line(status).encode(), *(b"%b: %b" % header for header in headers), b"connection: close"]
        self._is_chunked = not any(name.lower() == b"content-length" for name, _ in headers)
        if self._is_chunked:
            lines.append(b"transfer-encoding: chunked")
        self._writer.write(b"\r\n".join([*lines, b"", b""]))
