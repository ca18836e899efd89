"""Whether a folder can be the root file system of sandboxes, found out by really making one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandboxes.errors import SandboxUnavailable
from sandboxes.local import bare, bwrap, system
from sandboxes.local.accounts import Account, closed_at, may_write

_START_S = 30.0
_GIT = "/usr/bin/git"  # the only one that sandboxes use
_FIND_PYTHON = f"""
for python in /usr/bin/python3 /usr/local/bin/python3 /usr/bin/python3.* /usr/local/bin/python3.*; do
    case "$python" in *-config) continue;; esac
    [ -x "$python" ] || continue
    if "$python" -I -S -c 'import sys; sys.exit(sys.version_info < {bwrap.PYTHON_AT_LEAST})' >/dev/null 2>&1; then
        echo "$python"; exit 0
    fi
done
"""


@dataclass(frozen=True)
class Found:
    """What was found in a root file system: a python3 that is new enough (its path there), and git's version."""

    python: str
    git: str


def check(rootfs: Path, *, program: Path, root: Path, account: Account | None) -> Found:
    """Look for what a sandbox needs, in sandboxes made of it; `program` is bwrap, `root` the folder of sandboxes.
    Blocks for some 100 ms. Raises SandboxUnavailable with what is wrong and what to do."""
    if not rootfs.is_absolute() or not rootfs.is_dir():
        raise SandboxUnavailable(f"The root file system {rootfs} for sandboxes is no folder of this machine. Give its absolute path.")
    if account:
        _check_modes(rootfs, account)

    def said(command: list[str]) -> str | None:
        """What it prints; None when it fails."""
        done = bare.run(command, program=program, root=root, account=account, rootfs=rootfs, timeout=_START_S)
        if done.returncode != 0 and done.stderr.startswith("bwrap:"):
            raise SandboxUnavailable(f"{rootfs} is not a root file system that runs here: {done.stderr.strip()}")
        return done.stdout.strip() if done.returncode == 0 else None

    python = said(["/bin/sh", "-c", _FIND_PYTHON])
    if not python:
        needed = ".".join(map(str, bwrap.PYTHON_AT_LEAST))
        raise SandboxUnavailable(f"The root file system {rootfs} has no python3 of version {needed} or newer under /usr. Install it there.")
    git = said(["/bin/sh", "-c", f"[ ! -x {_GIT} ] || {_GIT} --version"])
    if not git:
        raise SandboxUnavailable(f"The root file system {rootfs} has no {_GIT} that works. Install git there.")
    return Found(python, git)


def _check_modes(rootfs: Path, account: Account) -> None:
    if closed := closed_at(rootfs.resolve(), account):
        raise SandboxUnavailable(
            f"The account {account.name}, under which sandboxes run, cannot reach the root file system {rootfs}: "
            f"{closed} is closed to it. Run: chmod o+x {closed}"
        )
    for path in _principal(rootfs):
        if may_write(path, account):
            raise SandboxUnavailable(
                f"The account {account.name}, under which sandboxes run, can write {path}, "
                f"so no sandbox could trust its system. Give the root file system to root and run: chmod o-w {path}"
            )


def _principal(rootfs: Path) -> Iterator[Path]:
    """The folder, what a sandbox sees of its top, and the programs' folders."""
    yield rootfs
    for entry in system.shown_entries(rootfs):
        yield Path(entry.path)
    if (rootfs / "usr").is_dir() and not (rootfs / "usr").is_symlink():
        yield from (Path(entry.path) for entry in system.entries(rootfs / "usr"))
