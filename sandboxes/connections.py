"""An accepted connection of the gateway: who is behind it, and its requests one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandboxes.base import NetworkMode, NetworkPolicy
from sandboxes.egress import Policy
from sandboxes.http1 import MAX_HEAD, ProxyError, Request, render

logger = logging.getLogger(__name__)

MAX_BODIES = 192 * 1024**2  # of one sandbox, in memory at one time


@dataclass(eq=False)
class Client:
    """One accepted connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    task: asyncio.Task[None] = field(init=False)
    touched: float = 0.0
    requests: int = 0
    has_answer: bool = False  # of the present request: its first byte was sent
    is_with_us: bool = False  # the service is at work on it
    is_idle: bool = False  # found so by the sweep, and canceled for it
    bytes_up: int = 0
    bytes_down: int = 0

    def sent(self, size: int) -> None:
        self.bytes_up += size
        self.touched = asyncio.get_running_loop().time()

    def received(self, size: int) -> None:
        self.bytes_down += size
        self.touched = asyncio.get_running_loop().time()

    def begin(self) -> None:
        self.requests += 1
        self.has_answer, self.is_with_us, self.bytes_up, self.bytes_down = False, False, 0, 0
        self.touched = asyncio.get_running_loop().time()

    def answer(self, data: bytes) -> None:
        self.has_answer = True
        self.writer.write(data)


class Asker:
    """Who asks the service. `asked` is the bytes of bodies that it holds in memory, `most` what it may; they count for `among` too."""

    def __init__(self, key: str = "", *, most: int = MAX_BODIES, among: Asker | None = None) -> None:
        self.key, self.most, self.among = key, most, among
        self.asked = 0

    def take(self, size: int) -> None:
        self.asked += size
        if self.among is not None:
            self.among.take(size)
        if self.asked > self.most:
            raise ProxyError(503, "There are too many large requests at once. Try again when some are done.")

    def give_back(self, size: int) -> None:
        self.asked -= size
        if self.among is not None:
            self.among.give_back(size)


class Caller(Asker):
    """The sandbox behind a socket: who it is and what it may reach, as its spec.json says now."""

    def __init__(self, spec: Path, lookups: int) -> None:
        super().__init__()
        self.lookups = asyncio.Semaphore(lookups)
        self._spec = spec
        self._seen: tuple[int, int, int] | None = None
        self._policy: Policy | None = None
        self._trouble = ""

    def policy(self) -> Policy:
        """The policy as it is now. ProxyError when it cannot be read."""
        try:
            status = os.stat(self._spec)
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen != self._seen or self._policy is None:
                spec = json.loads(self._spec.read_text())
                network = NetworkPolicy(NetworkMode(spec["network"]["mode"]), tuple(spec["network"]["hosts"]))
                self._policy, self.key, self._seen = Policy.of(network), str(spec["key"]), seen
        except (OSError, ValueError, KeyError, TypeError) as error:
            if str(error) != self._trouble:  # once, however often it is asked for
                logger.warning("%s: the network policy cannot be read (%s)", self._spec, error)
            self._trouble = str(error)
            raise ProxyError(503, "The network policy of this sandbox cannot be read. Start the run anew.") from None
        return self._policy


def sweep(clients: Iterable[Client], patience: Callable[[Client], float]) -> None:
    """End the connections on which nothing has moved for too long, in either direction."""
    now = asyncio.get_running_loop().time()
    for client in clients:
        if now - client.touched > patience(client) and not client.is_idle:
            client.is_idle = True
            client.task.cancel()


async def converse(
    client: Client,
    handle: Callable[[Request], Awaitable[bool]],
    *,
    head_s: float,
    linger_s: float,
    patience: Callable[[Client], float],
) -> None:
    """A connection, from its first request to its end. `handle` does each, and says whether another may follow; a ProxyError of it
    is answered. `head_s` (seconds) is for each head, `patience` how long nothing may have moved when the sweep cancels this."""
    # Canceled by the sweep or at our end; or one of the two ends went away: then nobody is left to be told.
    with contextlib.suppress(asyncio.CancelledError, OSError, EOFError):
        async with closing(client.writer):
            try:
                while (request := await _next(client, head_s)) and await handle(request):
                    client.begin()
            except ProxyError as error:
                if client.has_answer:  # too late to say so: the client sees the answer cut
                    raise ConnectionResetError from error
                client.answer(answer(error.status, str(error)))
            except asyncio.CancelledError:
                if client.is_idle and not client.has_answer:
                    client.answer(answer(504, f"Nothing came back for {patience(client):g} s."))
                raise
            # What is still on its way here is read for a moment: closed with unread input, the client could lose the answer.
            if client.writer.can_write_eof():
                client.writer.write_eof()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(linger_s):
                    while await client.reader.read(MAX_HEAD):
                        pass


async def _next(client: Client, head_s: float) -> Request | None:
    """The next request, its body unread; None when there is none."""
    try:
        async with asyncio.timeout(head_s):
            head = await client.reader.readuntil(b"\r\n\r\n")
    except TimeoutError:
        if client.requests > 1:
            return None  # kept alive long enough
        raise ProxyError(408, f"The request's head took longer than {head_s:g} s.") from None
    except asyncio.LimitOverrunError:
        raise ProxyError(431, f"The request's head is longer than {MAX_HEAD // 1024} KiB.") from None
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ProxyError(400, "The request ended within its head.") from None
        return None
    return Request.parse(head)


def answer(status: int, sentence: str) -> bytes:
    """Our own answer. The sentence is its reason phrase too: for a refused tunnel most programs show nothing else."""
    body = f"asynccode: {sentence}\n".encode()
    phrase = sentence.replace("→", ">").encode("ascii", "replace")
    headers = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"Content-Length", b"%d" % len(body)), (b"Connection", b"close")]
    return render(b"HTTP/1.1 %d %s" % (status, phrase), headers) + body


@contextlib.asynccontextmanager
async def closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Close at the end with all that was written sent; at once if anything goes wrong or this is canceled."""
    try:
        yield
        writer.close()
        with contextlib.suppress(OSError):  # the other end was quicker
            await writer.wait_closed()
    except BaseException:
        writer.transport.abort()
        raise


@contextlib.asynccontextmanager
async def canceling(*tasks: asyncio.Task[Any]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
