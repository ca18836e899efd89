"""What a sandbox may use: limits set in each process before it starts, and the sums a watchdog looks at."""

from __future__ import annotations

import os
import resource
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

MIB = 1024 * 1024
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Limits:
    """The launcher's `--limits`: {"memory_mb", "processes", "open_files", "disk_mb", "file_mb", "watch_memory"}; what
    is absent is not limited."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        unknown = set(given) - {"memory_mb", "processes", "open_files", "disk_mb", "file_mb", "watch_memory"}
        if unknown:
            raise ValueError(f"Unknown limits: {', '.join(sorted(unknown))}.")
        self.memory = given["memory_mb"] * MIB if given.get("watch_memory") and given.get("memory_mb") else None
        self.disk = given["disk_mb"] * MIB if given.get("disk_mb") else None
        self._soft_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._wanted = [
            (kind, given[name] * unit)
            for name, kind, unit in (
                ("processes", resource.RLIMIT_NPROC, 1),
                ("open_files", resource.RLIMIT_NOFILE, 1),
                ("file_mb", resource.RLIMIT_FSIZE, MIB),
            )
            if given.get(name)
        ]

    def impose(self) -> None:
        """Limit the calling process and all it will start; called in the child before exec, and again in a child of its own."""
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        soft = self._soft_files if hard == resource.RLIM_INFINITY else min(self._soft_files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for kind, value in [(resource.RLIMIT_CORE, 0), *self._wanted]:
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))


def memory_used(pids: Iterable[int], enough: int) -> int:
    """Bytes of memory the processes hold. The cheap upper bound (resident pages, shared ones counted in each process)
    is returned when it is below `enough`; else the proportional sum. A process that hides counts in full."""
    resident = {}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                resident[pid] = int(file.read().split()[1]) * _PAGE
        except (OSError, IndexError):  # it ended meanwhile
            continue
    total = sum(resident.values())
    return total if total < enough else sum(_proportional(pid, pages) for pid, pages in resident.items())


def _proportional(pid: int, otherwise: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:  # ended, not dumpable, or a kernel without it
        pass
    return otherwise


def disk_used(roots: Iterable[str], seconds: float) -> int:
    """Allocated bytes of all below `roots`: links not followed, other file systems not entered, hard links counted
    once. Gives what it has found after `seconds`."""
    until = time.monotonic() + seconds
    total, linked = 0, set()
    for root in roots:
        try:
            device = os.stat(root).st_dev
        except OSError:
            continue
        waiting = [root]
        while waiting and time.monotonic() < until:
            try:
                with os.scandir(waiting.pop()) as entries:
                    for entry in entries:
                        try:
                            info = entry.stat(follow_symlinks=False)
                        except OSError:  # removed meanwhile
                            continue
                        if info.st_dev != device:
                            continue
                        if stat.S_ISDIR(info.st_mode):
                            waiting.append(entry.path)
                        elif info.st_nlink > 1:
                            if info.st_ino in linked:
                                continue
                            linked.add(info.st_ino)
                        total += info.st_blocks * 512
            except OSError:  # removed meanwhile, or closed to us
                continue
    return total
