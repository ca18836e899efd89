"""A program in a sandbox of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sandboxes.errors import SandboxUnavailable
from sandboxes.local import bare, bwrap
from tests.sandboxes.conftest import account

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def run(data: Path) -> Run:
    (data / "sandboxes").mkdir(mode=0o711, exist_ok=True)

    def run(script: str, *, timeout: float = 30, agents: Path | None = None) -> CompletedProcess[str]:
        program = bwrap.install(data / "runtime")
        command = ["sh", "-c", script]
        return bare.run(command, program=program, root=data / "sandboxes", account=account(), agents=agents, timeout=timeout)

    return run


def test_it_gives_what_was_said_and_the_exit_code(run: Run) -> None:
    done = run("echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_it_sees_the_agents_and_no_network(run: Run, data: Path) -> None:
    agents = data / "bare-agents"
    agents.mkdir(mode=0o755)
    (agents / "greet").write_text("hello")
    done = run("cat /opt/agents/greet; ls /sys/class/net 2>/dev/null; cut -d: -f1 /proc/net/dev | tail -n +3", agents=agents)
    assert done.stdout.split() == ["hello", "lo"]


def test_one_that_does_not_end_is_killed_and_nothing_is_left(run: Run, data: Path) -> None:
    with pytest.raises(SandboxUnavailable, match=r"sh did not end within 0\.5 seconds"):
        run("echo > /home/agent/file; sleep 1000", timeout=0.5)
    assert not list(data.rglob("bare-*/home"))
