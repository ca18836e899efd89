"""The unprivileged accounts that a service started as root runs its parts under."""

from __future__ import annotations

import pwd
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandboxes.errors import SandboxUnavailable

SANDBOX_ACCOUNT = "asynccode-sandbox"


@dataclass(frozen=True)
class Account:
    """An account of this machine; never root."""

    name: str
    uid: int
    gid: int

    def __post_init__(self) -> None:
        if self.uid == 0 or self.gid == 0:
            raise SandboxUnavailable(f"The account {self.name} is root (or in root's group); sandboxes must not run under it.")


def ensure(name: str) -> Account:
    """The system account `name`, made if it is missing. May be called by several processes at once; needs root
    only when it has to be made. Raises SandboxUnavailable when it cannot be."""
    reason = ""
    for pause in (0.1, 0.3, 1.0, 0.0):
        if account := find(name):
            return account
        # Another process may hold the lock on /etc/passwd or make the same account right now: look again.
        reason = _add(name)
        if reason:
            time.sleep(pause)
    if account := find(name):
        return account
    raise SandboxUnavailable(f"The system account {name} could not be made ({reason}). Make it yourself: useradd --system {name}")


def find(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, entry.pw_uid, entry.pw_gid)


def _add(name: str) -> str:
    """Try to make the account; what went wrong, or an empty string."""
    argv = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/false", name]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "useradd is not installed"
    return "" if done.returncode == 0 else done.stderr.strip() or f"useradd ended with {done.returncode}"


def closed_at(folder: Path, account: Account) -> Path | None:
    """The first folder on the way to `folder`, itself included, that the account cannot pass through."""
    for passed in reversed([folder, *folder.parents]):
        if not _may(passed, account, 0o1):
            return passed
    return None


def may_write(path: Path, account: Account) -> bool:
    """Whether the mode of what is there lets the account write; a link's own, which nobody can."""
    return not path.is_symlink() and _may(path, account, 0o2)


def _may(path: Path, account: Account, bit: int) -> bool:
    status = path.stat()
    shift = 6 if status.st_uid == account.uid else 3 if status.st_gid == account.gid else 0
    return bool(status.st_mode & (bit << shift))


def run_as(account: Account | None) -> dict[str, Any]:
    """Arguments for subprocess that run a program under `account`, in none of our groups; None: as we are."""
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
