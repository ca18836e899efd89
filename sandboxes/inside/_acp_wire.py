"""The agent's process and the lines between it and us: JSON objects, one a line, each way through a pipe."""

from __future__ import annotations

import json
import os

from . import processes
from .journal import LINE_MAX
from .loop import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Optional

    from .limits import Limits
    from .loop import Future, Loop

MESSAGE_MAX = 64 * 1024 * 1024  # bytes of one line of the agent's
_UNREAD_MAX = 64 * 1024 * 1024
_CHUNK = 65536
_STATUS_S = 0.5  # from the end of the agent's output to that of its process, which says more
_SHORTER = (65536, 8192, 1024, 128)
_OUTLINE = 100
_REST = 64  # reads of what a process has left in its pipe
_NOISE_MAX = 4096

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def say(record: Mapping[str, Any]) -> None:
    """Write one line to standard output, which is the journal's."""
    view = memoryview(fitted(record).encode("utf-8", "replace") + b"\n")
    while view:
        view = view[os.write(1, view) :]


def fitted(record: Mapping[str, Any]) -> str:
    """The record as a line which the journal takes whole: strings that are too long for that are shortened."""
    try:
        line = _encode(record)
        if _fits(line):
            return line
        for longest in _SHORTER:
            line = _encode(_shortened(record, longest))
            if _fits(line):
                return line
    except RecursionError:
        pass
    return _encode({name: _outline(value) for name, value in record.items()})


def _outline(value: Any) -> Any:
    """What is left of something that is too deep or too much to be shortened."""
    if isinstance(value, dict):
        few = list(value.items())[:_OUTLINE]
        return {name[:_OUTLINE]: _shortened(each, _OUTLINE) for name, each in few if not isinstance(each, (dict, list))}
    return None if isinstance(value, list) else _shortened(value, _OUTLINE)


def _fits(line: str) -> bool:
    """As it will be written: once more as a JSON string, in which no character takes more than twice its bytes."""
    return len(line) * 8 <= LINE_MAX or len(_encode(line).encode("utf-8", "replace")) <= LINE_MAX + 2


def _shortened(value: Any, longest: int) -> Any:
    if isinstance(value, str) and len(value) > longest:
        return f"{value[:longest]}… [{len(value) - longest} more characters]"
    if isinstance(value, dict):
        return {name: _shortened(each, longest) for name, each in value.items()}
    if isinstance(value, list):
        return [_shortened(each, longest) for each in value]
    return value


class Wire:
    """Starts the agent. `received` gets each of its messages and its size, `lost` a sentence when there will be none any
    more. RuntimeError when the agent cannot be started."""

    def __init__(
        self,
        loop: Loop,
        start: Callable[[], object],
        *,
        received: Callable[[dict[str, Any], int], object],
        lost: Callable[[str], object],
    ) -> None:
        self._loop, self._received, self._lost = loop, received, lost
        self._held, self._dropped, self._to_send = bytearray(), 0, bytearray()
        stdin, output, fault = os.pipe(), os.pipe(), os.pipe()
        # A session of its own: our signals are not for it. It dies with us all the same.
        pid = processes.fork(start, stdin=stdin[0], stdout=output[1], stderr=2, fault=fault[1], is_leader=True)
        for fd in (stdin[0], output[1], fault[1]):
            os.close(fd)
        self.left: Future = loop.child(pid)
        with os.fdopen(fault[0], "rb") as file:
            why = file.read().decode("utf-8", "replace")
        if why:
            raise RuntimeError(why)
        self._into: Optional[int] = stdin[1]
        self._from = output[0]
        for fd in (stdin[1], output[0]):
            os.set_blocking(fd, False)
        self._silent = loop.future()
        loop.watch(self._from, READ, self._read)
        loop.task(self._see_it_leave())

    def send(self, message: Mapping[str, Any]) -> None:
        """What an agent does not read that has gone is nobody's loss; RuntimeError when it just does not read."""
        if self._into is None:
            return
        if len(self._to_send) > _UNREAD_MAX:
            raise RuntimeError("The agent does not read what it is sent.")
        self._to_send += json.dumps(message).encode("ascii") + b"\n"
        self._loop.watch(self._into, WRITE, self._write)

    def close_input(self) -> None:
        if self._into is not None:
            self._loop.unwatch(self._into, WRITE)
            os.close(self._into)
            self._into = None

    # Inside

    def _write(self) -> None:
        if self._into is None:
            return
        try:
            del self._to_send[: os.write(self._into, self._to_send)]
        except BlockingIOError:
            return
        except BrokenPipeError:  # that it has gone is found out by its output
            self.close_input()
            return
        if not self._to_send:
            self._loop.unwatch(self._into, WRITE)

    def _read(self) -> bool:
        """Read once; whether there may be more at once."""
        try:
            data = os.read(self._from, _CHUNK)
        except BlockingIOError:
            return False
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._hold(piece)
            self._take()
        self._hold(rest)
        if not data:
            self._take()
            self._loop.unwatch(self._from, READ)
            self._silent.set()
        return bool(data)

    def _hold(self, piece: bytes) -> None:
        if self._dropped or len(self._held) + len(piece) > MESSAGE_MAX:
            self._dropped += len(self._held) + len(piece)
            self._held = bytearray()
        else:
            self._held += piece

    def _take(self) -> None:
        line, dropped = bytes(self._held), self._dropped
        self._held, self._dropped = bytearray(), 0
        if dropped:
            say({"acp": "noise", "text": f"[a line of {dropped} bytes, too long to be read]"})
        elif line.strip():
            message = _message(line)
            if message is None:
                say({"acp": "noise", "text": _shortened(line.decode("utf-8", "replace"), _NOISE_MAX)})
            else:
                self._received(message, len(line))

    async def _see_it_leave(self) -> None:
        """Its output may end before its process, and be held open by others after it."""
        first = self._loop.future()
        self.left.then(first.set)
        self._silent.then(first.set)
        await first
        if not self.left.is_done:
            await self._loop.within(self.left, _STATUS_S)
        for _ in range(_REST):
            if self._silent.is_done or not self._read():
                break
        self._lost(_farewell(self.left.value()) if self.left.is_done else "The agent has closed its output.")


def _farewell(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"The agent was killed by signal {os.WTERMSIG(status)}."
    return f"The agent ended with exit code {os.WEXITSTATUS(status)} before it had answered."


def _message(line: bytes) -> Optional[dict[str, Any]]:
    try:
        said = json.loads(line.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON.")


def starter(argv: Sequence[str], env: Mapping[str, str], cwd: str, limits: Limits, files: Mapping[str, str]) -> Callable[[], object]:
    return lambda: processes.become(argv, env, cwd, limits, files)
