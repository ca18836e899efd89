"""A server with a scripted model, for the real agents: one on loopback, in a thread of its own, for all formats of `wires.py`.

What it answers is said by markers in the newest prompt (`scripts.py`, README.md). It looks at the key, remembers each request,
and can be told to refuse connections. `python -m tests.models.server` runs one to try things with.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.models.scripts import Gate, Reply, replies
from tests.models.wires import WIRES, Ask, Wire, fill

KEY = "sk-scripted-model-real-key-0123456789"
MODELS = ("claude-opus-5-5", "gpt-6.1-sol", "gemini-2.5-pro")  # what a list of models names; others are known as well
UNKNOWN = "no-such-model"  # a model of this name is none, in any format


@dataclass(frozen=True)
class Seen:
    """One request as it arrived; `body` is {} when it was no JSON, `status` 0 when there never was an answer."""

    method: str
    path: str
    wire: str
    key: str
    model: str
    prompt: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    status: int = 0


class ModelServer:
    """Use it as a context manager. `key` is the one that is taken, with any format."""

    def __init__(self, key: str = KEY, port: int = 0) -> None:
        self.key, self.port = key, port
        self.requests: list[Seen] = []
        self._times: Counter[tuple[str, ...]] = Counter()
        self._gates: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted model")

    # --- its life, from other threads -----------------------------------------------------------------------------------

    def __enter__(self) -> ModelServer:
        self._thread.start()
        self.accept()
        return self

    def __exit__(self, *exception: object) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a product needs to know to ask this server instead of the vendors."""
        return {
            "ANTHROPIC_API_KEY": self.key,
            "ANTHROPIC_BASE_URL": self.url,
            "OPENAI_API_KEY": self.key,
            "OPENAI_BASE_URL": f"{self.url}/v1",
            "GEMINI_API_KEY": self.key,
            "GOOGLE_GEMINI_BASE_URL": self.url,
        }

    def accept(self) -> None:
        """Listen (again)."""
        self._do(self._accept())

    def refuse(self) -> None:
        """Listen no more, and end all connections: to connect is refused."""
        self._do(self._refuse())

    def open(self, gate: str) -> None:
        """Let the replies go on that wait at this gate, now and later."""

        async def opened() -> None:
            self._gate(gate).set()

        self._do(opened())

    def asked(self, words: str) -> list[Seen]:
        """The requests for answers whose prompt has these words."""
        return [seen for seen in list(self.requests) if words in seen.prompt]

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _accept(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=2**24)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    def _gate(self, name: str) -> asyncio.Event:
        return self._gates.setdefault(name, asyncio.Event())

    # --- HTTP -----------------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while request := await _read(reader):
                await self._respond(_Response(writer), *request)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError, _Cut):
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _respond(self, response: _Response, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        path = urlsplit(target).path
        wire = next((wire for wire in WIRES if wire.path.search(path)), None)
        if method == "POST" and wire is not None:
            data = json.loads(body)
            ask = wire.ask(path, data)
            number = len(self.requests)
            self.requests.append(Seen(method, target, wire.name, wire.key(headers), ask.model, ask.prompt, headers, data))
            response.on_status = lambda status: self._note(number, status)
            await self._answer(response, wire, ask, path, wire.key(headers), headers)
            return
        self.requests.append(Seen(method, target, "", _key(target, headers), "", "", headers, {}))
        number = len(self.requests) - 1
        response.on_status = lambda status: self._note(number, status)
        if path.rstrip("/").endswith("/models") or "/models/" in path:
            wire = _lists(path, headers)
            if _key(target, headers) == self.key:
                await response.json(200, wire.models(MODELS))
            else:
                await response.json(*wire.refusal("auth", ""))
        elif "upgrade" in headers:
            await response.json(426, {"error": {"message": "There are no WebSockets here."}})
        elif method == "HEAD":
            await response.json(200, None)
        elif method == "POST" and path.startswith("/gates/"):
            self._gate(path.removeprefix("/gates/")).set()
            await response.json(200, {})
        else:
            await response.json(404, {"error": {"message": f"There is no {method} {path} here."}})

    def _note(self, number: int, status: int) -> None:
        self.requests[number] = replace(self.requests[number], status=status)

    # --- answers --------------------------------------------------------------------------------------------------------

    async def _answer(self, response: _Response, wire: Wire, ask: Ask, path: str, key: str, headers: Mapping[str, str]) -> None:
        if key != self.key:
            await response.json(*wire.refusal("auth", ask.model))
            return
        if "count" in path.rpartition("/")[2]:
            await response.json(200, {"totalTokens": 1000} if wire.name == "gemini" else {"input_tokens": 1000})
            return
        if ask.model == UNKNOWN:
            await response.json(*wire.refusal("model", ask.model))
            return
        reply = self._reply(ask)
        once = (wire.name, headers.get("user-agent", ""), ask.prompt, str(ask.answered))
        if reply.hangs:
            await asyncio.Event().wait()
        if reply.refusal and self._is_due(("refusal", *once), reply.refusal.times):
            after = {"Retry-After": "1"} if reply.refusal.name == "rate_limit" else {}
            await response.json(*wire.refusal(reply.refusal.name, ask.model), headers=after)
            return
        is_cut = self._is_due(("cut", *once), reply.cuts)
        if not ask.streams:
            await response.json(200, wire.whole(ask, reply))
            return
        await response.begin(200, "text/event-stream")
        async for data in wire.stream(ask, reply, lambda reply: self._pieces(reply, is_cut)):
            await response.send(data)
        await response.end()

    def _reply(self, ask: Ask) -> Reply:
        """Questions on the side have no tools, or want JSON: they are answered with the least."""
        if ask.schema is not None:
            return Reply(parts=(json.dumps(fill(ask.schema)),))
        if not ask.tools:
            return Reply(parts=("A title",))
        script = replies(ask.prompt)
        return script[min(ask.answered, len(script) - 1)]

    def _is_due(self, what: tuple[str, ...], times: int | None) -> bool:
        self._times[what] += 1
        return times is None or self._times[what] <= times

    async def _pieces(self, reply: Reply, is_cut: bool) -> AsyncIterator[str]:
        for number, part in enumerate(reply.parts):
            if is_cut and number == len(reply.parts) // 2:
                raise _Cut
            if isinstance(part, Gate):
                await self._gate(part.name).wait()
            elif isinstance(part, str):
                yield part
            else:
                await asyncio.sleep(part)


class _Cut(Exception):
    """The connection is to end here, in the middle of an answer."""


class _Response:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.on_status: Callable[[int], None] = lambda status: None

    async def json(self, status: int, data: Any, headers: Mapping[str, str] | None = None) -> None:
        """A whole answer; None: one without a body."""
        body = b"" if data is None else json.dumps(data).encode()
        await self._head(status, {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})})
        await self._write(body)

    async def begin(self, status: int, content_type: str) -> None:
        await self._head(status, {"Content-Type": content_type, "Cache-Control": "no-cache", "Transfer-Encoding": "chunked"})

    async def send(self, data: bytes) -> None:
        await self._write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def end(self) -> None:
        await self._write(b"0\r\n\r\n")

    async def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.on_status(status)
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Overloaded"
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        await self._write("\r\n".join(lines).encode())

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


