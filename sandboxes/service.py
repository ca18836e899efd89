"""What is asked of the gateway itself (`GET /…`): the whole request to a service, its answer streamed to the client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from http import HTTPStatus

from sandboxes.connections import Asker, Client, canceling
from sandboxes.http1 import CHUNK, MAX_HEAD, NO_BODY, Count, ProxyError, Request, connection_options, read_body, render

MAX_BODY = 64 * 1024**2

Fields = list[tuple[str, str]]
# The sandbox's key, method, target, headers, body → status, headers, and the body as it comes. It may be canceled, and its
# answer closed, at any time: when the client has gone.
Service = Callable[[str, str, str, Fields, bytes], Awaitable[tuple[int, Fields, AsyncGenerator[bytes, None]]]]


async def serve(service: Service, asker: Asker, client: Client, request: Request, *, body_s: float | None = None) -> bool:
    """One request; whether another may follow on the same connection. `body_s` (seconds) is for all of its body."""
    if any(name.lower() == b"upgrade" and b"websocket" in value.lower() for name, value in request.headers):
        raise ProxyError(426, "There are no WebSockets here. Use plain HTTP requests.")

    def count(size: int) -> None:
        client.sent(size)
        asker.take(size)
        if client.bytes_up > MAX_BODY:
            raise _too_long()

    try:
        body = await _body(client, request, count, body_s)
        client.is_with_us = True
        answering = asyncio.create_task(_answer(service, asker.key, client, request, body))
        leaving = asyncio.create_task(_has_left(client.reader))
        async with canceling(answering, leaving):
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and leaving.result():
                raise ConnectionResetError("The client has gone.")
            return await answering
    finally:
        asker.give_back(client.bytes_up)


async def _body(client: Client, request: Request, count: Count, body_s: float | None) -> bytes:
    if request.body.length is not None and request.body.length > MAX_BODY:
        raise _too_long()
    if request.body != NO_BODY and any(name.lower() == b"expect" for name, _ in request.headers):
        client.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        async with asyncio.timeout(body_s):
            return await read_body(client.reader, request.body, count)
    except TimeoutError:
        raise ProxyError(408, f"The request's body took longer than {body_s:g} s.") from None
    except ValueError as error:
        raise ProxyError(400, str(error)) from None
    except EOFError:
        raise ProxyError(400, "The request ended within its body.") from None


def _too_long() -> ProxyError:
    return ProxyError(413, f"A request may be {MAX_BODY // 1024**2} MiB long at most.")


async def _has_left(reader: asyncio.StreamReader) -> bool:
    """Wait until the client says more, which is left to be read, or has said its last: then it wants no answer any more."""
    data = await reader.read(2 * MAX_HEAD + CHUNK)  # all that a reader can hold
    if reader.at_eof():
        return True
    reader.feed_data(data)
    return False


async def _answer(service: Service, key: str, client: Client, request: Request, body: bytes) -> bool:
    """Each piece of the answer goes on as it comes."""
    fields = [(name.decode(), value.decode("latin-1")) for name, value in request.headers]
    status, answered, pieces = await service(key, request.method, request.target.decode("latin-1"), fields, body)
    may_follow = request.is_http_11 and b"close" not in connection_options(request.headers)
    has_body = request.method != "HEAD" and status not in (204, 304)
    is_chunked = has_body and request.is_http_11
    headers = [(name.encode(), value.encode("latin-1")) for name, value in answered]
    headers += [(b"Transfer-Encoding", b"chunked")] if is_chunked else []
    headers += [] if may_follow else [(b"Connection", b"close")]
    async with contextlib.aclosing(pieces):
        client.answer(head := render(b"HTTP/1.1 %d %s" % (status, _phrase(status)), headers))
        client.received(len(head))
        async for piece in pieces:
            if piece and has_body:
                client.writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece)
                await client.writer.drain()
            client.received(len(piece))
    if is_chunked:
        client.writer.write(b"0\r\n\r\n")
    await client.writer.drain()
    return may_follow


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
