"""The only way out of a local sandbox: a proxy on one unix socket a sandbox, so that the socket says who asks.

For every folder ROOT/<name>/gateway/ it listens at `gateway.sock` in it, and ROOT/<name>/state/spec.json says who
that is and what it may reach: {"key": "installation:run:generation", "network": {"mode": …, "hosts": […]}, …}.
Here are the sockets and their connections; what is said on them is `sandboxes.proxy`'s.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import resource
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from sandboxes.connections import Caller, Client, answer, sweep
from sandboxes.egress import Attempt, PrivateHosts, Record
from sandboxes.http1 import MAX_HEAD
from sandboxes.proxy import Bounds, Connect, Proxy, Resolve
from sandboxes.service import Service

__all__ = ["Attempt", "Bounds", "Gateway"]

logger = logging.getLogger(__name__)

SOCKET = "gateway.sock"
FRESH_NS = 1_000_000_000  # a folder changed this recently may change again without its time showing it
MAX_OPEN_FILES = 65536

OnAttempt = Callable[[str, Attempt], Awaitable[None] | None]  # key, attempt


class _Door:
    """One sandbox's socket: who is behind it, and its connections."""

    def __init__(self, folder: Path, lookups: int) -> None:
        self.socket = folder / "gateway" / SOCKET
        self.clients: set[Client] = set()
        self.caller = Caller(folder / "state" / "spec.json", lookups)
        self.is_closed = False
        self._server: asyncio.Server | None = None
        self._identity = (0, 0)

    async def open(self, serve: Callable[[_Door, asyncio.StreamReader, asyncio.StreamWriter], None]) -> None:
        """Listen, in place of whatever socket is there. OSError when there is no folder for it.

        The folder is opened first: through its descriptor a path of any length can be bound. The new socket is
        listening before it gets its name, so a client never finds none.
        """
        folder = os.open(self.socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.stat(folder).st_mode & 0o005 != 0o005:
                os.chmod(f"/proc/self/fd/{folder}", 0o755)  # noqa: S103 — as the socket below
            name = f".{secrets.token_hex(8)}.sock"
            path = f"/proc/self/fd/{folder}/{name}"
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                umask = os.umask(0o111)  # whoever runs in the sandbox may connect; nobody else sees the folder
                try:
                    listener.bind(path)
                finally:
                    os.umask(umask)
                self._server = await asyncio.start_unix_server(lambda r, w: serve(self, r, w), sock=listener, limit=MAX_HEAD)
                status = os.stat(path)
                self._identity = (status.st_dev, status.st_ino)
                os.rename(name, SOCKET, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                self.stop_listening()
                listener.close()
                raise
        finally:
            os.close(folder)

    def close(self) -> None:
        self.is_closed = True
        self.stop_listening()
        for client in self.clients:
            client.writer.transport.abort()
            client.task.cancel()

    def stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()

    def is_there(self) -> bool:
        """Whether the socket still has its name. When another gateway has taken it over, ours stops listening but
        its connections go on."""
        try:
            status = os.lstat(self.socket)
        except OSError:
            return False
        if (status.st_dev, status.st_ino) != self._identity:
            self.stop_listening()
        return True


class Gateway:
    """Serves every sandbox whose folder appears under `root`, until canceled.

    `on_attempt` is called for a refused attempt at once and for an allowed one when it has ended, like ones
    gathered (see egress.Record); what goes wrong in it is logged and hurts nobody. `allow_private` are the
    operator's `host` and `host:port` that may lead to private addresses (HostError for a malformed one); the
    sandbox's own policy must allow them too. `service` answers what is asked of the gateway itself (`GET /…`).
    """

    def __init__(
        self,
        root: Path,
        *,
        allow_private: Collection[str] = (),
        on_attempt: OnAttempt,
        resolve: Resolve | None = None,
        connect: Connect | None = None,
        bounds: Bounds | None = None,
        service: Service | None = None,
    ) -> None:
        bounds = bounds or Bounds()
        self._root = root
        self._on_attempt = on_attempt
        self._bounds = bounds
        self._record = Record(self._report, window_s=bounds.gather_s)
        self._proxy = Proxy(
            private=PrivateHosts(allow_private), record=self._record, resolve=resolve, connect=connect, bounds=bounds, service=service
        )
        self._doors: dict[str, _Door] = {}
        self._names: set[str] = set()
        self._root_seen: tuple[int, int] | None = None
        self._failed: set[str] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._reports: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Also raises this process's soft limit of open files: every connection takes two."""
        _raise_open_files()
        try:
            while True:
                await self._scan()
                for door in self._doors.values():
                    sweep(door.clients, self._proxy.patience)
                await asyncio.sleep(self._bounds.scan_s)
        finally:
            for door in self._doors.values():
                door.close()
            await asyncio.gather(*self._connections, return_exceptions=True)
            self._doors.clear()
            self._proxy.close()
            self._record.flush_all()
            if self._reports:
                await asyncio.wait(self._reports, timeout=5)

    # Sockets ---------------------------------------------------------------------------------------------------

    async def _scan(self) -> None:
        """Open sockets in new folders, close those whose folders or sockets are gone."""
        self._list_names()
        for name, door in list(self._doors.items()):
            if name not in self._names or not door.is_there():
                door.close()
                del self._doors[name]
        for name in self._names - self._doors.keys():
            door = _Door(self._root / name, self._bounds.lookups)
            try:
                await door.open(self._accept)
            except (FileNotFoundError, NotADirectoryError):
                continue  # not yet, or a sandbox being deleted
            except OSError as error:
                if name not in self._failed:
                    logger.error("No gateway for sandbox %s: %s", name, error)
                self._failed.add(name)
                continue
            self._failed.discard(name)
            self._doors[name] = door

    def _list_names(self) -> None:
        try:
            status = os.stat(self._root)
            seen = (status.st_ino, status.st_mtime_ns)
            if seen == self._root_seen and time.time_ns() - status.st_mtime_ns > FRESH_NS:
                return
            with os.scandir(self._root) as entries:
                self._names = {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
            self._root_seen = seen
        except FileNotFoundError:  # no sandbox was ever made
            self._names, self._root_seen = set(), None

    def _accept(self, door: _Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if door.is_closed:
            writer.transport.abort()
            return
        if len(door.clients) >= self._bounds.connections:
            reason = f"More than {self._bounds.connections} connections were open at once. Use fewer, or keep them open for less long."
            writer.write(answer(503, reason))
            writer.close()
            if door.caller.key:
                self._record.add(door.caller.key, Attempt(time.time(), "", "", 0, is_allowed=False, reason=reason))
            return
        client = Client(reader, writer)
        client.begin()
        client.task = asyncio.create_task(self._proxy.serve(door.caller, client))
        door.clients.add(client)
        self._connections.add(client.task)

        def ended(task: asyncio.Task[None]) -> None:
            door.clients.discard(client)
            self._connections.discard(task)

        client.task.add_done_callback(ended)

    # Reports ---------------------------------------------------------------------------------------------------

    def _report(self, key: str, attempt: Attempt) -> None:
        task = asyncio.get_running_loop().create_task(self._deliver(key, attempt))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def _deliver(self, key: str, attempt: Attempt) -> None:
        try:
            result = self._on_attempt(key, attempt)
            if inspect.isawaitable(result):
                await result
        except Exception:
            logger.exception("An attempt of %s to reach %s:%d was not recorded", key, attempt.host, attempt.port)


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
