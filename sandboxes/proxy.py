"""The gateway's proxy: one accepted connection in, one judged connection out for each request.

Two kinds of request go out: CONNECT host:port (a tunnel) and http://… (one request, one connection to its host). A
third is for us (`GET /…`): `sandboxes.service`. What may be reached is `sandboxes.egress`'s to say. Names are looked up
here, once, and the connection goes to the very address that was judged. Bodies and headers are never logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from sandboxes import service
from sandboxes.connections import Caller, Client, canceling, closing, converse
from sandboxes.egress import (
    Attempt,
    HostError,
    PolicyError,
    PrivateHosts,
    Record,
    Target,
    is_address,
    parse_authority,
    usable_addresses,
)
from sandboxes.http1 import (
    MAX_HEAD,
    NO_BODY,
    UNTIL_END,
    Count,
    ProxyError,
    Request,
    Response,
    connection_options,
    copy,
    copy_body,
    passed_on,
    render,
)

logger = logging.getLogger(__name__)

HTTPS, HTTP = 443, 80
MAX_LOOKUPS_KEPT = 1024
MAX_ADDRESSES = 4  # of one name, that are tried
MAX_INTERIM = 16

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]  # host, port → addresses, best first; OSError when there are none
Connect = Callable[[str, int], Awaitable[Streams]]  # address, port
Relay = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]


@dataclass(frozen=True)
class Bounds:
    """How much and how long (seconds). `connections` and `lookups` are those of one sandbox at one time.

    `idle_s` is for what goes out; the service may take `service_s` from one byte to the next, as a model that thinks does.
    """

    connections: int = 128
    lookups: int = 8
    head_s: float = 30.0
    connect_s: float = 15.0
    idle_s: float = 300.0
    service_s: float = 660.0
    linger_s: float = 1.0
    scan_s: float = 0.25
    gather_s: float = 10.0
    lookup_kept_s: float = 10.0


class Proxy:
    """Serves accepted connections. What the parameters mean: see `Gateway`."""

    def __init__(
        self,
        *,
        private: PrivateHosts,
        record: Record,
        resolve: Resolve | None,
        connect: Connect | None,
        bounds: Bounds,
        service: service.Service | None = None,
    ) -> None:
        self._private, self._record, self._bounds, self._service = private, record, bounds, service
        self._resolve = resolve or self._getaddrinfo
        self._connect = connect or open_connection
        # Threads of our own: a sandbox that looks up names whose servers never answer must hold up nothing else.
        self._threads = ThreadPoolExecutor(64, thread_name_prefix="resolve")
        self._lookups: dict[Target, tuple[float, asyncio.Future[Sequence[str]]]] = {}

    def close(self) -> None:
        for _, lookup in self._lookups.values():
            lookup.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def patience(self, client: Client) -> float:
        """How long (seconds) nothing may move on this connection."""
        return self._bounds.service_s if client.is_with_us else self._bounds.idle_s

    async def serve(self, caller: Caller, client: Client) -> None:
        """One connection, from its first request to its end. Never raises."""
        try:
            await converse(
                client,
                partial(self._request, caller, client),
                head_s=self._bounds.head_s,
                linger_s=self._bounds.linger_s,
                patience=self.patience,
            )
        except Exception:
            logger.exception("A connection of sandbox %s failed", caller.key)

    async def _request(self, caller: Caller, client: Client, request: Request) -> bool:
        """Have a request done; whether another may follow on the same connection."""
        if request.target.startswith(b"/"):
            return await self._ask_us(caller, client, request)
        if request.method == "CONNECT":
            if request.body != NO_BODY:
                raise ProxyError(400, "A CONNECT request has no body.")
            return await self._go_out(caller, client, "CONNECT", _target(request.target, None), HTTPS, partial(self._tunnel, client))
        authority, path = request.split_url()
        target = _target(authority, HTTP)
        return await self._go_out(caller, client, request.method, target, HTTP, partial(self._exchange, client, request, target, path))

    async def _ask_us(self, caller: Caller, client: Client, request: Request) -> bool:
        """A request for us and no proxy's business (`GET /…`): the one place from which our own services are reached."""
        if self._service is None:
            raise ProxyError(404, "There is nothing here. This is a proxy: name the whole URL, as in http://example.org/.")
        caller.policy()  # reads who it is
        return await service.serve(self._service, caller, client, request)

    async def _go_out(self, caller: Caller, client: Client, method: str, target: Target, usual_port: int, relay: Relay) -> bool:
        """Ask the policy, connect, relay, and record the attempt."""
        policy, key = caller.policy(), caller.key
        at, began = time.time(), time.monotonic()
        is_allowed, reason = True, ""
        try:
            policy.check(target, usual_port, self._private)
            reader, writer = await self._dial(target, await self._addresses(caller, target))
            async with closing(writer):
                return await relay(reader, writer)
        except PolicyError as error:
            is_allowed, reason = False, str(error)
            raise ProxyError(403, reason) from None
        except ProxyError as error:
            reason = str(error)
            raise
        finally:
            seconds = time.monotonic() - began
            attempt = Attempt(at, method, *target, is_allowed, reason, client.bytes_up, client.bytes_down, seconds)
            self._record.add(key, attempt)

    async def _tunnel(self, client: Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        client.answer(b"HTTP/1.1 200 Connection established\r\n\r\n")
        up = asyncio.create_task(_pump(client.reader, writer, client.sent))
        down = asyncio.create_task(_pump(reader, client.writer, client.received))
        async with canceling(up, down):
            done, _ = await asyncio.wait({up, down}, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                with contextlib.suppress(OSError):  # one end broke off; what the other was sent still reaches it
                    task.result()
        return False

    async def _exchange(
        self, client: Client, request: Request, target: Target, path: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """One request and its answer, each streamed; whether the client's connection is fit for another."""
        host = str(target).removesuffix(f":{HTTP}").encode()
        version = b"1.1" if request.is_http_11 else b"1.0"
        headers = [(b"Host", host), *passed_on(request.headers, without=frozenset({b"host"})), (b"Connection", b"close")]
        writer.write(head := render(b"%s %s HTTP/%s" % (request.method.encode(), path, version), headers))
        client.sent(len(head))
        try:
            if request.body == NO_BODY:
                return await self._receive(client, request, target, reader)
            up = asyncio.create_task(copy_body(client.reader, writer, client.sent, request.body))
            down = asyncio.create_task(self._receive(client, request, target, reader))
            async with canceling(up, down):
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
                if up.done() and (error := up.exception()):
                    if isinstance(error, ValueError):
                        raise ProxyError(400, str(error))
                    if isinstance(error, EOFError):
                        raise ProxyError(400, "The request ended within its body.")
                    if not writer.is_closing():
                        raise error
                    # The host has hung up on a body that it did not want: it may have said so before.
                may_follow = await down
                if up.done() and not up.exception():
                    return may_follow
            writer.transport.abort()
            return False
        except (OSError, EOFError):
            if client.has_answer:
                raise
            raise ProxyError(502, f"{target} closed the connection without an answer.") from None

    async def _receive(self, client: Client, request: Request, target: Target, reader: asyncio.StreamReader) -> bool:
        """The host's answer to the client; whether the client's connection is fit for another request after it."""
        for _ in range(MAX_INTERIM):
            try:
                response = Response.parse(await reader.readuntil(b"\r\n\r\n"), request.method)
            except (ValueError, asyncio.LimitOverrunError):
                raise ProxyError(502, f"{target} answered with something that is not proper HTTP/1.1.") from None
            if not response.is_interim:
                break
            client.answer(render(response.line, passed_on(response.headers)))
            await client.writer.drain()
        else:
            raise ProxyError(502, f"{target} answered with too many interim responses.")
        may_follow = request.is_http_11 and response.body != UNTIL_END and b"close" not in connection_options(request.headers)
        headers = passed_on(response.headers) if may_follow else [*passed_on(response.headers), (b"Connection", b"close")]
        client.answer(head := render(response.line, headers))
        await client.writer.drain()  # also without a body: a client that asks on and never reads fills no memory of ours
        client.received(len(head))
        try:
            await copy_body(reader, client.writer, client.received, response.body)
        except ValueError as error:
            raise ConnectionResetError from error
        return may_follow

    # Names and connections ------------------------------------------------------------------------------------

    async def _addresses(self, caller: Caller, target: Target) -> list[str]:
        """Where a connection to `target` may go. PolicyError when that is nowhere."""
        try:
            async with asyncio.timeout(self._bounds.connect_s):
                found = [target.host] if is_address(target.host) else await self._look_up(caller, target)
        except TimeoutError:
            raise ProxyError(504, f"The name {target.host} could not be looked up within {self._bounds.connect_s:g} s.") from None
        except (OSError, UnicodeError):
            found = []
        if not found:
            raise ProxyError(502, f"The name {target.host} could not be found.")
        return usable_addresses(target, found, is_exempt=target in self._private)

    async def _look_up(self, caller: Caller, target: Target) -> Sequence[str]:
        """A name's addresses, asked for once in ten seconds; what is kept is judged anew each time.

        A thread cannot be taken back from a name server that is slow to answer, so the lookup keeps its share of
        the sandbox's lookups until it ends, also when the one who asked has given up.
        """
        now = asyncio.get_running_loop().time()
        began, lookup = self._lookups.get(target, (0.0, None))
        if lookup is None or now - began > self._bounds.lookup_kept_s:
            await caller.lookups.acquire()
            if len(self._lookups) >= MAX_LOOKUPS_KEPT:
                self._lookups.clear()
            lookup = asyncio.ensure_future(self._resolve(target.host, target.port))
            self._lookups[target] = (now, lookup)

            def ended(lookup: asyncio.Future[Sequence[str]]) -> None:
                caller.lookups.release()
                if lookup.cancelled() or lookup.exception():
                    self._lookups.pop(target, None)

            lookup.add_done_callback(ended)
        return await asyncio.shield(lookup)

    async def _getaddrinfo(self, host: str, port: int) -> Sequence[str]:
        lookup = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        return [str(info[4][0]) for info in await asyncio.get_running_loop().run_in_executor(self._threads, lookup)]

    async def _dial(self, target: Target, addresses: Sequence[str]) -> Streams:
        tried = addresses[:MAX_ADDRESSES]
        is_slow = False
        for address in tried:
            try:
                async with asyncio.timeout(self._bounds.connect_s / len(tried)):
                    return await self._connect(address, target.port)
            except OSError as error:
                is_slow = isinstance(error, TimeoutError)
        if is_slow:
            raise ProxyError(504, f"{target} did not accept a connection within {self._bounds.connect_s:g} s.")
        raise ProxyError(502, f"{target} refused the connection or cannot be reached from here.")


def _target(text: bytes, default_port: int | None) -> Target:
    try:
        return parse_authority(text.decode(), default_port)
    except UnicodeDecodeError:
        raise ProxyError(400, "The host is not valid UTF-8.") from None
    except HostError as error:
        raise ProxyError(400, str(error)) from None


async def _pump(source: asyncio.StreamReader, to: asyncio.StreamWriter, count: Count) -> None:
    """One direction of a tunnel, up to and including its end."""
    await copy(source, to, count)
    to.write_eof()


async def open_connection(address: str, port: int) -> Streams:
    return await asyncio.open_connection(address, port, limit=MAX_HEAD)
