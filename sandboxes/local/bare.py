"""A program in a sandbox of its own: no supervisor, no network, nothing of it left. For looks at the machine and at programs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sandboxes.base import Limits
from sandboxes.errors import SandboxUnavailable
from sandboxes.local import bwrap, seccomp
from sandboxes.local.accounts import Account, run_as
from sandboxes.local.folder import moving


def run(
    command: Sequence[str],
    *,
    program: Path,
    root: Path,
    account: Account | None,
    agents: Path | None = None,
    rootfs: Path | None = None,
    own: Path | None = None,
    extra: Sequence[str] = (),
    timeout: float,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `program` is bwrap, `root` the folder of sandboxes. It and all it started are killed after
    `timeout` seconds. Workspace and home are those in the folder `own`, or empty ones; `extra` are more arguments of
    bwrap's. Raises SandboxUnavailable, also for the timeout."""
    with contextlib.ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix="bare-", dir=moving(root), ignore_cleanup_errors=True)
        place = Path(stack.enter_context(made))
        place.chmod(0o711)
        kept = own or place
        folders = bwrap.Folders(kept / "workspace", kept / "home", place / "scratch", place / "gateway", agents=agents, rootfs=rootfs)
        for folder in (folders.workspace, folders.home, folders.scratch, folders.gateway):
            if folder.parent == place:
                folder.mkdir()
                if account:
                    os.chown(folder, account.uid, account.gid)
        etc, rules = bwrap.etc(), bwrap.data(seccomp.program())
        for descriptor in (*etc.values(), rules):
            stack.callback(os.close, descriptor)
        try:
            arguments = bwrap.arguments(folders, Limits(), etc=etc, seccomp=rules, extra=["--die-with-parent", *extra])
            return subprocess.run(
                [str(program), *arguments, *command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
                pass_fds=(*etc.values(), rules),
                env={},
                cwd="/",
                **run_as(account),
            )
        except OSError as error:
            raise SandboxUnavailable(f"bubblewrap cannot be run here: {error.strerror} ({program}).") from error
        except subprocess.TimeoutExpired:
            raise SandboxUnavailable(f"{Path(command[0]).name} did not end within {timeout:g} seconds.") from None
