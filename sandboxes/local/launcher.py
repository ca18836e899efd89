"""Starts one bubblewrap so that nothing of ours takes it along: not a worker's death, not a signal to its group."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sandboxes import zipapp
from sandboxes.base import Limits
from sandboxes.errors import SandboxError, SandboxUnavailable
from sandboxes.local import bwrap, control, limits, seccomp
from sandboxes.local.accounts import Account, run_as
from sandboxes.local.folder import Folder
from sandboxes.local.limits import Cgroups
from sandboxes.local.processes import Process

_BOOT_S = 20.0
_LOG_TAIL = 2000
_NICE = 10
_LIMITS_INSIDE = ("memory_mb", "processes", "open_files", "disk_mb", "file_mb")


@dataclass(frozen=True)
class Launcher:
    """What starting a sandbox needs and does not change from one to the next."""

    program: Path  # bwrap
    account: Account | None
    cgroups: Cgroups

    def start(self, folder: Folder, python: str, prepared: Path | None = None, given_mb: int = 0) -> Process:
        """Start bwrap with the supervisor, run by `python`, on a folder, and put it under its limits; blocks some 20 ms.
        Workspace and home lie over `prepared`, if that is given; `given_mb` of what is in them do not count.
        The sandbox is up when its control socket answers. Raises SandboxError with bwrap's own words when it fails."""
        try:
            groups = self.cgroups.make(folder.ref, folder.limits)
            process = self._spawn(folder, python, prepared, given_mb)
            limits.enter(groups, process.pid)
            if "cpu" not in self.cgroups.parents:
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
        except ProcessLookupError:
            raise failure(folder) from None
        except OSError as error:
            raise SandboxError(f"The sandbox could not be started: {error}.") from error
        return process

    def _spawn(self, folder: Folder, python: str, prepared: Path | None, given_mb: int) -> Process:
        with contextlib.ExitStack() as stack:

            def ours(descriptor: int) -> int:
                """Closed here in the end; bwrap inherits a copy."""
                stack.callback(os.close, descriptor)
                return descriptor

            control_socket = stack.enter_context(control.listen(folder.state, folder.control.name)).fileno()
            journal = ours(os.open(folder.journal, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC))
            log = ours(os.open(folder.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_TRUNC | os.O_CLOEXEC, 0o600))
            etc = {name: ours(descriptor) for name, descriptor in bwrap.etc().items()}
            info, rules, app = ours(folder.new_info()), ours(bwrap.data(seccomp.program())), ours(bwrap.data(zipapp.build()))
            status, status_inside = os.pipe()
            ours(status)
            extra = ("--ro-bind-data", str(app), bwrap.SUPERVISOR, "--info-fd", str(info), "--json-status-fd", str(status_inside))
            argv = [
                # The one in between ends at once: bwrap is nobody's child but init's, in a session of its own.
                *(_setsid(), "--fork", str(self.program)),
                *bwrap.arguments(folder.folders(prepared), folder.limits, etc=etc, seccomp=rules, extra=extra),
                *(python, "-I", "-S", bwrap.SUPERVISOR, "--journal-fd", str(journal), "--control-fd", str(control_socket)),
                *("--scratch", bwrap.SCRATCH, "--gateway", f"{bwrap.GATEWAY}/gateway.sock"),
                *("--limits", json.dumps(self._limits(folder.limits, given_mb))),
                *(("--prepared", "yes") if folder.prepared else ()),
                *(("--disk-roots", f"{bwrap.CHANGES}/workspace:{bwrap.CHANGES}/home") if prepared else ()),
            ]
            inherited = (*etc.values(), rules, app, info, status_inside, journal, control_socket)
            try:
                with subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=inherited,
                    cwd="/",
                    env={},
                    umask=0o022,
                    **run_as(self.account),
                ):
                    pass
            finally:
                os.close(status_inside)
            process = Process.now(pid) if (pid := _child(status)) else None
            if process is None:
                raise failure(folder)
            return process

    def _limits(self, of: Limits, given_mb: int) -> dict[str, Any]:
        inside = {name: asdict(of)[name] for name in _LIMITS_INSIDE}
        inside["disk_mb"] += given_mb if inside["disk_mb"] else 0
        return {**inside, "watch_memory": "memory" not in self.cgroups.parents}


def failure(folder: Folder) -> SandboxError:
    """Why the sandbox did not start, in the words of bwrap or of the supervisor."""
    said = ""
    if folder.log.exists():
        with open(folder.log, "rb") as file:
            file.seek(max(0, folder.log.stat().st_size - _LOG_TAIL))
            said = file.read(_LOG_TAIL).decode(errors="replace").strip()
    return SandboxError(f"The sandbox did not start: {said or 'bwrap said nothing'}")


def _child(status: int) -> int | None:
    """The id of the sandbox's PID 1, from bwrap's --json-status-fd; None when bwrap ends before it has one."""
    said, deadline = b"", time.monotonic() + _BOOT_S
    while b"\n" not in said:
        if not select.select([status], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return None
        if not (piece := os.read(status, 4096)):
            return None
        said += piece
    pid: int = json.loads(said.splitlines()[0])["child-pid"]
    return pid


def _setsid() -> str:
    program = shutil.which("setsid", path=bwrap.PATH)
    if program is None:
        raise SandboxUnavailable("The program setsid is missing. Install the system's util-linux package.")
    return program
