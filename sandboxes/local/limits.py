"""Memory, process and cpu limits by cgroups, where this machine has them and lets us.

`find()` looks once, at the service's start, and really tries: a group is made and a process moved in. What is not to
be had by cgroup is left to the supervisor's watchdog (memory) and to rlimits (processes).
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sandboxes.base import Limits

PARENT = "asynccode"
CONTROLLERS = ("memory", "pids", "cpu")
_MIB = 1024 * 1024
_SPARE_PROCESSES = 16  # the supervisor's own threads and git


@dataclass(frozen=True)
class Cgroups:
    """Where groups for sandboxes can be made: controller → (version, folder). Empty where nowhere."""

    parents: Mapping[str, tuple[int, Path]] = field(default_factory=dict)

    def describe(self) -> dict[str, str]:
        """By what means each limit holds, as `Sandbox.record` shows it."""
        by = {controller: f"cgroup v{version}" for controller, (version, _) in self.parents.items()}
        return {
            "memory": by.get("memory", "watchdog"),
            "processes": by.get("pids", "rlimit"),
            "cpu": by.get("cpu", "nice"),
            "disk": "watchdog",
        }

    def make(self, name: str, limits: Limits) -> list[Path]:
        """The groups of one sandbox, with its limits set. A second time is fine. Raises OSError."""
        folders = []
        for controller, (version, parent) in self.parents.items():
            folder = parent / name
            folder.mkdir(exist_ok=True)
            for setting, value in _settings(controller, version, limits):
                _set(folder / setting, value)
            folders.append(folder)
        return list(dict.fromkeys(folders))

    def folders(self, name: str) -> list[Path]:
        return list(dict.fromkeys(parent / name for _, parent in self.parents.values()))


def enter(folders: list[Path], pid: int) -> None:
    """Move a process, with all its threads, into groups; what it starts from now on is in them too."""
    for folder in folders:
        (folder / "cgroup.procs").write_text(str(pid))


def remove(folders: list[Path], *, timeout_s: float = 5.0) -> None:
    """Remove groups whose processes were killed; missing ones are fine. Raises OSError when they stay busy."""
    deadline = time.monotonic() + timeout_s
    for folder in folders:
        while True:
            try:
                folder.rmdir()
            except FileNotFoundError:
                break
            except OSError as error:  # the kernel needs a moment after the last process died
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
            else:
                break


def find(mounts: Path = Path("/proc/self/mounts"), own: Path = Path("/proc/self/cgroup")) -> Cgroups:
    """Where this process may make groups that really limit. Costs some 20 ms; call it once."""
    parents: dict[str, tuple[int, Path]] = {}
    trees: list[dict[str, tuple[int, Path]]] = []
    for version, above, controllers in _candidates(mounts.read_text(), own.read_text()):
        found = {controller: (version, above / PARENT) for controller in controllers if _works(controller, version, above)}
        if version == 1:
            parents = found | parents
        else:
            trees.append(found)
    # A process is in one group of version 2 only: the place with the most controllers, the nearest of equals.
    return Cgroups(max(trees, key=len, default={}) | parents)


def _candidates(mounts: str, own: str) -> Iterator[tuple[int, Path, list[str]]]:
    """Folders to try, best first: version, folder, controllers."""
    own_v2 = next((line[3:] for line in own.splitlines() if line.startswith("0::")), "/")
    for line in mounts.splitlines():
        _, mount, kind, options, *_ = line.split()
        if kind == "cgroup2":
            # Not our own group: it holds processes, and then cannot hand controllers down (but the root can).
            # Its ancestors, nearest first: so a restart of our service does not take sandboxes along.
            for ancestor in Path(own_v2).parents if own_v2 != "/" else [Path("/")]:
                yield 2, Path(mount) / ancestor.relative_to("/"), list(CONTROLLERS)
        elif kind == "cgroup" and (controllers := [name for name in CONTROLLERS if name in options.split(",")]):
            yield 1, Path(mount), controllers


def _works(controller: str, version: int, above: Path) -> bool:
    """Whether a group with `controller` can be made below `above` and a process moved in."""
    parent = above / PARENT
    trial = parent / f"trial-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        try:
            if version == 2:
                if controller not in (above / "cgroup.controllers").read_text().split():
                    return False
                if controller not in (above / "cgroup.subtree_control").read_text().split():
                    (above / "cgroup.subtree_control").write_text(f"+{controller}")
            parent.mkdir(exist_ok=True)
            if version == 2:
                (parent / "cgroup.subtree_control").write_text(f"+{controller}")
            trial.mkdir(exist_ok=True)
            stack.callback(remove, [trial])
            for setting, value in _settings(controller, version, Limits()):
                _set(trial / setting, value)
            with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as probe:  # ends when its input is closed
                enter([trial], probe.pid)
        except OSError:  # read-only, not ours, busy or without the controller: the answer is no
            return False
        return True


def _settings(controller: str, version: int, limits: Limits) -> list[tuple[str, int]]:
    memory = limits.memory_mb * _MIB
    processes = limits.processes + _SPARE_PROCESSES
    return {
        ("memory", 1): [("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", memory)],
        ("memory", 2): [("memory.max", memory), ("memory.swap.max", 0)],
        ("pids", 1): [("pids.max", processes)],
        ("pids", 2): [("pids.max", processes)],
        ("cpu", 1): [("cpu.shares", max(2, limits.cpu_weight * 1024 // 100))],
        ("cpu", 2): [("cpu.weight", limits.cpu_weight)],
    }[controller, version]


def _set(setting: Path, value: int) -> None:
    """Write a limit; one about swap may be missing where the kernel does not count swap."""
    if setting.exists() or "sw" not in setting.name:
        setting.write_text(str(value))
