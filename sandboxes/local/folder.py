"""The folder of one sandbox: what lies where, and how it comes and goes.

    state/       ours alone: spec.json, record.json, journal.jsonl, control.sock, boot.log, info-*.json (from bwrap),
                 patch (the last one of a turn that a pause ended)
    gateway/     ours; the gateway puts its socket there; read-only inside
    workspace/ home/ scratch/     the sandbox's own; the host never opens a path in them
    overlay/     two folders for the kernel, where the sandbox stands on a prepared environment: then workspace and home
                 hold what it changes of that

A folder appears whole, by a rename from .moving/, and vanishes by one to there; what a crash left in it is swept.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from sandboxes.base import Limits, SandboxSpec
from sandboxes.errors import SandboxError, SandboxGone
from sandboxes.local import bwrap
from sandboxes.local.accounts import Account, run_as
from sandboxes.local.processes import boot

_REF = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,200}")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_:-]{0,95}")
_KEPT = ("workspace", "home")
_INSIDE = (*_KEPT, "scratch", "overlay")
_MOVING = ".moving"
_STALE_S = 3600.0


def ref_of(key: str) -> str:
    """The folder's name for a key: the key itself where that is a safe name, else a likeness and a hash."""
    if _PLAIN_KEY.fullmatch(key):
        return key.replace(":", ".")
    return re.sub(r"[^A-Za-z0-9_-]", "_", key)[:80] + "-" + hashlib.sha256(key.encode()).hexdigest()[:20]


