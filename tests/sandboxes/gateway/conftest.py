"""A small internet on loopback: names, addresses and servers, seen through a real gateway on real unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from sandboxes.gateway import Attempt, Bounds, Gateway
from sandboxes.proxy import open_connection
from sandboxes.service import Service

PUBLIC = "93.184.215.14"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 — what is waited for happens in other processes and in the kernel too
            await asyncio.sleep(0.005)


class Origin:
    """An HTTP server that keeps what it was sent, and answers `answer`."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.bodies: list[bytearray] = []
        self.open = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            self.bodies.append(body := bytearray())
            lower = head.lower()
            if b"content-length: " in lower:
                left = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0])
                while len(body) < left and (data := await reader.read(left - len(body))):
                    body += data
            elif b"transfer-encoding: chunked" in lower:
                while not body.endswith(b"0\r\n\r\n") and (data := await reader.read(65536)):
                    body += data
            writer.write(self.answer)
            await writer.drain()
        except (OSError, EOFError):
            return
        finally:
            self.open -= 1
            writer.close()

    def header(self, name: str) -> list[str]:
        """The values of a header of the newest request."""
        lines = self.heads[-1].decode("latin-1").split("\r\n")[1:]
        return [line.split(": ", 1)[1] for line in lines if line.lower().startswith(name.lower() + ": ")]


class World:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.attempts: list[tuple[str, Attempt]] = []
        self.names: dict[str, list[str] | Callable[[], Awaitable[list[str]]]] = {}
        self.sites: dict[tuple[str, int], int] = {}
        self.asked: list[str] = []
        self.dialed: list[tuple[str, int]] = []
        self.until = until
        self.stack = contextlib.AsyncExitStack()

    # The internet

    async def resolve(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        answer = self.names.get(host)
        if answer is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return answer if isinstance(answer, list) else await answer()

    async def connect(self, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.dialed.append((address, port))
        if (address, port) not in self.sites:
            raise ConnectionRefusedError("nobody is there")
        return await open_connection("127.0.0.1", self.sites[address, port])

    async def listen(self, handler: Handler) -> int:
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        self.stack.callback(server.close)
        return server.sockets[0].getsockname()[1]

    async def site(self, name: str, handler: Handler, *, port: int = 80, address: str = PUBLIC) -> None:
        """A server of the internet that `name` leads to."""
        self.names.setdefault(name, [address])
        self.sites[address, port] = await self.listen(handler)

    async def origin(
        self, name: str = "example.org", answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", *, port: int = 80
    ) -> Origin:
        origin = Origin(answer)
        await self.site(name, origin, port=port)
        return origin

    # Our side

    def sandbox(self, name: str = "box", *hosts: str, mode: str = "none") -> Path:
        """A sandbox's folder as the local backend makes it; the socket's path. A second time: a changed policy."""
        folder = self.root / name
        (folder / "state").mkdir(parents=True, exist_ok=True)
        spec = {"key": f"test:{name}:1", "network": {"mode": mode, "hosts": hosts}}
        (folder / "state" / "spec.new").write_text(json.dumps(spec))
        (folder / "state" / "spec.new").rename(folder / "state" / "spec.json")
        (folder / "gateway").mkdir(exist_ok=True)
        return folder / "gateway" / "gateway.sock"

    async def gateway(
        self, *, real: bool = False, allow_private: frozenset[str] = frozenset(), service: Service | None = None, **bounds: float
    ) -> asyncio.Task[None]:
        """A gateway at work, with a socket in every sandbox there is. `real`: the machine's own names and addresses."""
        gateway = Gateway(
            self.root,
            allow_private=allow_private,
            on_attempt=lambda key, attempt: self.attempts.append((key, attempt)),
            resolve=None if real else self.resolve,
            connect=None if real else self.connect,
            bounds=Bounds(**{"scan_s": 0.02, **bounds}),
            service=service,
        )
        task = asyncio.create_task(gateway.serve())
        self.stack.push_async_callback(self.stop, task)
        folders = list(self.root.iterdir()) if self.root.exists() else []
        await until(lambda: all(can_connect(folder / "gateway" / "gateway.sock") for folder in folders))
        return task

    async def stop(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def dial(self, name: str = "box") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(self.root / name / "gateway" / "gateway.sock")
        self.stack.callback(writer.close)
        return reader, writer

    async def ask(self, request: bytes, name: str = "box", *, end: bool = False) -> bytes:
        """Send, and read all until the gateway closes; `end` closes our direction first."""
        reader, writer = await self.dial(name)
        writer.write(request)
        if end:
            writer.write_eof()
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        return answer

    async def get(self, url: str, name: str = "box", headers: str = "") -> bytes:
        return await self.ask(f"GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode(), name)

    async def tunnel(self, target: str, name: str = "box") -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
        """CONNECT; the head of the answer, and the streams."""
        reader, writer = await self.dial(name)
        writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        return await reader.readuntil(b"\r\n\r\n"), reader, writer

    async def tcp(self, name: str = "box") -> int:
        """A TCP port that leads to a sandbox's socket, for programs that know no other proxies."""

        async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()

        async def bridge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            up_reader, up_writer = await self.dial(name)
            await asyncio.gather(pipe(reader, up_writer), pipe(up_reader, writer), return_exceptions=True)
            up_writer.close()
            writer.close()

        return await self.listen(bridge)

    def reasons(self) -> list[str]:
        return [attempt.reason for _, attempt in self.attempts]


def can_connect(path: Path) -> bool:
    folder = os.open(path.parent, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(f"/proc/self/fd/{folder}/{path.name}") == 0
    finally:
        os.close(folder)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="gateway-", dir="/tmp") as folder:  # short: the paths of sockets must be
        world = World(Path(folder, "sandboxes"))
        async with world.stack:
            yield world
