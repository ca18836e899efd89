"""Backends for the contract's tests, and the few words the tests share. Real sandboxes, each destroyed at the end."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sandboxes.base import Backend, Checkout, Limits, Sandbox, SandboxSpec, Step, TurnSpec
from sandboxes.errors import SandboxGone
from sandboxes.local import accounts
from tests.e2bcloud.process import Cloud
from tests.e2bcloud.real import IS_WANTED, RealCloud

SMALL = Limits(memory_mb=1024, processes=256, disk_mb=2048, file_mb=1024, tmp_mb=64, shm_mb=32)


@pytest.fixture(scope="session")
def data() -> Iterator[Path]:
    """A data folder that the sandboxes' account can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="asynccode-tests-", dir="/var/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def mirror(data: Path) -> tuple[Path, str]:
    """A bare repository with one commit, and that commit's id."""
    plain, bare = data / "plain", data / "mirror.git"
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    who = ["-c", "user.name=alice", "-c", "user.email=alice@example.org", "-c", "commit.gpgsign=false"]

    def git(*argv: str) -> str:
        return subprocess.run(["git", *who, *argv], check=True, capture_output=True, text=True, env=environment).stdout.strip()

    git("init", "--quiet", "--initial-branch=main", str(plain))
    (plain / "README").write_text("hello\n")
    git("-C", str(plain), "add", "README")
    git("-C", str(plain), "commit", "--quiet", "--message=first")
    git("clone", "--quiet", "--bare", str(plain), str(bare))
    subprocess.run(["chmod", "-R", "go+rX", str(bare)], check=True)
    return bare, git("-C", str(bare), "rev-parse", "main")


class House:
    """One backend and the words to use it with."""

    def __init__(self, backend: Backend, script: str, mirror: tuple[Path, str]) -> None:
        self.backend = backend
        self.script = script  # Python that gives another process the same backend, by the name `backend`
        self.mirror, self.base = mirror
        self.keys: list[str] = []
        self.spec = SandboxSpec(mirror=self.mirror, limits=SMALL)

    def key(self) -> str:
        self.keys.append(f"test:{secrets.token_hex(6)}:1")
        return self.keys[-1]

    async def make(self, spec: SandboxSpec | None = None) -> Sandbox:
        return await self.backend.create(self.key(), spec or self.spec)

    def turn(self, script: str | Sequence[str], *, turn: int = 1, kind: type[Step] = Step, **step: Any) -> TurnSpec:
        argv = ["bash", "-c", script] if isinstance(script, str) else list(script)
        checkout = Checkout(base=self.base, branch="asynccode/1", remote="https://example.org/hello.git")
        return TurnSpec(turn=turn, generation=1, checkout=checkout, steps=[kind(name="agent", argv=argv, **step)])

    async def destroy_all(self) -> None:
        for info in await self.backend.list():
            if info.key in self.keys:
                try:
                    sandbox = await self.backend.connect(info.ref)
                except SandboxGone:
                    continue
                await sandbox.destroy()


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud | RealCloud]:
    """A stand-in for E2B's cloud, or in `make test-e2b` the real one."""
    with RealCloud() if IS_WANTED else Cloud.start() as cloud:
        yield cloud


@pytest.fixture(params=["local", "e2b"])
async def house(request: pytest.FixtureRequest, data: Path, mirror: tuple[Path, str]) -> AsyncIterator[House]:
    house = _house(request, data, mirror)
    yield house
    await house.destroy_all()


def _house(request: pytest.FixtureRequest, data: Path, mirror: tuple[Path, str]) -> House:
    if request.param == "e2b":
        options = request.getfixturevalue("cloud").options
        script = (
            "from sandboxes.e2b.account import Account\nfrom sandboxes.e2b.backend import E2BBackend\n"
            f"backend = E2BBackend(Account(**{options!r}), installation='test', timeout_s=300)\n"
        )
    else:
        arguments = {"root": data / "sandboxes", "runtime": data / "runtime"}
        script = (
            "from pathlib import Path, PosixPath\nfrom sandboxes.local.accounts import Account\n"
            "from sandboxes.local.backend import LocalBackend\n"
            f"backend = LocalBackend(**{arguments!r}, account={account()!r})\n"
        )
    names: dict[str, Any] = {}
    exec(script, names)
    return House(names["backend"], script, mirror)


def account() -> accounts.Account | None:
    return accounts.ensure(accounts.SANDBOX_ACCOUNT) if os.geteuid() == 0 else None


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Wait for a condition, at most `seconds`."""

    async def wait(condition: Callable[[], bool | Awaitable[bool]], *, seconds: float = 15.0) -> None:
        async with asyncio.timeout(seconds):
            while True:
                met = condition()
                if met if isinstance(met, bool) else await met:
                    return
                await asyncio.sleep(0.02)

    return wait


@pytest.fixture
def records() -> Callable[..., Awaitable[list[dict[str, Any]]]]:
    """The journal's records up to the one that `is_last` (default: the turn's end), at most `seconds` later."""

    async def read(
        sandbox: Sandbox, *, is_last: Callable[[dict[str, Any]], bool] = lambda record: record["kind"] == "end", seconds: float = 30.0
    ) -> list[dict[str, Any]]:
        rest, found = b"", []
        async with asyncio.timeout(seconds):
            async for chunk in sandbox.journal(0):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    found.append(json.loads(line))
                    if is_last(found[-1]):
                        return found
        raise AssertionError(f"The journal ended without it: {found[-5:]}")

    return read
