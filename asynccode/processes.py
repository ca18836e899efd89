"""What we ask the kernel about processes: who belongs to a folder, a session, a port; and how a child dies with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PROC = Path("/proc")
_LISTEN = "0A"


def die_with_parent(sig: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn` after which the child gets `sig` when its parent ends, however it ends.

    The kernel means the parent *thread*: start such children from the main thread only.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up here: the forked child should do as little as possible
    parent = os.getpid()

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
        if os.getppid() != parent:  # it ended in between
            os.kill(os.getpid(), sig)

    return arrange


def pids_in(folder: Path, programs: Collection[str]) -> list[int]:
    """Processes of these programs whose working directory is `folder`: the one sure sign of a server and its children."""
    path = str(folder.resolve())
    return [pid for pid in _pids() if _link(pid, "cwd") == path and _name(pid) in programs]


def pids_of_session(session: int) -> list[int]:
    """Processes of the session that `session` leads or led; zombies are not counted."""
    return [pid for pid in _pids() if (stat := _stat(pid)) and stat[0] != "Z" and int(stat[3]) == session]


def started_at(pid: int) -> str | None:
    """When a process started, in ticks since boot: with the pid, its identity. None when it is gone."""
    stat = _stat(pid)
    return stat[19] if stat else None


def command_line(pid: int) -> str:
    """The command of a process, or an empty string when it is gone."""
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def listener_on(port: int) -> str | None:
    """Who listens on a TCP port, as "name, process 12"; None when that cannot be seen (it is another user's)."""
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for pid in _pids() if inodes else ():
        try:
            if any(os.readlink(fd) in inodes for fd in (_PROC / str(pid) / "fd").iterdir()):
                return f"{_name(pid)}, process {pid}"
        except OSError:  # gone, or not ours to look at
            continue
    return None


def signal_all(pids: Iterable[int], sig: signal.Signals) -> None:
    """Send `sig` to each process that is still there."""
    for pid in pids:
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            continue


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll a condition; whether it became true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir(_PROC) if name.isdigit())


def _link(pid: int, name: str) -> str | None:
    try:
        return os.readlink(_PROC / str(pid) / name)
    except OSError:
        return None


def _name(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (state) on; the second may hold anything, blanks and brackets too."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:  # no IPv6 here
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]
