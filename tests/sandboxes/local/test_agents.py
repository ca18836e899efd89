"""The agents' programs as sandboxes see them: read-only, and able to work there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agents.packages import PACKAGES
from sandboxes.base import SandboxSpec
from tests.installed import installed

pytestmark = pytest.mark.long
Records = Callable[..., Awaitable[list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def agents(data: Path) -> Path:
    """All of them, by a link to a folder that others use as well."""
    link = data / "agents"
    link.symlink_to(installed(*PACKAGES))
    return link


async def lines(house: Any, records: Records, agents: Path, script: str) -> list[str]:
    sandbox = await house.make(SandboxSpec(mirror=house.mirror, agents=agents))
    await sandbox.turn(house.turn(script))
    return [record["line"] for record in await records(sandbox) if record["kind"] in ("out", "err") and record["step"] == "agent"]


@pytest.mark.parametrize("package", PACKAGES.values(), ids=lambda package: package.name)
async def test_each_says_its_version(house: Any, records: Records, agents: Path, package: Any) -> None:
    said = await lines(house, records, agents, f"{package.path} --version")
    assert any(package.version in line for line in said), said


async def test_they_cannot_be_changed_and_hide_no_program_of_the_system(house: Any, records: Records, agents: Path) -> None:
    said = await lines(house, records, agents, "touch /opt/agents/x /opt/agents/claude/x; type node npm || true; echo over")
    assert sum("Read-only file system" in line for line in said) == 2
    assert not any("/opt/agents/node" in line for line in said)
