"""Processes told apart by their id and start time, so that a reused id is never signaled."""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sandboxes.errors import SandboxError


@cache
def boot() -> str:
    """What tells this start of the machine from others: ids and start times begin anew with each."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def started(pid: int) -> int | None:
    """When a living process started (clock ticks since boot); None when it is dead or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()  # the name before may hold anything
    return None if state in "ZXx" else int(fields[18])


@dataclass(frozen=True)
class Process:
    """PID 1 of a sandbox, as the host sees it. When it dies, the kernel kills all that lives in its pid namespace
    before it is gone."""

    pid: int
    started: int
    boot: str

    @classmethod
    def now(cls, pid: int) -> Process | None:
        """The process that has this id now, if it lives."""
        begun = started(pid)
        return None if begun is None else cls(pid, begun, boot())

    @classmethod
    def of_info(cls, info: dict[str, Any]) -> Process | None:
        """The living process that bwrap's --info-fd told of: the same id, and still in the namespace made then."""
        pid = info["child-pid"]
        process = cls.now(pid)
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/pid")
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # dead, or somebody else's
            return None
        return process if namespace == f"pid:[{info['pid-namespace']}]" else None

    def is_alive(self) -> bool:
        return self.boot == boot() and started(self.pid) == self.started

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; False when it still lives after `timeout_s` seconds."""
        return self._until_dead(timeout_s, None)

    def kill(self, timeout_s: float = 15.0) -> None:
        """Kill it and all its sandbox, and wait for that. Dead already is fine."""
        if not self._until_dead(timeout_s, signal.SIGKILL):
            raise SandboxError(f"The sandbox's process {self.pid} does not die; the machine may be out of memory or its disk stuck.")

    def _until_dead(self, timeout_s: float, number: signal.Signals | None) -> bool:
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            # The descriptor is open: from here on the id cannot come to mean another process.
            if not self.is_alive():
                return True
            if number is not None:
                signal.pidfd_send_signal(descriptor, number)
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(timeout_s * 1000))
        except ProcessLookupError:
            return True
        finally:
            os.close(descriptor)