class Folder:
    """One sandbox's folder below the backend's root. Every read raises SandboxGone when it does not exist."""

    def __init__(self, root: Path, ref: str) -> None:
        if not _REF.fullmatch(ref):
            raise SandboxGone(f"{ref!r} is not a reference to a local sandbox.")
        self.ref = ref
        self.root = root
        self.path = root / ref
        self.state = self.path / "state"
        self.journal = self.state / "journal.jsonl"
        self.control = self.state / "control.sock"
        self.log = self.state / "boot.log"

    def make(self, key: str, spec: SandboxSpec, account: Account | None) -> None:
        """Make it with all that lies in it; where it exists, leave it as it is."""
        if self.path.exists():
            return
        made = moving(self.root) / f"new-{secrets.token_hex(8)}"
        made.mkdir()
        made.chmod(0o711)  # the account passes through to what is its own
        for name, mode in {"state": 0o700, "gateway": 0o755, **dict.fromkeys(_INSIDE, 0o700)}.items():
            (made / name).mkdir()
            (made / name).chmod(mode)
            if account and name in _INSIDE:
                os.chown(made / name, account.uid, account.gid)
        for name in _KEPT:
            (made / "overlay" / name).mkdir(mode=0o700)
            if account:
                os.chown(made / "overlay" / name, account.uid, account.gid)
        os.close(os.open(made / "state" / "journal.jsonl", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _write_json(made / "state" / "spec.json", {"key": key, **asdict(spec)})
        try:
            made.rename(self.path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            delete(made, account)  # somebody else's came first

    @cached_property
    def _spec(self) -> dict[str, Any]:
        """As it was written; a sandbox made by an older version of ours knows no `template` and no `prepared`."""
        return self._read_json("spec.json")

    @property
    def key(self) -> str:
        return str(self._spec["key"])

    @property
    def limits(self) -> Limits:
        return Limits(**self._spec["limits"])

    @property
    def rootfs(self) -> Path | None:
        return Path(template) if (template := self._spec.get("template")) else None

    @property
    def prepared(self) -> str:
        """The reference of the prepared environment it began with, or ""."""
        return str(self._spec.get("prepared", ""))

    def folders(self, prepared: Path | None) -> bwrap.Folders:
        """`prepared` is what workspace and home are laid over, if anything."""
        mirror, agents = (Path(path) if (path := self._spec[name]) else None for name in ("mirror", "agents"))
        workspace, home, scratch, overlay, gateway = (self.path / name for name in (*_INSIDE, "gateway"))
        return bwrap.Folders(workspace, home, scratch, gateway, mirror, agents, self.rootfs, prepared, overlay)

    def read_record(self) -> dict[str, Any]:
        return self._read_json("record.json") if (self.state / "record.json").exists() else {}

    def write_record(self, record: dict[str, Any]) -> None:
        _write_json(self.state / "record.json", record)

    def keep_patch(self, told: dict[str, Any], content: bytes) -> None:
        """Keep the last patch of a sandbox that stops, beside what was told of it: {turn, sha256, left_out}."""
        _write(self.state / "patch", json.dumps(told).encode() + b"\n" + content)

    def kept_patch(self) -> tuple[dict[str, Any], bytes] | None:
        try:
            told, _, content = (self.state / "patch").read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        return json.loads(told), content

    def infos(self) -> Iterator[dict[str, Any]]:
        """What bwrap said of each start since the last stop (or the machine's start); one that came to nothing said nothing."""
        for path in self.state.glob(f"info-{boot()}-*.json"):
            if text := path.read_text():
                yield json.loads(text)

    def new_info(self) -> int:
        """A descriptor of a new file for bwrap's --info-fd. The caller closes it."""
        return os.open(
            self.state / f"info-{boot()}-{secrets.token_hex(4)}.json", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600
        )

    def forget_start(self) -> None:
        """Remove what only means something while the sandbox runs."""
        for path in [*self.state.glob("info-*.json"), self.control]:
            path.unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Alone among all processes in starting, pausing and deleting this sandbox. The kernel drops the lock of a
        process that dies."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise SandboxGone(f"The sandbox {self.ref} does not exist any more.") from None
        try:
            while not _try_lock(descriptor):  # noqa: ASYNC110 - another process holds it: there is nothing to wait on
                await asyncio.sleep(0.02)
            if not self.path.exists() or not os.path.samestat(os.fstat(descriptor), self.path.stat()):
                raise SandboxGone(f"The sandbox {self.ref} was destroyed meanwhile.")
            yield
        finally:
            os.close(descriptor)

    def delete(self, account: Account | None) -> None:
        """Make it vanish, then delete all that was in it. Only when nothing runs in it any more."""
        gone = moving(self.root) / f"gone-{secrets.token_hex(8)}"
        self.path.rename(gone)
        delete(gone, account)

    def take_out(self, made: Path) -> None:
        """Move workspace and home, as they are, into an empty folder on the same disk. Only when nothing runs in it any
        more; afterwards it can only be deleted."""
        for name in _KEPT:
            (self.path / name).rename(made / name)

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self.state / name).read_text())
        except FileNotFoundError:
            raise SandboxGone(f"The sandbox {self.ref} does not exist any more.") from None
        return content


def refs(root: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(root) if _REF.fullmatch(entry.name))


def sweep(root: Path, account: Account | None) -> None:
    """Delete what crashed creations and deletions left behind, once it is old enough to be nobody's work."""
    for entry in os.scandir(moving(root)):
        with contextlib.suppress(FileNotFoundError):  # another process deletes it right now
            if time.time() - entry.stat(follow_symlinks=False).st_ctime > _STALE_S:
                delete(Path(entry.path), account)


def moving(root: Path) -> Path:
    """Where folders are made and deleted: on the same disk, and nobody looks for sandboxes there."""
    folder = root / _MOVING
    if not folder.exists():
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)
    return folder


def delete(path: Path, account: Account | None) -> None:
    """Delete a sandbox's folder, or what was kept of one. What the agent wrote is deleted as its account and by programs
    that follow no links; modes that forbid even that are lifted first. Missing is fine."""
    inside = [str(path / name) for name in _INSIDE]
    script = 'rm -rf -- "$@" 2>/dev/null || { chmod -R u+rwX -- "$@" 2>/dev/null; rm -rf -- "$@" 2>/dev/null; }'
    argv, environment = ["/bin/sh", "-c", script, "sh", *inside], {"PATH": bwrap.PATH}
    subprocess.run(argv, stdin=subprocess.DEVNULL, cwd="/", check=False, env=environment, **run_as(account))
    try:
        for folder in inside:  # empty now; the account may not remove them from a folder of ours
            if os.path.lexists(folder):
                os.rmdir(folder)
        for name in ("state", "gateway"):
            if (path / name).exists():
                for file in os.scandir(path / name):
                    os.unlink(file)
                (path / name).rmdir()
        path.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        raise SandboxError(f"The sandbox's files in {path} could not be deleted: {error.strerror}.") from error


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write(path, json.dumps(content, default=str).encode())


def _write(path: Path, content: bytes) -> None:
    """Write it whole or not at all."""
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(content)
    new.rename(path)
