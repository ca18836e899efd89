"""One step: a process group of its own, its clocks, its output into the journal, and the end of all it started."""

from __future__ import annotations

import functools
import os
import signal
import time

from . import processes
from .journal import LINE_MAX
from .loop import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Optional

    from .journal import Journal
    from .loop import Loop, Timer
    from .signs import Signs

OUTPUT_MAX = 256 * 1024 * 1024  # bytes of one turn's output, as read or as written into the journal, whichever is more
_CHUNK = 65536
_LITTLE = 4096
_GATHER_S = 0.25
_DRAIN_S = 0.2  # for what still writes when the leader has gone, like the `tee` of a process substitution
_REST_MAX = 4 * 1024 * 1024  # read from a stream after that: more than a pipe can hold
_INPUT_MAX = 1024 * 1024  # of messages that wait to be read
_UNKILLED = "Some processes of the step could not be killed; what they still write is not in the patch."


class Outcome:
    """How a step ended: `reason` as in the journal, `code` or `signal` of its leader (None: none), `error` a sentence."""

    def __init__(
        self, reason: str, *, code: Optional[int] = None, signum: Optional[int] = None, seconds: float = 0.0, error: Optional[str] = None
    ) -> None:
        self.reason, self.code, self.signal, self.seconds, self.error = reason, code, signum, seconds, error

    @property
    def is_success(self) -> bool:
        return self.reason == "finished" or (self.reason == "exit" and self.code == 0)


class Output:
    """A turn's output on its way into the journal, and how much of it there may still be."""

    def __init__(self, journal: Journal, turn: int, most: int = OUTPUT_MAX) -> None:
        self.journal, self.turn, self._left = journal, turn, most

    def write(self, step: str, kind: str, lines: list[tuple[bytes, int]], size: int) -> None:
        """Lines that became whole when `size` bytes were read."""
        if self._left > 0:
            self._left -= max(size, self.journal.output(kind, self.turn, step, lines))

    @property
    def is_over(self) -> bool:
        return self._left <= 0


class _Stream:
    """One output pipe, cut into lines; holds at most LINE_MAX bytes however long a line gets."""

    def __init__(self, fd: int, kind: str) -> None:
        self.fd, self.kind = fd, kind
        self.is_open = True
        self._held, self._cut = bytearray(), 0

    def read(self) -> tuple[list[tuple[bytes, int]], int]:
        """Read once: the lines that are whole now, and how many bytes came. BlockingIOError when there are none yet."""
        data = os.read(self.fd, _CHUNK)
        if not data:
            self.is_open = False
            return self.rest(), 0
        lines = []
        *whole, part = data.split(b"\n")
        for piece in whole:
            self._hold(piece)
            lines.append(self._take())
        self._hold(part)
        return lines, len(data)

    def rest(self) -> list[tuple[bytes, int]]:
        """The last line, when it has no newline."""
        return [self._take()] if self._held else []

    def _hold(self, piece: bytes) -> None:
        room = LINE_MAX - len(self._held)
        self._held += piece[:room]
        self._cut += max(0, len(piece) - room)

    def _take(self) -> tuple[bytes, int]:
        line = bytes(self._held), self._cut
        self._held, self._cut = bytearray(), 0
        return line


