"""Where sandboxes on other machines reach the service: a TCP port behind the operator's own TLS proxy.

Whatever comes here comes from the internet. So there is no proxying and nothing but the service's paths; a request is admitted
by its head alone, before a byte of its body is read; and who shows a wrong token waits, a few at a time from one address.
Nothing is asked of anybody, the database included, before a token was found to be one of ours. Nothing said here is logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NoReturn

from sandboxes import service
from sandboxes.connections import Asker, Client, answer, converse, sweep
from sandboxes.egress import HostError, Target, is_public, parse_authority
from sandboxes.http1 import MAX_HEAD, NO_BODY, ProxyError, Request
from sandboxes.service import Fields, Service

logger = logging.getLogger(__name__)

HEALTHY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

# What is asked for, headers → the key that the service is given; "" when they show no token of ours. It must not wait.
Identify = Callable[[str, Fields], str]


@dataclass(frozen=True)
class Bounds:
    """How much and how long (seconds).

    `connections` in all, and `of_one_peer` where the peer is not the operator's proxy; `requests` of one token at one time;
    `bodies` is bytes of all requests in memory. So many `wrong` tokens of one address, and `wrong_in_all`, are answered after
    `wrong_s` at one time, and the others at once.
    The service may take `service_s` from one byte to the next, as a model that thinks does; else it is `idle_s`.
    """

    connections: int = 1024
    of_one_peer: int = 64
    requests: int = 32
    bodies: int = 512 * 1024**2
    wrong: int = 4
    wrong_in_all: int = 64
    wrong_s: float = 2.0
    head_s: float = 10.0
    body_s: float = 120.0
    idle_s: float = 60.0
    service_s: float = 660.0
    linger_s: float = 1.0
    sweep_s: float = 1.0
    again_s: float = 5.0


def parse_listen(text: str) -> Target:
    """`host:port` to listen at. ValueError with a sentence."""
    try:
        return parse_authority(text, None)
    except HostError as error:
        raise ValueError(f"GATEWAY_LISTEN is “{text}”, and should look like 127.0.0.1:8010. {error}") from None


class Listener:
    """Answers requests for /PATH and what lies below it, of `paths`, from whoever `identify` finds a key for. Anybody may look whether
    it is there, at /healthz and at /PATH itself."""

    def __init__(
        self, where: Target, *, paths: Collection[str], identify: Identify, service: Service, bounds: Bounds | None = None
    ) -> None:
        self._where, self._paths, self._identify, self._service = where, frozenset(paths), identify, service
        self._bounds = bounds or Bounds()
        self._clients: set[Client] = set()
        self._peers: Counter[str] = Counter()
        self._wrong: Counter[str] = Counter()
        self._all = Asker("", most=self._bounds.bodies)
        self._askers: dict[str, Asker] = {}
        self._at_work: Counter[str] = Counter()

    async def serve(self) -> None:
        """Until canceled. A port that cannot be had is said once, and tried for again: an earlier gateway may still have it."""
        server, is_told = None, False
        try:
            while server is None:
                try:
                    server = await asyncio.start_server(self._accept, self._where.host, self._where.port, limit=MAX_HEAD)
                except OSError as error:
                    if not is_told:
                        logger.error(
                            "Sandboxes on other machines cannot reach the models: the gateway cannot listen at %s (%s). "
                            "Free it, or name another in GATEWAY_LISTEN. Local sandboxes go on.",
                            self._where,
                            error.strerror or error,
                        )
                    is_told = True
                    await asyncio.sleep(self._bounds.again_s)
            if is_told:
                logger.warning("The gateway listens at %s now.", self._where)
            while True:
                sweep(self._clients, self._patience)
                await asyncio.sleep(self._bounds.sweep_s)
        finally:
            if server is not None:
                server.close()
            tasks = [client.task for client in self._clients]
            for client in self._clients:
                client.writer.transport.abort()
                client.task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _patience(self, client: Client) -> float:
        return self._bounds.service_s if client.is_with_us else self._bounds.idle_s

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = str((writer.get_extra_info("peername") or ("",))[0])
        is_one_of_many = _is_outside(peer) and self._peers[peer] >= self._bounds.of_one_peer
        if len(self._clients) >= self._bounds.connections or is_one_of_many:
            writer.write(answer(503, "There are too many connections. Try again in a moment."))
            writer.close()
            return
        client = Client(reader, writer)
        client.begin()
        client.task = asyncio.create_task(self._converse(client, peer))
        self._clients.add(client)
        self._peers[peer] += 1

        def ended(_: asyncio.Task[None]) -> None:
            self._clients.discard(client)
            _less(self._peers, peer)

        client.task.add_done_callback(ended)

    async def _converse(self, client: Client, peer: str) -> None:
        try:
            await converse(
                client,
                partial(self._request, client, peer),
                head_s=self._bounds.head_s,
                linger_s=self._bounds.linger_s,
                patience=self._patience,
            )
        except Exception:
            logger.exception("A request of a sandbox on another machine failed")

    async def _request(self, client: Client, peer: str, request: Request) -> bool:
        """One request; whether another may follow on the same connection."""
        target = request.target.decode("latin-1")
        path = target.partition("?")[0]
        is_there = path == "/healthz" or path.strip("/") in self._paths  # some programs look at the root of an API first
        if is_there and request.method in ("GET", "HEAD") and request.body == NO_BODY:
            client.answer(HEALTHY)
            return False
        if request.method == "CONNECT" or not path.startswith("/") or path.split("/")[1] not in self._paths:
            raise ProxyError(404, "There is nothing here.")
        fields = [(name.decode().lower(), value.decode("latin-1")) for name, value in request.headers]
        key = self._identify(target, fields)
        if not key:
            await self._refuse(_address(peer, fields))
        if self._at_work[key] >= self._bounds.requests:
            raise ProxyError(429, f"More than {self._bounds.requests} requests of one run were under way at once.")
        asker = self._askers.setdefault(key, Asker(key, among=self._all))
        self._at_work[key] += 1
        try:
            return await service.serve(self._service, asker, client, request, body_s=self._bounds.body_s)
        finally:
            if not _less(self._at_work, key):
                del self._askers[key]

    async def _refuse(self, address: str) -> NoReturn:
        if self._wrong[address] >= self._bounds.wrong or self._wrong.total() >= self._bounds.wrong_in_all:
            raise ProxyError(429, "There were too many wrong tokens. Try again in a moment.")
        self._wrong[address] += 1
        try:
            await asyncio.sleep(self._bounds.wrong_s)
        finally:
            _less(self._wrong, address)
        raise ProxyError(401, "This token is not good here.")


def _less(counts: Counter[str], key: str) -> int:
    """One less, and no entry for none: addresses come without end."""
    counts[key] -= 1
    left = counts[key]
    if not left:
        del counts[key]
    return left


def _is_outside(peer: str) -> bool:
    try:
        return is_public(peer)
    except ValueError:
        return False


def _address(peer: str, fields: Fields) -> str:
    """Who asks: the peer, or who our own proxy says it was, last. Of IPv6 it is the network: one host has all of its addresses."""
    if not _is_outside(peer):
        said = ",".join(value for name, value in fields if name == "x-forwarded-for").rpartition(",")[2].strip()
        try:
            peer = str(ip_address(said))
        except ValueError:
            return peer
    address = ip_address(peer)
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else peer
