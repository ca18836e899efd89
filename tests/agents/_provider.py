"""A provider's server on loopback that says what a test tells it to, piece by piece, and keeps what it was sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 — what is waited for happens in the kernel too
            await asyncio.sleep(0.005)


@dataclass
class Asked:
    line: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str:
        """One header's value; "" when it is not there, and an error when it stands twice."""
        values = [value for key, value in self.headers if key.lower() == name]
        assert len(values) < 2, self.headers
        return values[0] if values else ""


Piece = bytes | asyncio.Event  # an event is waited for; b"!" breaks the connection off


@dataclass
class Provider:
    """`pieces` are sent as chunks, each in a write of its own; the next request gets the same."""

    status: str = "200 OK"
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    pieces: list[Piece] = field(default_factory=list)
    holds: asyncio.Event | None = None  # waited for before the head of the answer
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    open: int = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            with contextlib.suppress(OSError, EOFError):
                while await self._request(reader, writer):
                    pass
        finally:
            self.open -= 1
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.rstrip("\r\n").split("\r\n")
        headers = [(name, value) for name, _, value in (entry.partition(": ") for entry in lines)]
        length = int({name.lower(): value for name, value in headers}.get("content-length", "0"))
        self.asked.append(Asked(line, headers, await reader.readexactly(length)))
        watch = asyncio.create_task(reader.read(1))
        try:
            if self.holds is not None and not await self._or_left(self.holds, watch):
                return False
            fields = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
            writer.write(f"HTTP/1.1 {self.status}\r\n{fields}transfer-encoding: chunked\r\n\r\n".encode())
            for piece in list(self.pieces):
                if isinstance(piece, asyncio.Event):
                    if not await self._or_left(piece, watch):
                        return False
                elif piece == b"!":
                    writer.transport.abort()
                    return False
                else:
                    writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    await writer.drain()
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
        return True

    async def _or_left(self, event: asyncio.Event, watch: asyncio.Task[bytes]) -> bool:
        """Wait for the event; False when the other end leaves before."""
        waiting = asyncio.create_task(event.wait())
        await asyncio.wait({waiting, watch}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return not watch.done()


def sse(*messages: dict[str, Any] | str, named: bool = False) -> bytes:
    """Server-sent events of these."""
    said = []
    for message in messages:
        data = message if isinstance(message, str) else json.dumps(message)
        name = f"event: {message['type']}\n" if named and isinstance(message, dict) else ""
        said.append(f"{name}data: {data}\n\n")
    return "".join(said).encode()


ANTHROPIC = [
    {
        "type": "message_start",
        "message": {
            "id": "m",
            "type": "message",
            "model": "claude-parrot-1",
            "usage": {"input_tokens": 10, "cache_creation_input_tokens": 200, "cache_read_input_tokens": 3000, "output_tokens": 1},
        },
    },
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 'a "usage" of ü \r\n\r\ndata: {}'}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 42}},
    {"type": "message_stop"},
]
RESPONSES = [
    {"type": "response.created", "response": {"id": "r", "object": "response", "model": "gpt-parrot-1", "usage": None}},
    {"type": "response.output_text.delta", "delta": '"usage": {"input_tokens": 7}'},
    {
        "type": "response.completed",
        "response": {
            "id": "r",
            "object": "response",
            "model": "gpt-parrot-1",
            "usage": {
                "input_tokens": 3210,
                "input_tokens_details": {"cached_tokens": 3000},
                "output_tokens": 42,
                "output_tokens_details": {"reasoning_tokens": 20},
            },
        },
    },
]
CHAT = [
    {"object": "chat.completion.chunk", "model": "gpt-parrot-1", "choices": [{"delta": {"content": "hi"}}], "usage": None},
    {
        "object": "chat.completion.chunk",
        "model": "gpt-parrot-1",
        "choices": [],
        "usage": {
            "prompt_tokens": 3210,
            "prompt_tokens_details": {"cached_tokens": 3000},
            "completion_tokens": 42,
            "completion_tokens_details": {"reasoning_tokens": 20},
        },
    },
    "[DONE]",
]
GEMINI = [
    {
        "candidates": [{"content": {"parts": [{"text": "hi"}]}}],
        "usageMetadata": {"promptTokenCount": 3210},
        "modelVersion": "gemini-parrot-1",
    },
    {
        "candidates": [{"content": {"parts": [{"text": "!"}]}, "finishReason": "STOP"}],
        "usageMetadata": {
            "promptTokenCount": 3200,
            "toolUsePromptTokenCount": 10,
            "cachedContentTokenCount": 3000,
            "candidatesTokenCount": 22,
            "thoughtsTokenCount": 20,
        },
        "modelVersion": "gemini-parrot-1",
    },
]
