"""The supervisor: holds the journal and the control socket, runs turns, and outlives all it starts."""

from __future__ import annotations

import os
import platform
import signal
import socket
import time

from . import kernel, processes, turns
from .control import Server
from .journal import Journal
from .limits import Limits
from .loop import READ, Loop
from .patches import EMPTY_SHA256, Patches
from .transfer import RequestError
from .watchdog import Watchdog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Optional

    from .loop import Future
    from .steps import Step

_KILL_S = 10.0
_TRANSFERS_S = 1.0  # what a transfer under way may still take before everything is killed
_DOOR_S = 0.1
_AGENTS = "/opt/agents/bin"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_STOPPED = "The sandbox stopped before the turn was over."


class Options:
    """The command line, in pairs of a name and a value. Without --journal-fd and --control-fd there is --state; the last
    four are for tests."""

    def __init__(self, argv: list[str]) -> None:
        words = iter(argv)
        given = {name: next(words, "") for name in words}
        self.journal_fd = int(given.pop("--journal-fd", -1))
        self.control_fd = int(given.pop("--control-fd", -1))
        self.state = given.pop("--state", None)
        self.limits = given.pop("--limits", "{}")
        self.gateway = given.pop("--gateway", None)
        self.is_prepared = given.pop("--prepared", "no") == "yes"
        disk_roots = given.pop("--disk-roots", "")
        self.workspace = given.pop("--workspace", "/workspace")
        self.home = given.pop("--home", "/home/agent")
        self.disk_roots = disk_roots.split(":") if disk_roots else [self.workspace, self.home]
        self.mirror = given.pop("--mirror", "/run/mirror.git")
        self.scratch = given.pop("--scratch", "/tmp/.asynccode")  # noqa: S108
        self.bridge_port = int(given.pop("--bridge-port", 3128))
        self.beat_s = float(given.pop("--beat-seconds", 10))
        self.disk_s = float(given.pop("--disk-seconds", 15))
        self.hold_s = float(given.pop("--hold-seconds", 120))
        has_descriptors = self.journal_fd >= 0 and self.control_fd >= 0
        if given or has_descriptors == bool(self.state):
            raise SystemExit(f"usage: --journal-fd N --control-fd M | --state DIR; not understood: {' '.join(given) or ' '.join(argv)}")