async def _read(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str], bytes] | None:
    """Method, target, headers (names in lower case) and body of the next request; None when there is none."""
    line = (await reader.readline()).decode("latin-1").split()
    if len(line) != 3:
        return None
    headers: dict[str, str] = {}
    while row := (await reader.readline()).decode("latin-1").strip():
        name, _, value = row.partition(":")
        headers[name.lower()] = value.strip()
    body = b""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readline()).partition(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return line[0], line[1], headers, body


def _key(target: str, headers: Mapping[str, str]) -> str:
    inline = parse_qs(urlsplit(target).query).get("key", [""])[0]
    bearer = headers.get("authorization", "").removeprefix("Bearer ")
    return headers.get("x-api-key") or headers.get("x-goog-api-key") or bearer or inline


def _lists(path: str, headers: Mapping[str, str]) -> Wire:
    """Whose list of models is asked for."""
    name = "gemini" if "/v1beta/" in path else "anthropic" if "anthropic-version" in headers else "responses"
    return next(wire for wire in WIRES if wire.name == name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", default=KEY)
    options = parser.parse_args()
    with ModelServer(options.key, options.port) as server:
        settings = server.environment | {"ALLOW_PRIVATE_HOSTS": f"127.0.0.1:{server.port}"}
        sys.stdout.write("".join(f"export {name}={value}\n" for name, value in settings.items()))
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
