"""The broker behind a gateway's socket, before a provider on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from agents.broker import Broker
from agents.grants import Call, Grant, Key, Refusal
from agents.upstream import NotAllowed, Upstream
from sandboxes.addresses import Addresses
from sandboxes.egress import PolicyError
from sandboxes.gateway import Bounds, Gateway

from ._provider import ANTHROPIC, CHAT, GEMINI, RESPONSES, Provider, sse, until

TOKEN, SECRET = "act-1-1-token", "sk-the-real-key"
ASKS = {
    "anthropic": ("/anthropic/v1/messages?beta=true", {"model": "parrot", "messages": [], "stream": True}),
    "responses": ("/openai/v1/responses", {"model": "parrot", "input": "hi", "stream": True}),
    "chat": ("/openai/v1/chat/completions", {"model": "parrot", "messages": [], "stream": True}),
    "gemini": ("/gemini/v1beta/models/parrot:streamGenerateContent?alt=sse", {"contents": []}),
}
STREAMS = {"anthropic": sse(*ANTHROPIC), "responses": sse(*RESPONSES), "chat": sse(*CHAT), "gemini": sse(*GEMINI)}
SSE = {"content-type": "text/event-stream; charset=utf-8"}


class World:
    """A provider, a broker in a gateway, and clients in a sandbox called `box`."""

    def __init__(self, folder: Path) -> None:
        self.provider = Provider()
        self.port = 0
        self.root = folder / "sandboxes"
        self.allowed: list[str] = []
        self.key: dict[str, Any] = {}
        self.opened: list[tuple[str, str, str]] = []
        self.calls: list[Call] = []
        self.answer: Callable[[str, str, str], Awaitable[Grant | Refusal]] | None = None
        self.failures = 0  # of `record`, before it works
        self.stack = contextlib.AsyncExitStack()

    async def open(self, key: str, token: str, provider: str) -> Grant | Refusal:
        self.opened.append((key, token, provider))
        if self.answer is not None:
            return await self.answer(key, token, provider)
        if token != TOKEN:
            return Refusal(401, "asynccode: This token is not one of this sandbox.")
        return Grant(1, 2, 3, Key(**{"provider": provider, "secret": SECRET, "base_url": f"http://127.0.0.1:{self.port}"} | self.key))

    async def record(self, grant: Grant, call: Call) -> None:
        assert (grant.turn_id, grant.run_id, grant.user_id) == (1, 2, 3)
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the database is away")
        self.calls.append(call)

    async def start(self, **options: Any) -> asyncio.Task[None]:
        """Also a second time, beside the first: as a gateway that takes over."""
        addresses = Addresses(self.allowed)

        async def resolve(scheme: str, host: str, port: int) -> list[str]:
            try:
                return await addresses(scheme, host, port)
            except PolicyError as error:
                raise NotAllowed(str(error)) from None

        broker = Broker(open=self.open, record=self.record, upstream=Upstream(resolve, **options), retry_s=(0.01, 0.01))
        gateway = Gateway(self.root, on_attempt=lambda key, attempt: None, bounds=Bounds(scan_s=0.01), service=broker)
        task = asyncio.create_task(gateway.serve())
        self.stack.push_async_callback(broker.close)
        self.stack.push_async_callback(self.stop, task)
        socket = self.root / "box" / "gateway" / "gateway.sock"
        before = socket.stat().st_ino if socket.exists() else 0
        await until(lambda: socket.exists() and socket.stat().st_ino != before)
        return task

    async def stop(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.wait({task})

    def client(self) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(uds=str(self.root / "box" / "gateway" / "gateway.sock"))
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:3128", headers={"x-api-key": TOKEN}, timeout=10)

    async def ask(self, api: str = "anthropic", **options: Any) -> httpx.Response:
        path, body = ASKS[api]
        async with self.client() as client:
            return await client.post(path, **{"json": body} | options)


def asked_provider(api: str) -> str:
    """Of the names in ASKS."""
    return {"responses": "openai", "chat": "openai"}.get(api, api)
