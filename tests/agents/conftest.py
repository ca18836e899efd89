"""What tests of the room `agents` share."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ._broker import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="broker-", dir="/tmp") as root:  # short: the paths of sockets must be
        async with _world(Path(root)) as world:
            yield world


@contextlib.asynccontextmanager
async def _world(root: Path) -> AsyncIterator[World]:
    world = World(root)
    folder = world.root / "box"
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "spec.json").write_text(json.dumps({"key": "i:2:1", "network": {"mode": "none", "hosts": []}}))
    (folder / "gateway").mkdir()
    server = await asyncio.start_server(world.provider, "127.0.0.1", 0)
    world.port = server.sockets[0].getsockname()[1]
    world.allowed = [f"127.0.0.1:{world.port}"]
    async with world.stack:
        yield world
    server.close()
