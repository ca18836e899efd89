"""envd inside a sandbox: its init, on a socket that only the cloud's front knows.

Told once what to be, as JSON on standard input: {"socket": PATH, "environment": {...}}. Says "ready" when it listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import types
from pathlib import Path
from typing import Any

from tests.e2bcloud.http1 import LIMIT, read_head, run_asgi


def _bypass() -> None:
    """`import e2b` takes most of a second for a client that is not wanted here; only its generated envd classes are."""
    for name in ("e2b", "e2b.envd"):
        found = next(place for folder in sys.path if (place := Path(folder, *name.split("."))).is_dir())
        module = types.ModuleType(name)
        module.__path__ = [str(found)]
        sys.modules[name] = module


async def _serve(told: dict[str, Any]) -> None:
    from e2b.envd.filesystem.filesystem_connect import FilesystemASGIApplication
    from e2b.envd.process.process_connect import ProcessASGIApplication

    from tests.e2bcloud.filesystem import Files, Filesystem, reply
    from tests.e2bcloud.processes import Processes

    environment = {"E2B_SANDBOX": "true", **told["environment"]}
    services: Any = (Processes(environment), Filesystem())  # they lack `desc`, which nobody asks for
    routes: dict[str, Any] = {
        "process.Process": ProcessASGIApplication(services[0]),
        "filesystem.Filesystem": FilesystemASGIApplication(services[1]),
        "files": Files(),
    }

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        match scope["path"]:
            case "/health":
                await send({"type": "http.response.start", "status": 204, "headers": [(b"content-length", b"0")]})
                await send({"type": "http.response.body", "body": b""})
            case "/envs":
                await reply(send, 200, environment)
            case "/metrics":
                await reply(send, 200, _metrics())
            case _:
                await reply(send, 404, {"code": 404, "message": "404 page not found"})

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if head := await read_head(reader):
                await run_asgi(routes.get(head.path.split("/")[1], plain), head, reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()

    with contextlib.suppress(FileNotFoundError):
        os.unlink(told["socket"])
    server = await asyncio.start_unix_server(connected, told["socket"], limit=LIMIT, backlog=1024)
    os.write(1, b"ready\n")
    os.close(1)
    os.dup2(2, 1)
    await server.serve_forever()


def _metrics() -> dict[str, Any]:
    disk = shutil.disk_usage("/")
    memory = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in Path("/proc/meminfo").read_text().splitlines()}
    total, available = memory["MemTotal"], memory["MemAvailable"]
    return {
        "ts": int(os.stat("/proc/self").st_mtime),
        "cpu_count": os.cpu_count(),
        "cpu_used_pct": 0.0,
        "mem_total": total,
        "mem_used": total - available,
        "disk_used": disk.used,
        "disk_total": disk.total,
    }


def main() -> None:
    told = json.loads(sys.stdin.readline())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.umask(0o022)
    _bypass()
    asyncio.run(_serve(told))
