"""Forking, becoming another program, and killing everything.

Every child is forked, never threaded: it has none of the supervisor's descriptors (journal, control socket), so a link
that an agent planted towards /proc/self/fd leads nowhere in it, and it is as hidden as its parent until it execs.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import time

from . import kernel
from .loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any, NoReturn, Optional

    from .limits import Limits
    from .loop import Future, Loop

_MAX_FD = 4096  # no descriptor of the supervisor is above; closing them all stays cheap
_RESULT_MAX = 8 * 1024 * 1024
_CRASHED = 70


def limit_descriptors() -> None:
    """Keep all descriptors of this process below _MAX_FD, and 0, 1 and 2 in use, so that no other takes their place."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_FD if hard == resource.RLIM_INFINITY else min(_MAX_FD, hard), hard))
    while True:
        fd = os.open("/dev/null", os.O_RDWR)
        if fd > 2:
            os.close(fd)
            return
        os.set_inheritable(fd, True)


def describe(error: BaseException) -> str:
    """One line for people."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def fork(
    main: Callable[[], object],
    *,
    stdin: Optional[int] = None,
    stdout: Optional[int] = None,
    stderr: Optional[int] = None,
    fault: Optional[int] = None,
    keep: Collection[int] = (),
    is_leader: bool = False,
) -> int:
    """Run `main` in a child which has nothing open but 0, 1, 2 (/dev/null where not given), `fault` and `keep`.

    It exits with 0 when `main` returns; an exception is written to `fault` as one sentence. With `is_leader` it leads
    a session of its own. It is killed when this process dies.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = _CRASHED
    try:
        kernel.die_with_parent(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(code)
        if is_leader:
            os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for target, source in enumerate((stdin, stdout, stderr)):
            os.dup2(null if source is None else source, target)
        _close_all_but([*keep, fault] if fault is not None else keep)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        main()
        code = 0
    except BaseException as error:
        if fault is not None:
            os.write(fault, describe(error).encode("utf-8", "replace")[:4096])
    finally:
        os._exit(code)


def _close_all_but(keep: Collection[int]) -> None:
    low = 3
    for fd in sorted(keep):
        if fd >= low:
            os.closerange(low, fd)
            low = fd + 1
    os.closerange(low, _MAX_FD)


def become(argv: Sequence[str], env: Mapping[str, str], cwd: str, limits: Limits, files: Optional[Mapping[str, str]] = None) -> NoReturn:
    """In a child: write `files`, take on the limits, and be another program. RuntimeError when it cannot."""
    for path, text in (files or {}).items():
        try:
            write_file(path, 0o644, [text.encode("utf-8", "surrogateescape")])
        except OSError as error:
            raise RuntimeError(f"The file {path} could not be written: {describe(error)}.") from error
    limits.impose()
    try:
        os.chdir(cwd)
    except OSError as error:
        raise RuntimeError(f"The folder {cwd} cannot be entered: {describe(error)}.") from error
    # Python ignores two signals, who started us perhaps others, and what is ignored stays so across exec.
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], list(argv), dict(env))  # noqa: S606
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RuntimeError(f"The command {argv[0]!r} could not be started: {reason}.") from error


def write_file(path: str, mode: int, chunks: Any) -> None:
    """Write a regular file, its folders made as needed; only to be called in a child."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY, 0o600)
    try:
        require_regular(fd, path)
        os.ftruncate(fd, 0)
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[os.write(fd, view) :]
        os.fchmod(fd, mode & 0o777)
    finally:
        os.close(fd)


def require_regular(fd: int, path: str) -> int:
    """The size of an open regular file; OSError when it is anything else."""
    import errno
    import stat

    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)
    return info.st_size


class Call:
    """A Python function running in a child. `result` becomes what it returned (a JSON object), or
    {"error": sentence} when it raised, crashed, was killed or could not even be started."""

    def __init__(self, loop: Loop, function: Callable[[], dict[str, Any]], keep: Collection[int] = (), nice: int = 0) -> None:
        self._loop = loop
        self._said = bytearray()
        self.result: Future = loop.future()
        self._left: Optional[Future] = None
        self._from, into = os.pipe()

        def main() -> None:
            os.nice(nice)
            try:
                answer = function()
            except Exception as error:
                answer = {"error": describe(error)}
            view = memoryview(json.dumps(answer).encode("ascii"))
            while view:
                view = view[os.write(into, view) :]

        try:
            self._pid = fork(main, keep=[into, *keep], is_leader=True)
        except OSError as error:  # the sandbox has all the processes it may have
            os.close(self._from)
            self.result.set({"error": f"No process could be started: {describe(error)}."})
            return
        finally:
            os.close(into)
        os.set_blocking(self._from, False)
        loop.watch(self._from, READ, self._read)
        self._left = loop.child(self._pid)
        self._left.then(self._ended)

    def kill(self) -> None:
        if self._left is not None and not self._left.is_done:
            kill_group(self._pid, signal.SIGKILL)

    def _read(self) -> None:
        try:
            chunk = os.read(self._from, 65536)
        except BlockingIOError:
            return
        self._said += chunk
        if not chunk or len(self._said) > _RESULT_MAX:
            self._loop.unwatch(self._from, READ)

    def _ended(self) -> None:
        while len(self._said) <= _RESULT_MAX:
            before = len(self._said)
            self._read()
            if len(self._said) == before:
                break
        self._loop.unwatch(self._from, READ)
        os.close(self._from)
        try:
            answer = json.loads(self._said.decode("ascii"))
        except ValueError:
            answer = {"error": "It was killed before it was done."}
        self.result.set(answer)


def kill_group(leader: int, signum: int) -> None:
    """Signal the process group of a child that has not been reaped yet."""
    try:
        os.killpg(leader, signum)
    except ProcessLookupError:  # forked a moment ago: it has no group of its own yet
        os.kill(leader, signum)


def others() -> list[int]:
    """All processes of this sandbox but the caller: for a PID 1 everything else, else its descendants."""
    me = os.getpid()
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    if me == 1:
        return [pid for pid in pids if pid != 1]
    children: dict[int, list[int]] = {}
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:  # it may have ended meanwhile
            parent = int(file.read().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(pid)
    found, waiting = [], [me]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def kill_others() -> None:
    """Kill every other process of this sandbox, once over. Whoever calls reaps, and calls again until none is left.

    A PID 1 has the kernel do it in one sweep that no fork escapes. Elsewhere all are stopped first, until no new one
    turns up: a stopped process cannot fork, and killing one by one would only make room for the next fork.
    """
    if os.getpid() == 1:
        _signal(-1, signal.SIGKILL)
        return
    stopped: set[int] = set()
    for _ in range(100):
        found = set(others())
        if found <= stopped:
            break
        for pid in found - stopped:
            _signal(pid, signal.SIGSTOP)
        stopped = found | stopped
    for pid in others():
        _signal(pid, signal.SIGKILL)


async def kill_all(loop: Loop, patience_s: float) -> bool:
    """Kill and reap until no other process is left; False when some would not die within `patience_s`."""
    until, pause = time.monotonic() + patience_s, 0.001
    while loop.reap():
        if time.monotonic() > until:
            return False
        kill_others()
        await loop.sleep(pause)
        pause = min(2 * pause, 0.05)
    return True


def _signal(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone, as wanted; or another user's, which the caller sees stay
        os.kill(pid, signum)
