"""The cloud's front, in one process: E2B's API, its proxy to the sandboxes, and a control endpoint for tests.

`python -m tests.e2bcloud.server --root FOLDER` prints the environment that the SDK needs to ask it instead of E2B.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import shutil
import signal
import sys
import time
import traceback
from collections import Counter, deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.e2bcloud.api import Api, error
from tests.e2bcloud.cloud import Cloud, Settings
from tests.e2bcloud.http1 import LIMIT, Head, Reply, read_body, read_head
from tests.e2bcloud.proxy import Proxy

KEY = "e2b_0123456789abcdef0123456789abcdef01234567"
_REMEMBERED = 20_000
_ID = re.compile(r"(?<=/sandboxes/|/templates/)(?!aliases|tags|metrics)[^/]+|(?<=/builds/)[^/]+|(?<=/files/)[^/]+")


class Front:
    """Every connection of the cloud, whichever half it is for: the SDK is given one address for both."""

    def __init__(self, cloud: Cloud, port: int, key: str) -> None:
        self._cloud = cloud
        self._api = Api(cloud, f"http://127.0.0.1:{port}", key)
        self._proxy = Proxy(cloud)
        self._requests: deque[dict[str, Any]] = deque(maxlen=_REMEMBERED)
        self._counts: Counter[str] = Counter()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await read_head(reader):
                if head.path.startswith("/_control/"):
                    content = b"".join([piece async for piece in read_body(head, reader)])
                    reply = await self._control(head, json.loads(content) if content else {})
                elif Proxy.is_meant(head):
                    self._note(head, head.headers.get("e2b-sandbox-id"))
                    await self._proxy.serve(head, reader, writer)
                    return
                else:
                    reply = await self._rest(head, reader)
                writer.write(reply.encode())
                await writer.drain()
        except (OSError, EOFError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()

    async def _rest(self, head: Head, reader: asyncio.StreamReader) -> Reply:
        noted = self._note(head, None)
        if head.method == "PUT" and head.path.startswith("/_upload/"):
            async for _ in read_body(head, reader):
                pass
            self._api.builds.uploaded(head.path.rpartition("/")[2])
            return Reply(200, {})
        content = b"".join([piece async for piece in read_body(head, reader)])
        try:
            reply = self._refusal(head) or await self._api.answer(head, content)
        except Exception as wrong:
            traceback.print_exc()
            reply = error(500, f"{type(wrong).__name__}: {wrong}")
        noted["status"] = reply.status
        return reply

    def _refusal(self, head: Head) -> Reply | None:
        fault = self._cloud.faults.take("auth", "429", "500", "503", call=f"{head.method} {head.raw_path}")
        if fault is None:
            return None
        if fault.kind == "auth":
            return error(401, "Invalid API key")
        message = fault.args.get("message") or ("Rate limit exceeded" if fault.kind == "429" else "Something went wrong here")
        return error(int(fault.kind), message, fault.args.get("retry_after"))

    def _note(self, head: Head, sandbox: str | None) -> dict[str, Any]:
        noted = {"method": head.method, "path": head.raw_path, "at": time.time(), "sandbox": sandbox, "status": None}
        self._requests.append(noted)
        self._counts[f"{head.method} {_ID.sub('*', head.raw_path)}"] += 1
        return noted

    # --- for tests ------------------------------------------------------------------------------------------------------

    async def _control(self, head: Head, body: dict[str, Any]) -> Reply:
        """Outside of E2B's API, and without a key."""
        cloud = self._cloud
        match (head.method, *head.path.strip("/").split("/")[1:]):
            case ("GET", "sandboxes"):
                return Reply(200, [sandbox.control() for sandbox in cloud.sandboxes.values()])
            case ("GET", "requests"):
                return Reply(200, {"requests": list(self._requests), "counts": dict(self._counts)})
            case ("DELETE", "requests"):
                self._requests.clear()
                self._counts.clear()
            case ("GET", "faults"):
                return Reply(200, cloud.faults.listed())
            case ("POST", "faults"):
                try:
                    return Reply(200, asdict(cloud.faults.add(**body)))
                except (KeyError, TypeError, re.error) as wrong:
                    return error(400, f"no such fault: {wrong!r}")
            case ("DELETE", "faults", *number):
                cloud.faults.clear(int(number[0]) if number else None)
            case ("POST", "vanish", sandbox_id):
                if sandbox := cloud.sandboxes.get(sandbox_id):
                    if body.get("after"):
                        cloud.kill_in(sandbox, body["after"])
                    else:
                        await cloud.kill(sandbox)
            case ("GET", "builds"):
                return Reply(200, self._api.builds.listed())
            case ("POST", "templates"):
                cloud.known_templates.add(body["name"])
            case ("POST", "settings"):
                for name, value in body.items():
                    if not hasattr(cloud.settings, name):
                        return error(400, f"no such setting: {name}")
                    setattr(cloud.settings, name, value)
                return Reply(200, asdict(cloud.settings))
            case _:
                return error(404, f"no such control: {head.method} {head.path}")
        return Reply(200, {})


async def _serve(arguments: argparse.Namespace) -> None:
    settings = Settings(arguments.max_life, arguments.concurrency, arguments.creations_per_s)
    root = Path(arguments.root).resolve()
    root.mkdir(parents=True, exist_ok=True)
    for name in _OURS:  # of a cloud that was killed here
        shutil.rmtree(root / name, ignore_errors=True)
    cloud = Cloud(root, settings, tuple(arguments.ro_bind))
    (root / "sandboxes").mkdir(mode=0o711)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    open_now: set[asyncio.Task[Any]] = set()
    front: Front | None = None

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        assert front is not None
        open_now.add(task)
        try:
            await front.connected(reader, writer)
        finally:
            open_now.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", arguments.port, limit=LIMIT, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    front = Front(cloud, port, arguments.api_key)
    url = f"http://127.0.0.1:{port}"
    sys.stdout.write(f"E2B_API_KEY={arguments.api_key}\nE2B_API_URL={url}\nE2B_SANDBOX_URL={url}\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()
    await cloud.close()
    for task in list(open_now):
        task.cancel()
    await asyncio.gather(*open_now, return_exceptions=True)
    await cloud.close()  # of what was just being made
    for name in _OURS:
        with contextlib.suppress(OSError):
            shutil.rmtree(root / name)


_OURS = ("sandboxes", "snapshots", "runtime", "base")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.e2bcloud.server", description=__doc__)
    parser.add_argument("--root", required=True, help="a folder of its own; the sandboxes are below it")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--api-key", default=KEY)
    parser.add_argument("--max-life", type=float, default=24 * 3600.0, help="seconds that a sandbox may run without a pause")
    parser.add_argument("--concurrency", type=int, help="sandboxes that may run at once")
    parser.add_argument("--creations-per-s", type=int)
    parser.add_argument("--ro-bind", action="append", default=[], metavar="HOST:INSIDE", help="a folder for all sandboxes to read")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