class Gate:
    """Lets coroutines pass while it is open."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._opened: Optional[Future] = None

    def close(self) -> None:
        self._opened = self._opened or self._loop.future()

    def open(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.set()

    async def passed(self) -> None:
        while self._opened is not None:
            await self._opened


class Supervisor:
    def __init__(self, options: Options, journal: Journal, listener: socket.socket, limits: Limits) -> None:
        self.options, self.journal, self.limits = options, journal, limits
        self.loop = Loop()
        self.loop.take_children()
        self.runs, self.transfers = Gate(self.loop), Gate(self.loop)
        self.moving: set[Future] = set()  # transfers under way
        self.patches = Patches(
            self.loop, workspace=options.workspace, mirror=options.mirror, home=options.home, scratch=options.scratch
        )  # fmt: skip
        self.watchdog = Watchdog(self.loop, limits, options.disk_roots, options.disk_s)
        self.turn: Optional[turns.Turn] = None
        self.turns = list(journal.begun)
        self.has_workspace = journal.checkout == "done"
        self.last_sha256: Optional[str] = None if self.has_workspace else EMPTY_SHA256
        self._is_leaving = False
        self._beat_at = time.monotonic() + options.beat_s
        self.loop.later(options.beat_s, self._beat)
        journal.append("boot", version=1, python=platform.python_version(), generation=None)
        self._close_the_past()
        Server(self, listener)
        if options.gateway is not None:
            Door(self.loop, options.bridge_port, options.gateway, options.hold_s)
        self.loop.later(0, _warm_up)

    # What control asks for

    def begin(self, spec: object) -> bool:
        """Start a turn; False when it was begun before, be it over or not. RequestError when another one is running."""
        checked = turns.checked(spec)
        key = (checked["generation"], checked["turn"])
        if key in self.turns:
            return False
        if self._is_leaving:
            raise RequestError("busy", "The supervisor is leaving.")
        if self.turn is not None:
            raise RequestError("busy", f"Turn {self.turn.number} is still running.")
        self.turns.append(key)
        if self.options.state is not None and not _lock(self.options.state, key):
            return False
        self.journal.append("turn", turn=key[1], generation=key[0])
        self.patches.begin(key[1])
        self.turn = turns.Turn(self, checked)
        self.turn.over.then(self._turn_over)
        return True

    def running_step(self) -> Step:
        step = self.turn.step if self.turn else None
        if step is None or step.is_over:
            raise RequestError("missing", "No step is running.")
        return step

    async def shut_down(self) -> Optional[turns.Turn]:
        """End the running turn and kill everything; gives that turn."""
        if self._is_leaving:
            raise RequestError("busy", "The supervisor is leaving already.")
        self._is_leaving = True
        turn = self.turn
        if turn is not None:
            turn.stop("shutdown")
            await turn.over
        await self.clear()
        return turn

    # What turns need

    async def clear(self) -> bool:
        """Kill every process but this one; whether that could be done. `runs` stay closed: whoever wants others alive
        opens them."""
        self.runs.close()
        self.transfers.close()
        until = time.monotonic() + _TRANSFERS_S
        for moving in list(self.moving):
            await self.loop.within(moving, max(0.0, until - time.monotonic()))
        try:
            return await processes.kill_all(self.loop, _KILL_S)
        finally:
            self.transfers.open()

    def needs_checkout(self) -> bool:
        """Whether the workspace is missing: never made, or its making was cut short. One that is not ours is taken as it is,
        but for what a prepared environment left there, which never is a checkout."""
        is_new = self.journal.checkout is None and not self.options.is_prepared
        if not self.has_workspace and is_new and _has_files(self.options.workspace):
            self.has_workspace = True
        return not self.has_workspace

    def checkout_main(self, spec: Mapping[str, Any]) -> Callable[[], None]:
        """The checkout, to be run in a child whose standard output is its log."""
        from .checkout import checkout

        self.journal.checkout = "torn"  # until the journal says otherwise
        workspace, mirror, is_prepared = self.options.workspace, self.options.mirror, self.options.is_prepared

        def main() -> None:
            os.makedirs(workspace, exist_ok=True)
            checkout(workspace, mirror, dict(spec), _say, is_prepared=is_prepared)

        return main

    def plain_env(self) -> dict[str, str]:
        """The environment every command starts from."""
        env = {
            "PATH": f"{_AGENTS}:{_PATH}" if os.path.isdir(_AGENTS) else _PATH,
            "HOME": self.options.home, "USER": "agent", "LOGNAME": "agent", "SHELL": "/bin/bash", "LANG": "C.UTF-8", "TERM": "dumb",
            "TMPDIR": "/tmp", "ASYNCCODE": "1", "GIT_TERMINAL_PROMPT": "0",  # noqa: S108
        }  # fmt: skip
        if self.options.gateway is not None:
            proxy = f"http://127.0.0.1:{self.options.bridge_port}"
            env.update(HTTP_PROXY=proxy, HTTPS_PROXY=proxy, http_proxy=proxy, https_proxy=proxy, NO_PROXY="localhost,127.0.0.1,::1")
        return env

    def run_folder(self) -> str:
        return next((path for path in (self.options.workspace, self.options.home) if os.path.isdir(path)), "/")

    # Inside

    def _turn_over(self) -> None:
        self.turn = None

    def _beat(self) -> None:
        """Every 10 s by the monotonic clock; also when a full disk is looked at again."""
        self._beat_at += self.options.beat_s
        self.loop.later(max(0.0, self._beat_at - time.monotonic()), self._beat)
        if self.journal.flush():
            self.journal.append("beat", turn=self.turn.number if self.turn else None)
        elif self.turn is not None and self.turn.step is not None:
            self.turn.step.end("error", self.journal.trouble)

    def _close_the_past(self) -> None:
        """A turn that an earlier supervisor began and could not end, or only locked, is ended here: no turn runs twice."""
        if self.journal.open_turn is not None:
            self._end_lost(self.journal.open_turn)
        for key in _locked(self.options.state) if self.options.state is not None else ():
            if key not in self.turns:
                self.turns.append(key)
                self.journal.append("turn", turn=key[1], generation=key[0])
                self._end_lost(key[1])

    def _end_lost(self, turn: int) -> None:
        self.journal.append(
            "end", turn=turn, step=None, reason="error", code=None, signal=None, seconds=0.0, has_patch=False, error=_STOPPED
        )  # fmt: skip


class Door:
    """Holds the listening socket that steps use as their proxy; forks the bridge when the first connection comes, and
    again when the bridge has died. Runs that never use the network pay nothing."""

    def __init__(self, loop: Loop, port: int, gateway: str, hold_s: float) -> None:
        self._loop, self._gateway, self._hold_s = loop, gateway, hold_s
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(128)
        self._listener.setblocking(False)
        self._watch()

    def _watch(self) -> None:
        self._loop.watch(self._listener.fileno(), READ, self._open)

    def _open(self) -> None:
        from . import bridge

        self._loop.unwatch(self._listener.fileno(), READ)
        try:
            pid = processes.fork(lambda: bridge.serve(self._listener, self._gateway, self._hold_s), keep=[self._listener.fileno()])
        except OSError:  # the sandbox has all the processes it may have; the connection waits
            self._rest()
        else:
            self._loop.child(pid).then(self._rest)

    def _rest(self) -> None:
        """Not at once, lest a bridge that cannot live takes all the time there is."""
        self._loop.later(_DOOR_S, self._watch)


def main(argv: list[str]) -> None:
    """Run until a shutdown. The process must already be hidden."""
    import json

    options = Options(argv)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.umask(0o022)
    for fd in (options.journal_fd, options.control_fd):
        if fd >= 0:
            os.set_inheritable(fd, False)
    limits = Limits(json.loads(options.limits))
    processes.limit_descriptors()
    if os.getpid() != 1:
        kernel.adopt_orphans()
    os.makedirs(options.scratch, 0o700, exist_ok=True)
    os.chmod(options.scratch, 0o700)
    if options.state is not None:
        os.makedirs(options.state, 0o700, exist_ok=True)
        path = os.path.join(options.state, "journal.jsonl")
        journal = Journal(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600))
        listener = _listen(os.path.join(options.state, "control.sock"))
    else:
        journal = Journal(options.journal_fd)
        listener = socket.socket(fileno=options.control_fd)
    Supervisor(options, journal, listener, limits).loop.run()


def _listen(path: str) -> socket.socket:
    """The journal's lock is held: a socket that is still there is a dead supervisor's."""
    if os.path.lexists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o600)
    listener.listen(64)
    return listener


def _lock(state: str, key: tuple[int, int]) -> bool:
    """Take the lock of a turn; False when it was taken before."""
    try:
        os.close(os.open(os.path.join(state, f"turn-{key[0]}-{key[1]}.lock"), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


def _locked(state: str) -> list[tuple[int, int]]:
    keys = []
    for name in sorted(os.listdir(state)):
        parts = name[: -len(".lock")].split("-") if name.endswith(".lock") else []
        if len(parts) == 3 and parts[0] == "turn" and parts[1].isdigit() and parts[2].isdigit():
            keys.append((int(parts[1]), int(parts[2])))
    return keys


def _has_files(folder: str) -> bool:
    return os.path.isdir(folder) and bool(os.listdir(folder))


def _say(line: str) -> None:
    os.write(1, line.encode("utf-8", "replace") + b"\n")


def _warm_up() -> None:
    """Load what the first turn needs while the host is still on its way to ask for it; children inherit it."""
    from . import bridge, checkout, patch  # noqa: F401
