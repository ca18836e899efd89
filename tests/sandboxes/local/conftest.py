"""What is tested here is particular to this machine: no other backend moves into its house."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandboxes.local.backend import LocalBackend
from tests.sandboxes.conftest import House, account


@pytest.fixture
async def house(data: Path, mirror: tuple[Path, str]) -> AsyncIterator[House]:
    house = House(LocalBackend(root=data / "sandboxes", runtime=data / "runtime", account=account()), "", mirror)
    yield house
    await house.destroy_all()
