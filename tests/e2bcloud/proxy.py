"""E2B's proxy: from the headers of a call to the sandbox that is meant, and what may go wrong on the way."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
from typing import Any

from tests.e2bcloud.api import error
from tests.e2bcloud.cloud import Cloud, Refused, Sandbox
from tests.e2bcloud.faults import Fault
from tests.e2bcloud.http1 import LAST_CHUNK, LIMIT, PIECE, Head, Reply, chunk, read_body

ENVD_PORT = 49983
_SPLIT = "x-cloud-split"


class Proxy:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @staticmethod
    def is_meant(head: Head) -> bool:
        return "e2b-sandbox-id" in head.headers or (head.path == "/files" and "signature" in head.query)

    async def serve(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One call; the connection ends with it, so that nothing has to be known of an answer's length."""
        body: bytes | None = None
        if head.path == "/process.Process/Start":
            body = b"".join([piece async for piece in read_body(head, reader)])
        found = await self._find(head, body)
        if isinstance(found, Reply):
            writer.write(found.encode(close=True))
            await writer.drain()
            return
        port = int(head.headers.get("e2b-sandbox-port", ENVD_PORT))
        try:
            if port == ENVD_PORT:
                upstream = await asyncio.open_unix_connection(found.box.socket, limit=LIMIT)
            else:
                upstream = await asyncio.open_connection("127.0.0.1", port, limit=LIMIT)
        except OSError:
            writer.write(_unavailable(found.id, "The sandbox is running but port is not open").encode(close=True))
            return
        found.connections.add(writer)
        try:
            await self._through(head, body, (reader, writer), upstream, found)
        finally:
            found.connections.discard(writer)
            upstream[1].close()

    async def _find(self, head: Head, body: bytes | None) -> Sandbox | Reply:
        """The sandbox, running; or what is said instead."""
        faults, call = self._cloud.faults, f"{head.method} {head.raw_path}"
        sandbox = self._meant(head)
        sandbox_id = sandbox.id if sandbox is not None else head.headers.get("e2b-sandbox-id", "")
        if fault := faults.take("auth", "429", "500", "503", call=call, sandbox=sandbox_id):
            status = 401 if fault.kind == "auth" else int(fault.kind)
            return error(status, fault.args.get("message", "refused by a fault"), fault.args.get("retry_after"))
        if fault := faults.take("delay", call=call, sandbox=sandbox_id):
            await asyncio.sleep(fault.args["seconds"])
        command = _command(body) if body else ""
        if sandbox is not None and faults.take(
            "vanish", call=call, sandbox=sandbox_id, where=lambda args: args.get("text", "\0") in command
        ):
            await self._cloud.kill(sandbox)
        if sandbox is not None and sandbox.state == "paused" and sandbox.auto_resume:
            with contextlib.suppress(Refused):
                await self._cloud.resume(sandbox, {"timeout": sandbox.body.get("timeout", 300)})
        if sandbox is None or sandbox.state != "running":
            return _unavailable(sandbox_id, "The sandbox was not found")
        if "e2b-sandbox-id" in head.headers and head.path != "/health" and head.headers.get("x-access-token") != sandbox.token:
            return error(401, "unauthorized access, please provide a valid access token or method signing if supported")
        return sandbox

    def _meant(self, head: Head) -> Sandbox | None:
        if (sandbox_id := head.headers.get("e2b-sandbox-id")) is not None:
            return self._cloud.sandboxes.get(sandbox_id)
        # A signed address of a file names no sandbox where all have one address: but only one has the key to its signature.
        query = head.query
        operation = "read" if head.method == "GET" else "write"
        for sandbox in self._cloud.sandboxes.values():
            parts = [query.get("path", ""), operation, query.get("username", ""), sandbox.token]
            if "signature_expiration" in query:
                parts.append(query["signature_expiration"])
            digest = base64.b64encode(hashlib.sha256(":".join(parts).encode()).digest()).rstrip(b"=").decode()
            if query["signature"].removeprefix("v1_") == digest:
                return sandbox
        return None

    async def _through(self, head: Head, body: bytes | None, client: Any, upstream: Any, sandbox: Sandbox) -> None:
        faults, call = self._cloud.faults, f"{head.method} {head.raw_path}"
        split = faults.take("split", call=call, sandbox=sandbox.id)
        tap = faults.take("drop_stream", "stall_stream", call=call, sandbox=sandbox.id)
        sent = asyncio.create_task(_send(head, body, split, client[0], upstream[1]))
        given = asyncio.create_task(_give(upstream[0], client[1], tap))
        try:
            await asyncio.wait([sent, given], return_when=asyncio.FIRST_COMPLETED)
        finally:
            sent.cancel()
            given.cancel()
            await asyncio.gather(sent, given, return_exceptions=True)


async def _send(head: Head, body: bytes | None, split: Fault | None, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    """Pass a call on. Returns when its client went away, not before."""
    unwanted = {"connection", _SPLIT} | ({"transfer-encoding", "content-length"} if body is not None else set())
    headers = {name: value for name, value in head.headers.items() if name not in unwanted}
    headers["connection"] = "close"
    if body is not None:
        headers["content-length"] = str(len(body))
    if split is not None:
        headers[_SPLIT] = str(split.args["bytes"])
    lines = [f"{head.method} {head.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    with contextlib.suppress(OSError):  # an answer that comes before the whole body is still to be passed back
        to.write("\r\n".join(lines).encode("latin-1") + (body or b""))
        if body is None:
            async for piece in read_body(head, reader):
                to.write(chunk(piece) if head.is_chunked else piece)
                await to.drain()
            if head.is_chunked:
                to.write(LAST_CHUNK)
        await to.drain()
    with contextlib.suppress(OSError):
        while await reader.read(PIECE):
            pass


async def _give(source: asyncio.StreamReader, writer: asyncio.StreamWriter, tap: Fault | None) -> None:
    """Pass an answer back, until its end or until the fault wants it to end."""
    if tap is not None:
        writer.write(head := await source.readuntil(b"\r\n\r\n"))
        if b"chunked" in head.lower():  # a message of a stream is a chunk; the first one, the start event, is never cut
            size = await source.readuntil(b"\r\n")
            writer.write(size + await source.readexactly(int(size, 16) + 2))
        left = int(tap.args.get("after", 0))
        while left >= 0 and (data := await source.read(PIECE)):
            writer.write(data[:left])
            await writer.drain()
            if len(data) > left:
                break
            left -= len(data)
        if tap.kind == "drop_stream":
            return
        await writer.drain()
        while await source.read(PIECE):  # the command goes on
            pass
        await asyncio.Event().wait()
    while data := await source.read(PIECE):
        writer.write(data)
        await writer.drain()


def _command(body: bytes) -> str:
    """What a Start asks to run; nothing for what cannot be read (the body is one envelope of JSON)."""
    try:
        process = json.loads(body[5:])["process"]
        return " ".join([process.get("cmd", ""), *process.get("args", [])])
    except (ValueError, KeyError):
        return ""


def _unavailable(sandbox_id: str, message: str) -> Reply:
    return Reply(502, {"sandboxId": sandbox_id, "message": message, "code": 502})
