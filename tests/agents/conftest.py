"""What tests of the room `agents` share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ._broker import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
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
