"""Real supervisors, driven as the host drives them: the zipapp as a process, its journal, its control socket."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandboxes.inside import frames

PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
PATIENCE_S = 15.0


def until(condition: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """The condition's first true value; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "It did not happen in time."
        time.sleep(0.005)


def processes_with(text: str, *, has_place: bool = False) -> list[int]:
    """The live processes whose command line, or working folder if it `has_place`, holds `text`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            shown = os.readlink(process / "cwd") if has_place else (process / "cmdline").read_bytes().decode(errors="replace")
            if text in shown:
                found.append(int(process.name))
    return found


class Client:
    """One control connection."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        try:
            self.sock.connect(path)
        except OSError:
            self.sock.close()
            raise

    def ask(self, do: str, raw: bytes = b"", **fields: Any) -> tuple[dict[str, Any], bytes]:
        frames.send(self.sock, {"do": do, **fields}, raw)
        return self.reply()

    def reply(self) -> tuple[dict[str, Any], bytes]:
        reply = frames.receive(self.sock)
        return reply, frames.read_exactly(self.sock, frames.raw_size(reply))


class House:
    """A supervisor on folders of its own. `mode` is how it is started: "state", "descriptors", or "init", which is the
    second as PID 1 of a pid namespace."""

    def __init__(self, folder: Path, app: Path, mirror: Path, base: str, mode: str) -> None:
        self.folder, self.app, self.base, self.mode = folder, app, base, mode
        self.workspace, self.home, self.state = folder / "workspace", folder / "home", folder / "state"
        for path in (self.workspace, self.home, self.state):
            path.mkdir()
        self.journal, self.socket = self.state / "journal.jsonl", str(self.state / "control.sock")
        self.flags = {"--workspace": self.workspace, "--home": self.home, "--scratch": folder / "scratch", "--mirror": mirror}
        self.process: subprocess.Popen[bytes] | None = None
        self._clients: list[Client] = []

    def start(self, python: str = PYTHON, **flags: Any) -> House:
        given = {**self.flags, **{f"--{name.replace('_', '-')}": value for name, value in flags.items()}}
        extra = [str(word) for pair in given.items() for word in pair]
        command = [python, "-I", "-S", str(self.app)]
        log = (self.folder / "log").open("ab")
        if self.mode == "state":
            self.process = subprocess.Popen([*command, "--state", str(self.state), *extra], stderr=log)
        else:
            if self.mode == "init":
                command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", *command]
            journal = os.open(self.journal, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            Path(self.socket).unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(self.socket)
                listener.listen(64)
                fds = (journal, listener.fileno())
                words = ["--journal-fd", str(journal), "--control-fd", str(listener.fileno()), *extra]
                self.process = subprocess.Popen([*command, *words], pass_fds=fds, stderr=log)
            os.close(journal)
        log.close()
        until(lambda: self.answers() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log()
        return self

    def answers(self) -> bool:
        try:
            return bool(self.ask("ping")["ok"])
        except (OSError, EOFError):
            return False

    def client(self) -> Client:
        client = Client(self.socket)
        self._clients.append(client)
        return client

    def ask(self, do: str, raw: bytes = b"", **fields: Any) -> dict[str, Any]:
        """One request on a connection of its own; its reply, with what came after it as "raw"."""
        client = Client(self.socket)
        try:
            reply, data = client.ask(do, raw, **fields)
        finally:
            client.sock.close()
        return {**reply, "raw": data} if data else reply

    def spec(self, *steps: dict[str, Any] | str, turn: int = 1, **fields: Any) -> dict[str, Any]:
        plain = {"env": {}, "files": {}, "cwd": str(self.workspace), "total_s": 60.0, "silence_s": None}
        made = [{"name": f"step{n}", **plain, **(shell(step) if isinstance(step, str) else step)} for n, step in enumerate(steps)]
        return {
            "turn": turn,
            "generation": 1,
            "checkout": {"base": self.base, "branch": "work", "remote": "https://example.org/x", "patch": None, "total_s": 60.0},
            "steps": made,
            "max_file_bytes": 10 * 1024 * 1024,
            "max_patch_bytes": 200 * 1024 * 1024,
            "checkpoint_s": 30.0,
            "term_grace_s": 0.3,
            **fields,
        }

    def turn(self, *steps: dict[str, Any] | str, turn: int = 1, **fields: Any) -> dict[str, Any]:
        """Start a turn of shell scripts, or of steps given by what differs from the plain one."""
        return self.ask("turn", spec=self.spec(*steps, turn=turn, **fields))

    def run(self, *steps: dict[str, Any] | str, turn: int = 1, **fields: Any) -> dict[str, Any]:
        """A turn from its start to its end record, which is given."""
        assert self.turn(*steps, turn=turn, **fields) == {"ok": True, "is_new": True}
        return self.end(turn)

    def end(self, turn: int = 1) -> dict[str, Any]:
        return self.wait("end", turn=turn)

    def wait(self, kind: str, **fields: Any) -> dict[str, Any]:
        return until(lambda: self.records(kind, **fields))[0]

    def wait_step(self, name: str = "step0") -> None:
        self.wait("step", step=name, state="started")

    def records(self, kind: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        """The journal's whole records, those that match."""
        content = self.journal.read_bytes() if self.journal.exists() else b""
        found = []
        for line in content.split(b"\n")[:-1]:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        wanted = fields if kind is None else {"kind": kind, **fields}
        return [record for record in found if all(record.get(name) == value for name, value in wanted.items())]

    def lines(self, kind: str = "out", step: str = "step0") -> list[str]:
        return [record["line"] for record in self.records(kind, step=step)]

    def patch(self, kind: str = "final", turn: int = 1) -> bytes:
        reply = self.ask("patch", turn=turn, kind=kind)
        assert reply["ok"], reply
        return reply.get("raw", b"")

    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def pid(self) -> int:
        """The supervisor's process id out here."""
        if self.mode != "init":
            return self.process.pid
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])

    def kill(self) -> None:
        """As a power cut would. Whatever it left behind is killed too."""
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        self.clean()

    def clean(self) -> None:
        for client in self._clients:
            client.sock.close()
        self._clients = []
        for pid in {*processes_with(str(self.folder)), *processes_with(str(self.folder), has_place=True)}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            try:
                self.ask("shutdown")
                self.process.wait(PATIENCE_S)
            except (OSError, EOFError, subprocess.TimeoutExpired):
                self.kill()
        self.clean()

    def prlimit(self, kind: int, soft: int) -> None:
        resource.prlimit(self.pid, kind, (soft, resource.RLIM_INFINITY))


def shell(script: str, **fields: Any) -> dict[str, Any]:
    return {"argv": ["bash", "-c", script], **fields}


def git(folder: Path, *words: str) -> str:
    settings = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "PATH": os.environ["PATH"]}
    identity = {f"GIT_{who}_{what}": "tester@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(["git", *words], cwd=folder, env={**settings, **identity}, check=True, capture_output=True, text=True)
    return done.stdout.strip()
