"""One sandbox's machine: a bubblewrap with a process namespace and a root folder of its own, and envd as its init."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from sandboxes.local import accounts, bwrap
from sandboxes.local.accounts import Account, run_as

_BOOT_S = 30.0
_FREEZE_S = 5.0
_UID = 1000
_SITE, _SOCKET = "/run/envd/site", "/run/envd/socket"
_ENVD = f"import sys; sys.path.insert(0, {_SITE!r}); from tests.e2bcloud.envd import main; main()"
_PACKAGES = ("connectrpc", "protobuf", "protobuf_ext", "pyqwest", "e2b.envd", "typing_extensions")
_ASK_FOR_THEIR_VERSION = ("connectrpc", "protobuf-py", "pyqwest")
_ETC_OF_HOST = ("alternatives", "ca-certificates", "ld.so.cache", "localtime", "ssl/certs", "ssl/openssl.cnf", "terminfo", "mime.types")
_ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\n"
    f"user:x:{_UID}:{_UID}:user:/home/user:/bin/bash\n"
    f"agent:x:{_UID}:{_UID}:agent:/home/agent:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "group": f"root:x:0:\nuser:x:{_UID}:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost e2b\n::1 localhost e2b\n",
    "hostname": "e2b\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    # Debian's: a login shell forgets the PATH it was given.
    "profile": 'if [ "$(id -u)" -eq 0 ]; then\n'
    '  PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"\nelse\n'
    '  PATH="/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"\nfi\nexport PATH\n',
}


class BoxError(Exception):
    """The sandbox could not be started; the text is bwrap's or envd's."""


@dataclass(frozen=True)
class Runtime:
    """What all boxes of a cloud share, below its root folder."""

    program: Path
    python: str
    site: Path
    base: Path
    account: Account | None
    shared: tuple[str, ...]  # HOST:INSIDE, read-only


def prepare(root: Path, shared: tuple[str, ...] = ()) -> Runtime:
    """Make the runtime. As root, the boxes run under the sandboxes' account, which must be able to pass `root`'s parents."""
    account = accounts.ensure(accounts.SANDBOX_ACCOUNT) if os.geteuid() == 0 else None
    root.chmod(0o711)
    if account is not None and (closed := [str(one) for one in root.parents if not one.stat().st_mode & 0o001]):
        raise BoxError(f"The account {account.name} cannot pass {', '.join(closed)}: choose another --root.")
    program = bwrap.install(root / "runtime")
    runtime = Runtime(program, bwrap.python(), root / "runtime" / "site", root / "base", account, shared)
    _copy_packages(runtime.site)
    _make_base(runtime)
    # Compiled once, not by each sandbox at its start: the folder is read-only there.
    subprocess.run([runtime.python, "-I", "-m", "compileall", "-q", str(runtime.site)], check=True, stdout=subprocess.DEVNULL)
    (root / "runtime").chmod(0o755)
    return runtime


def _copy_packages(site: Path) -> None:
    """Copied, for the account may not be able to pass the folders that the originals are in."""
    for name in _PACKAGES:
        top, *inner = name.split(".")
        spec = util.find_spec(top)  # of a package's part it would run the package
        assert spec is not None
        assert spec.origin is not None
        source, target = Path(spec.origin), site.joinpath(top, *inner)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.name == "__init__.py":
            shutil.copytree(source.parent.joinpath(*inner), target)
        else:
            shutil.copy2(source, target.with_suffix(".py"))
    for name in _ASK_FOR_THEIR_VERSION:
        about = site / f"{name}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {metadata.version(name)}\n")
    ours = site / "tests" / "e2bcloud"
    ours.mkdir(parents=True)
    for module in ("envd", "http1", "processes", "filesystem"):
        shutil.copyfile(Path(__file__).with_name(f"{module}.py"), ours / f"{module}.py")
    for path in site.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _make_base(runtime: Runtime) -> None:
    base = runtime.base
    for name in ("etc", "home/user", "root", "tmp", "run", "opt", "var/tmp", "mnt", "srv", "code"):
        (base / name).mkdir(parents=True)
    for name in ("tmp", "var/tmp"):
        (base / name).chmod(0o1777)
    for name, content in _ETC.items():
        (base / "etc" / name).write_text(content)
    shutil.copyfile("/etc/resolv.conf", base / "etc" / "resolv.conf")
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if (path := Path("/", name)).is_symlink():
            (base / name).symlink_to(path.readlink())
    if runtime.account is not None:
        for path in [base, *base.rglob("*")]:
            os.chown(path, runtime.account.uid, runtime.account.gid, follow_symlinks=False)


class Box:
    """`folder` is the box's own: its root, envd's socket, a log. Made by `start`, removed by `remove`."""

    def __init__(self, runtime: Runtime, folder: Path) -> None:
        self._runtime, self.folder, self.root = runtime, folder, folder / "root"
        self.pid = 0  # of envd, as the host sees it
        self._process: asyncio.subprocess.Process | None = None
        self._sockets = -1

    @property
    def socket(self) -> str:
        """By way of a descriptor: the path of a socket must be short, and a root folder need not be."""
        return f"/proc/self/fd/{self._sockets}/envd.sock"

    async def start(self, environment: dict[str, str], files: Path | None = None) -> None:
        """Boot, with a copy of `files` as its root (the base if None). Raises BoxError."""
        sockets = self.folder / "socket"
        sockets.mkdir(parents=True)
        if self._runtime.account is not None:
            os.chown(sockets, self._runtime.account.uid, self._runtime.account.gid)
        await copy(files or self._runtime.base, self.root)
        self._sockets = os.open(sockets, os.O_PATH | os.O_DIRECTORY)
        status, status_inside = os.pipe()
        try:
            with (self.folder / "log").open("wb") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self._arguments(sockets, status_inside),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    pass_fds=(status_inside,),
                    env={},
                    cwd="/",
                    **run_as(self._runtime.account),
                )
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            told = {"socket": f"{_SOCKET}/envd.sock", "environment": environment}
            self._process.stdin.write(json.dumps(told).encode() + b"\n")
            ready = await asyncio.wait_for(self._process.stdout.readline(), _BOOT_S)
            if ready != b"ready\n":
                raise BoxError((self.folder / "log").read_text(errors="replace")[-2000:])
            self.pid = json.loads(os.read(status, 4096).splitlines()[0])["child-pid"]
        finally:
            os.close(status)
            os.close(status_inside)

    def _arguments(self, sockets: Path, status: int) -> Iterator[str]:
        yield from (str(self._runtime.program), "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts")
        yield from ("--unshare-cgroup-try", "--new-session", "--as-pid-1", "--die-with-parent", "--hostname", "e2b")
        yield from ("--uid", str(_UID), "--gid", str(_UID), "--json-status-fd", str(status))
        yield from ("--bind", str(self.root), "/", "--ro-bind", "/usr", "/usr")
        for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
            if (path := Path("/", name)).is_dir() and not path.is_symlink():
                yield from ("--ro-bind", str(path), str(path))
        for name in _ETC_OF_HOST:
            if Path("/etc", name).exists():
                yield from ("--ro-bind", f"/etc/{name}", f"/etc/{name}")
        yield from ("--proc", "/proc", "--dev", "/dev", "--bind", str(sockets), _SOCKET, "--ro-bind", str(self._runtime.site), _SITE)
        for one in self._runtime.shared:
            yield from ("--ro-bind", *one.split(":"))
        yield from ("--chdir", "/", "--clearenv", "--setenv", "PATH", bwrap.PATH, "--setenv", "LANG", "C.UTF-8", "--")
        yield from (self._runtime.python, "-I", "-S", "-c", _ENVD)

    async def ended(self) -> None:
        if self._process is not None:
            await self._process.wait()

    def processes(self) -> dict[int, str]:
        """Everything inside, by the host's process ids, with its command line."""
        found = {}
        for pid in self._family():
            with contextlib.suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return found

    async def freeze(self) -> None:
        """Stop every process inside where it is, also those that are just being started."""
        deadline = time.monotonic() + _FREEZE_S
        while running := [pid for pid, state in self._family().items() if state not in "TtZX"]:
            for pid in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(0.002)

    def thaw(self) -> None:
        for pid in self._family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _family(self) -> dict[int, str]:
        return _family(self.pid) if self._process is not None and self._process.returncode is None else {}

    async def kill(self) -> None:
        """The kernel ends a namespace with its init: when this returns, nothing of it runs."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL) if self.pid else self._process.kill()
        await self._process.wait()

    async def remove(self) -> None:
        await self.kill()
        if self._sockets >= 0:
            os.close(self._sockets)
            self._sockets = -1
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)


async def copy(source: Path, target: Path) -> None:
    """With owners, modes and links."""
    process = await asyncio.create_subprocess_exec("cp", "-a", "--reflink=auto", str(source), str(target), stderr=subprocess.PIPE)
    _, said = await process.communicate()
    if process.returncode:
        raise BoxError(said.decode(errors="replace"))


def _family(pid: int) -> dict[int, str]:
    """A process and all that descend from it, with their states; none for 0."""
    if not pid:
        return {}
    states: dict[int, str] = {}
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                state, parent = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[:2]
                states[int(entry)] = state
                children.setdefault(int(parent), []).append(int(entry))
    found, waiting = {}, [pid]
    while waiting:
        if (one := waiting.pop()) in states:
            found[one] = states[one]
        waiting += children.get(one, [])
    return found