class Step:
    """Starts `main` in a forked child that leads its own session; `ended` becomes its Outcome.

    With `has_input` its standard input stays open, `lines` first in it. `signs` tell that its work is done: its input is
    closed once all is written, and it is ended as `finished` when it stays on and is quiet. `clean_up` kills everything
    the step left behind and says whether it could. The step's first cause of ending counts: `end` is a no-op when it is
    already ending.
    """

    def __init__(
        self,
        loop: Loop,
        output: Output,
        name: str,
        main: Callable[[], object],
        clean_up: Callable[[], Awaitable[bool]],
        *,
        total_s: float,
        silence_s: Optional[float] = None,
        grace_s: float = 2.0,
        has_input: bool = False,
        lines: Sequence[str] = (),
        signs: Optional[Signs] = None,
    ) -> None:
        self.name = name
        self._loop, self._output, self._clean_up, self._grace_s = loop, output, clean_up, grace_s
        self._reason: Optional[str] = None
        self._error: Optional[str] = None
        self._silence_s, self._signs = silence_s, signs
        self._is_done = False  # it has said so
        self._has_input = self._takes_messages = has_input
        self._timers: list[Timer] = []
        self._quiet: Optional[Timer] = None
        self._started = self._heard = time.monotonic()
        self._input: Optional[int] = None
        self._to_send = bytearray(b"".join(_as_line(line) for line in lines))
        self._to_send_max = len(self._to_send) + _INPUT_MAX
        output.journal.append("step", turn=output.turn, step=name, state="started")
        self._spawn(main, has_input)
        if self._input is not None and self._to_send:
            loop.watch(self._input, WRITE, self._send)
        self._timers.append(loop.later(total_s, lambda: self.end("finished" if self._is_done else "total")))
        self._check_quiet()

    def end(self, reason: str, error: Optional[str] = None) -> None:
        """TERM to the whole group, KILL after the grace."""
        if self._reason is None and not self.is_over:
            self._reason, self._error = reason, error
            self._signal(signal.SIGTERM)
            self._timers.append(self._loop.later(self._grace_s, lambda: self._signal(signal.SIGKILL)))

    def kill(self, reason: str) -> None:
        """Without grace."""
        if not self.is_over:
            self._reason = self._reason or reason
            self._signal(signal.SIGKILL)

    def interrupt(self) -> None:
        self._signal(signal.SIGINT)

    def send(self, text: str) -> Optional[str]:
        """One line to the step's standard input; a sentence when that is not possible."""
        data = _as_line(text)
        if self._has_input and not self._takes_messages:
            return "The running step has said that its work is done, and takes no more messages."
        if self._input is None:
            return "The running step does not take messages."
        if len(self._to_send) + len(data) > self._to_send_max:
            return "The running step does not read its messages."
        self._to_send += data
        self._loop.watch(self._input, WRITE, self._send)
        return None

    # Inside

    def _spawn(self, main: Callable[[], object], has_input: bool) -> None:
        out, err, fault = os.pipe(), os.pipe(), os.pipe()
        stdin = None
        if has_input:
            stdin, self._input = os.pipe()
            os.set_blocking(self._input, False)
        self._pid = processes.fork(main, stdin=stdin, stdout=out[1], stderr=err[1], fault=fault[1], is_leader=True)
        for fd in (out[1], err[1], fault[1], stdin):
            if fd is not None:
                os.close(fd)
        self._fault = fault[0]
        self._streams = [_Stream(out[0], "out"), _Stream(err[0], "err")]
        for fd in (out[0], err[0], fault[0]):
            os.set_blocking(fd, False)
        for stream in self._streams:
            self._loop.watch(stream.fd, READ, functools.partial(self._readable, stream))
        self._silent = self._loop.future()  # both streams at their end
        self._left = self._loop.child(self._pid)
        self.ended = self._loop.task(self._finish())

    @property
    def is_over(self) -> bool:
        """Whether the leader has ended; what it left behind may not."""
        return self._left.is_done

    def _readable(self, stream: _Stream) -> None:
        """Read, and when little came let the next lines gather: waking up for each one costs more than all else we do.
        A flood is read at once; the pipe holds what comes meanwhile."""
        if self._read(stream) < _LITTLE and stream.is_open:
            self._loop.unwatch(stream.fd, READ)
            self._loop.later(_GATHER_S, lambda: self._gathered(stream))

    def _gathered(self, stream: _Stream) -> None:
        if self.is_over or not stream.is_open:
            return
        size = self._read(stream)
        if 0 < size < _LITTLE:
            self._loop.later(_GATHER_S, lambda: self._gathered(stream))
        elif stream.is_open:
            self._loop.watch(stream.fd, READ, functools.partial(self._readable, stream))

    def _read(self, stream: _Stream) -> int:
        """Read once; how many bytes came."""
        try:
            lines, size = stream.read()
        except BlockingIOError:
            return 0
        self._heard = time.monotonic()
        self._output.write(self.name, stream.kind, lines, size)
        if self._signs is not None and stream.kind == "out":
            self._heed(self._signs.read(lines))
        if not stream.is_open:
            self._loop.unwatch(stream.fd, READ)
            if not any(each.is_open for each in self._streams):
                self._silent.set()
        if self._output.is_over:
            self.end("output")
        if self._output.journal.trouble:
            self.end("error", self._output.journal.trouble)
        return size

    def _send(self) -> None:
        if self._input is None:
            return
        try:
            del self._to_send[: os.write(self._input, self._to_send)]
        except BlockingIOError:
            return
        except BrokenPipeError:  # the step has closed its standard input
            self._close_input()
            return
        if not self._to_send:
            self._loop.unwatch(self._input, WRITE)
            if not self._takes_messages:
                self._close_input()

    def _close_input(self) -> None:
        if self._input is not None:
            self._loop.unwatch(self._input, WRITE)
            os.close(self._input)
            self._input = None

    def _heed(self, is_done: Optional[bool]) -> None:
        """What a sign says, if there was one. Messages that it has been promised still reach it, new ones are refused: it
        may leave at any moment, also when it goes on after all."""
        if is_done is None:
            return
        self._is_done = is_done
        if is_done:
            self._takes_messages = False
            if not self._to_send:
                self._close_input()
        self._check_quiet()

    def _check_quiet(self) -> None:
        """End it when it has been quiet for too long; else look again when that could be."""
        if self._quiet is not None:
            self._quiet.cancel()
        reason, most = ("finished", self._signs.linger_s) if self._is_done and self._signs is not None else ("silence", self._silence_s)
        if most is None or self.is_over:
            return
        left = self._heard + most - time.monotonic()
        if left <= 0:
            self.end(reason)
        else:
            self._quiet = self._loop.later(left, self._check_quiet)

    def _signal(self, signum: int) -> None:
        if not self.is_over:
            processes.kill_group(self._pid, signum)

    async def _finish(self) -> Outcome:
        status = await self._left
        for timer in (*self._timers, self._quiet):
            if timer is not None:
                timer.cancel()
        seconds = time.monotonic() - self._started
        self._close_input()
        for stream in self._streams:
            if stream.is_open:
                self._loop.watch(stream.fd, READ, functools.partial(self._read, stream))
        await self._loop.within(self._silent, _DRAIN_S)
        is_clean = await self._clean_up()
        for stream in self._streams:
            room = _REST_MAX
            while stream.is_open and room > 0:
                count = self._read(stream)
                room = room - count if count else 0
            if stream.is_open:
                self._loop.unwatch(stream.fd, READ)
                self._output.write(self.name, stream.kind, stream.rest(), 0)
            os.close(stream.fd)
        return self._outcome(status, seconds, is_clean)

    def _outcome(self, status: int, seconds: float, is_clean: bool) -> Outcome:
        try:
            fault = os.read(self._fault, 4096).decode("utf-8", "replace")
        except BlockingIOError:
            fault = ""
        os.close(self._fault)
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        signum = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        error = self._error or fault or (None if is_clean else _UNKILLED)
        is_ours = error is not None and (self._reason in (None, "error") or not is_clean)
        reason = "error" if is_ours else self._reason or "exit"
        outcome = Outcome(reason, code=code, signum=signum, seconds=round(seconds, 3), error=error if is_ours else None)
        self._output.journal.append(
            "step", turn=self._output.turn, step=self.name, state="ended", reason=outcome.reason,
            code=code, signal=signum, seconds=outcome.seconds,
        )  # fmt: skip
        return outcome


def _as_line(text: str) -> bytes:
    return text.encode("utf-8", "replace") + b"\n"
