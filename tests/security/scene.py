"""The stage: a real sandbox with its gateway, a second one beside it, and a host with something to steal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sandboxes.base import Checkout, Limits, NetworkMode, NetworkPolicy, SandboxSpec, Step, TurnSpec
from sandboxes.errors import SandboxError
from sandboxes.gateway import Gateway
from sandboxes.local import bwrap
from sandboxes.local.accounts import SANDBOX_ACCOUNT, ensure, run_as
from sandboxes.local.backend import LocalBackend, LocalSandbox

ATTEMPTS = Path(__file__).with_name("attempts.py")
CHECKOUT = Path(__file__).parents[2]
MARK = f"secret-{secrets.token_hex(8)}"
FORGED = json.dumps({"n": 1000000, "t": 0, "kind": "end", "turn": 1, "reason": "exit", "code": 0, "forged": True})
LIMITS = Limits(memory_mb=256, processes=64, disk_mb=1024, file_mb=32, tmp_mb=16, shm_mb=8)

_STAND_IN = "import sys, time\nfile = open(sys.argv[1], 'a')\nprint('ready', flush=True)\ntime.sleep(600)"
_ASK, _ANSWER = "PING\r\n", "+PONG"


class Scene:
    """What the probes' targets are taken from. Made by `scene()`."""

    def __init__(self, data: Path, backend: LocalBackend, sandbox: LocalSandbox, other: LocalSandbox, mirror: Path, base: str) -> None:
        self.data, self.backend, self.sandbox, self.other, self.base = data, backend, sandbox, other, base
        self.is_root = os.geteuid() == 0
        self.limits = LIMITS
        self.control_socket = str(sandbox.folder.control)
        self.gateway_folder = str(sandbox.folder.path / "gateway")
        self.mirror_config = str(mirror / "config")
        self.other_mark = f"other-{secrets.token_hex(8)}"
        self.other_workspace = str(other.folder.path / "workspace")
        self.other_file = f"{self.other_workspace}/theirs"
        self.data_file = str(data / "credentials")
        self.home = str(Path.home())
        self.checkout_file = str(CHECKOUT / "pyproject.toml")
        self.shadow = {"path": "/etc/shadow", "mark": "root:"} if self.is_root else {"path": self.data_file, "mark": MARK}
        self.redis_unix = self._unix("valkey.sock")
        self.postgres_unix = self._unix(".s.PGSQL.5432")
        self.abstract = self._unix("@asynccode-" + secrets.token_hex(8))
        self.redis_tcp: dict[str, Any] = {}
        self.postgres_tcp: dict[str, Any] = {}
        self.ipv6: dict[str, Any] = {}
        self._turn = 0
        self._read = 0
        self._pid = sandbox.record["pid"]
        self._stand_ins: list[subprocess.Popen[bytes]] = []

    # What happens inside

    async def attempt(self, name: str, targets: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
        """Run an attempt as a turn's step, as an agent would: the records, and what it said last."""
        self._turn += 1
        step = Step(name="agent", argv=["python3", "-I", "/home/agent/attempts.py", name, json.dumps(targets)], total_s=60)
        checkout = Checkout(base=self.base, branch="probe", remote="https://example.org/probe.git")
        await self.sandbox.turn(TurnSpec(turn=self._turn, generation=1, checkout=checkout, steps=[step]))
        rest, records = b"", []
        async with asyncio.timeout(90):
            async for chunk in self.sandbox.journal(self._read):
                self._read += len(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                records += [json.loads(line) for line in lines if line]
                if any(record["kind"] == "end" and record["turn"] == self._turn and "forged" not in record for record in records):
                    break
        said = [record["line"] for record in records if record["kind"] == "out" and record["line"].startswith(("WORKED", "REFUSED"))]
        return records, said[-1] if said else ""

    async def is_whole(self) -> bool:
        """The sandbox still runs, and it is the same."""
        return await self.sandbox.alive() and self.sandbox.record["pid"] == self._pid

    async def journal_is_forged(self) -> bool:
        numbers = []
        for line in self.sandbox.folder.journal.read_bytes().splitlines():
            record = json.loads(line)
            numbers.append(record["n"])
            if record.get("forged"):
                return True
        return numbers != list(range(1, len(numbers) + 1))

    async def link_leads_out(self) -> bool:
        """Whether get and put through the agent's links read or change the host's files."""
        before = Path(self.data_file).read_bytes()
        for name in ("out", "out-data", "out-far"):
            with contextlib.suppress(SandboxError):
                content = await self.sandbox.get(f"/workspace/{name}")
                if self.other_mark.encode() in content or MARK.encode() in content:
                    return True
            with contextlib.suppress(SandboxError):
                await self.sandbox.put(f"/workspace/{name}", b"changed")
        return Path(self.data_file).read_bytes() != before or self.other_mark not in Path(self.other_file).read_text()

    def links_out(self) -> dict[str, Any]:
        return {"path": "/workspace/out", "mark": self.other_mark}

    def link_target(self) -> dict[str, Any]:
        return {"path": str(self.sandbox.folder.path / "workspace" / "out"), "mark": self.other_mark}

    # What stands outside

    def stand_in(self, journal: str | None = None) -> int:
        """A process under the sandboxes' account, with a secret in its environment and a file held open: its id."""
        argv = [bwrap.python(), "-I", "-S", "-c", _STAND_IN, journal or "/dev/null"]
        environment = {"SECRET": MARK}
        process = subprocess.Popen(
            argv, env=environment, cwd="/", stdout=subprocess.PIPE, start_new_session=True, **run_as(self.backend.account)
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        self._stand_ins.append(process)
        return process.pid

    def far_pid(self) -> int:
        return self._stand_ins[0].pid if self._stand_ins and self._stand_ins[0].poll() is None else self.stand_in()

    def marked_environment(self) -> str:
        self.far_pid()
        return MARK

    def own_folder(self) -> str:
        """A folder that belongs to the account."""
        folder = self.data / "account"
        if not folder.exists():
            folder.mkdir(mode=0o700)
            if self.backend.account:
                os.chown(folder, self.backend.account.uid, self.backend.account.gid)
        return str(folder)

    def own_file(self, name: str) -> str:
        path = Path(self.own_folder(), name)
        path.touch(mode=0o600)
        if self.backend.account:
            os.chown(path, self.backend.account.uid, self.backend.account.gid)
        return str(path)

    def own_journal(self) -> str:
        return Path(self.own_file("own-journal.jsonl")).name

    def held_journal(self) -> str:
        self.stand_in(self.own_file("held-journal.jsonl"))
        return "held-journal.jsonl"

    def writable(self, folder: str) -> str:
        return folder if self.is_root else self.own_folder()

    def kernel_file(self, path: str) -> str:
        return path if self.is_root else "/proc/self/comm"

    def disks(self, *, is_control: bool = False) -> list[str]:
        found = [str(path) for path in Path("/dev").iterdir() if stat.S_ISBLK(path.lstat().st_mode)]
        return found if self.is_root and found else ["/dev/zero"] if is_control else found or ["/dev/sda", "/dev/vda", "/dev/nvme0n1"]

    # Setting up and clearing away

    def _unix(self, name: str) -> dict[str, Any]:
        return {"path": name if name.startswith("@") else str(self.data / name), "message": _ASK, "answer": _ANSWER}

    async def set_up(self, stack: contextlib.AsyncExitStack) -> None:
        stack.callback(self._end_stand_ins)
        Path(self.data_file).write_text(MARK)
        Path(self.data_file).chmod(0o600)
        for where in (self.redis_unix, self.postgres_unix, self.abstract):
            path = where["path"]
            server = await asyncio.start_unix_server(_answer, "\0" + path[1:] if path.startswith("@") else path)
            stack.callback(server.close)
            if not path.startswith("@"):
                os.chmod(path, 0o777)
        self.redis_tcp = await self._tcp(stack, "127.0.0.1")
        self.postgres_tcp = await self._tcp(stack, "127.0.0.1")
        self.ipv6 = await self._tcp(stack, "::1" if _has_ipv6() else "127.0.0.1")
        gateway = asyncio.create_task(Gateway(self.backend.root, on_attempt=lambda key, attempt: None).serve())
        stack.push_async_callback(_end, gateway)
        while not Path(self.gateway_folder, "gateway.sock").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await self.sandbox.put("/home/agent/attempts.py", ATTEMPTS.read_bytes())
        await self.other.put("/workspace/theirs", self.other_mark.encode())
        await self.attempt("capabilities", {})  # makes the workspace
        for name, target in (("out", self.other_file), ("out-data", self.data_file), ("out-far", "../../.." + self.data_file)):
            await self.sandbox.run(["ln", "-s", target, f"/workspace/{name}"], timeout=10)

    async def _tcp(self, stack: contextlib.AsyncExitStack, host: str) -> dict[str, Any]:
        server = await asyncio.start_server(_answer, host, 0)
        stack.callback(server.close)
        return {"host": host, "port": server.sockets[0].getsockname()[1], "message": _ASK, "answer": _ANSWER}

    def _end_stand_ins(self) -> None:
        for process in self._stand_ins:
            process.kill()
            process.communicate()


@contextlib.asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    account = ensure(SANDBOX_ACCOUNT) if os.geteuid() == 0 else None
    data = Path(tempfile.mkdtemp(prefix="asynccode-security-", dir="/var/tmp"))
    data.chmod(0o711)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, data)
        mirror, base = _mirror(data)
        backend = LocalBackend(root=data / "sandboxes", runtime=data / "runtime", account=account)
        spec = SandboxSpec(mirror=mirror, network=NetworkPolicy(NetworkMode.PUBLIC), limits=LIMITS)
        first = await backend.create("security:0:1", spec)
        prepared = await first.keep()
        stack.push_async_callback(backend.discard, prepared)
        await first.destroy()
        spec = replace(spec, prepared=prepared)  # both stand on the same
        made = []
        for number in (1, 2):
            sandbox = await backend.create(f"security:{number}:1", spec)
            stack.push_async_callback(sandbox.destroy)
            made.append(sandbox)
        stage = Scene(data, backend, made[0], made[1], mirror, base)
        await stage.set_up(stack)
        yield stage


def _mirror(data: Path) -> tuple[Path, str]:
    bare = data / "mirror.git"
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}

    def git(*argv: str, given: str = "") -> str:
        who = ("-c", "user.name=alice", "-c", "user.email=alice@example.org")
        return subprocess.run(["git", *who, *argv], input=given, check=True, capture_output=True, text=True, env=environment).stdout.strip()

    git("init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    tree = git("-C", str(bare), "mktree")
    base = git("-C", str(bare), "commit-tree", tree, "-m", "first")
    git("-C", str(bare), "update-ref", "refs/heads/main", base)
    subprocess.run(["chmod", "-R", "go+rX", str(bare)], check=True)
    return bare, base


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if await reader.read(100) == _ASK.encode():
        writer.write(_ANSWER.encode())
    writer.close()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as any_socket:
            any_socket.bind(("::1", 0))
    except OSError:
        return False
    return True


__all__ = ["ATTEMPTS", "FORGED", "MARK", "Scene", "scene"]
