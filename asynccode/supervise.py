"""A small process manager: keeps services running, restarts what ends, and writes all they say into one prefixed log."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from asynccode.logs import service_line
from asynccode.processes import command_line, die_with_parent, pids_of_session, signal_all, started_at, wait_until

_COLORS = (36, 33, 32, 35, 34, 96, 93, 92)
_MAX_LINE = 64 * 1024
_LOUD_AFTER = 5


class Log:
    """Lines of many sources on one stream, each with its source's name before it; in colour on a terminal, or as JSON."""

    def __init__(self, stream: TextIO, width: int = 10, *, is_json: bool = False) -> None:
        self._stream = stream
        self._is_json = is_json
        self._width = width
        self._colors: dict[str, int] = {}
        self._is_read = True
        self._is_colored = stream.isatty()

    def line(self, name: str, text: str) -> None:
        if self._is_json:
            self.plain(service_line(name, text))
            return
        prefix = f"{name:<{self._width}}|"
        if self._is_colored:
            color = self._colors.setdefault(name, _COLORS[len(self._colors) % len(_COLORS)])
            prefix = f"\033[{color}m{prefix}\033[0m"
        self.plain(f"{prefix} {text}")

    def plain(self, text: str) -> None:
        if self._is_read:
            try:
                self._stream.write(text + "\n")
                self._stream.flush()
            except BrokenPipeError:  # the services go on
                self._is_read = False


@dataclass(frozen=True)
class Service:
    """A program to be kept running. It leads a session of its own: what it starts in that session ends with it."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    pass_fds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Clocks:
    """Seconds: the pause before the first restart, which doubles up to `longest_s`; how long a service must live to be
    taken for healthy; how long it may take to stop."""

    first_s: float = 1.0
    longest_s: float = 30.0
    healthy_s: float = 60.0
    stop_s: float = 10.0


class Supervisor:
    """Keeps services running until `stop`. `record` is a file that lets the next life find what this one left behind.

    If this process is killed, the services get SIGTERM; use it from the main thread (see `die_with_parent`).
    """

    def __init__(self, log: Log, record: Path, clocks: Clocks | None = None) -> None:
        self._log = log
        self._record = record
        self._clocks = clocks or Clocks()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()

    def start(self, services: Iterable[Service]) -> None:
        for service in services:
            self._tasks[service.name] = asyncio.create_task(self._keep(service))

    async def stop(self) -> None:
        """TERM to every service, KILL to whole sessions after `stop_s`."""
        self._stopping.set()
        for process in self._processes.values():
            if process.returncode is None:
                process.terminate()
        if self._tasks:
            _, slow = await asyncio.wait(self._tasks.values(), timeout=self._clocks.stop_s)
            if slow:
                names = [name for name, task in self._tasks.items() if task in slow]
                self._log.line("up", f"{', '.join(names)} did not stop within {self._clocks.stop_s:g} s: killing")
                self.kill()
                await asyncio.wait(slow)
        self._record.unlink(missing_ok=True)

    def kill(self) -> None:
        """End everything at once; `stop` then returns."""
        for process in self._processes.values():
            signal_all(pids_of_session(process.pid), signal.SIGKILL)

    async def _keep(self, service: Service) -> None:
        clock = asyncio.get_running_loop().time
        failures = 0
        while not self._stopping.is_set():
            began = clock()
            reason = await self._run(service)
            if self._stopping.is_set():
                return
            failures = 1 if clock() - began >= self._clocks.healthy_s else failures + 1
            pause = min(self._clocks.first_s * 2 ** (failures - 1), self._clocks.longest_s)
            self._log.line(service.name, f"{reason}; starting it again in {pause:g} s")
            if failures == _LOUD_AFTER:
                self._log.line(
                    service.name,
                    f"*** {service.name} ended {failures} times in a row. Its lines above say why; everything else goes on. ***",
                )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _run(self, service: Service) -> str:
        """Start the service and stay with it to its end; how it ended."""
        output, its_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *service.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=its_end,
                stderr=its_end,
                env=service.env,
                cwd=service.cwd,
                pass_fds=service.pass_fds,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
        except OSError as error:
            os.close(output)
            return f"cannot be started ({error})"
        finally:
            os.close(its_end)
        self._processes[service.name] = process
        self._write_record()
        if self._stopping.is_set():  # `stop` came while it was being started
            process.terminate()
        reader = asyncio.create_task(self._pump(service.name, output))
        code = await process.wait()
        # Workers that outlive their pool would go on with old code and no one to stop them.
        signal_all(pids_of_session(process.pid), signal.SIGKILL)
        await asyncio.wait([reader], timeout=1.0)  # a process of another session may hold the pipe open
        reader.cancel()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"

    async def _pump(self, name: str, output: int) -> None:
        stream = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(output, "rb", buffering=0)
        )
        rest = b""
        try:
            while chunk := await stream.read(_MAX_LINE):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > _MAX_LINE:
                    lines.append(rest)
                    rest = b""
                for line in lines:
                    self._log.line(name, line.decode(errors="replace").rstrip("\r"))
        finally:
            if rest:
                self._log.line(name, rest.decode(errors="replace"))
            transport.close()

    def _write_record(self) -> None:
        pids = [process.pid for process in self._processes.values() if process.returncode is None]
        self._record.write_text("".join(f"{pid} {started_at(pid)}\n" for pid in pids))


def end_leftovers(record: Path, marker: str) -> int:
    """End what a supervisor that was killed has left behind; how many processes that were.

    A recorded number may be another's by now: a session counts if its leader is the recorded one or, when the leader
    is gone, for those of its processes whose command holds `marker`.
    """
    try:
        lines = record.read_text().splitlines()
    except FileNotFoundError:
        return 0
    strays: list[int] = []
    for pid, ticks in ((int(pid), ticks) for pid, _, ticks in (line.partition(" ") for line in lines)):
        members = pids_of_session(pid)
        if pid not in members:
            strays += [member for member in members if marker in command_line(member)]
        elif started_at(pid) == ticks:
            strays += members
    signal_all(strays, signal.SIGKILL)
    wait_until(lambda: not any(command_line(pid) for pid in strays), 5.0)
    record.unlink()
    return len(strays)
