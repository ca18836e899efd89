"""The process service of envd, as E2B's own does it: a command outlives the stream that started it, and its output is dropped
while nobody listens. Runs inside the sandbox."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
import os
import pwd
import signal
import subprocess
from collections.abc import AsyncIterator
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b.envd.process.process_pb import (
    CloseStdinRequest,
    CloseStdinResponse,
    ConnectRequest,
    ConnectResponse,
    ListRequest,
    ListResponse,
    ProcessConfig,
    ProcessEvent,
    ProcessInfo,
    ProcessInput,
    ProcessSelector,
    SendInputRequest,
    SendInputResponse,
    SendSignalRequest,
    SendSignalResponse,
    Signal,
    StartRequest,
    StartResponse,
    StreamInputRequest,
    StreamInputResponse,
)
from protobuf import Oneof

PIECE = 32 * 1024  # envd's own
REMEMBERED_S = 30.0
KEEPALIVE_S = 90.0
SPLIT_HEADER = "x-cloud-split"  # the front asks for pieces of so many bytes
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def user(headers: Any) -> pwd.struct_passwd:
    """Whom a request is made for: the name in its Authorization, or `user`. Raises ConnectError for a name nobody has."""
    name = "user"
    kind, _, value = (headers.get("authorization") or "").partition(" ")
    if kind.lower() == "basic":
        name = base64.b64decode(value).decode().partition(":")[0] or name
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise ConnectError(Code.UNAUTHENTICATED, f"invalid username: '{name}'") from None


def resolve(path: str, who: pwd.struct_passwd) -> str:
    """The absolute path that is meant: relative ones and `~` start at the user's home."""
    if path == "~" or path.startswith("~/"):
        path = who.pw_dir + path[1:]
    return os.path.normpath(os.path.join(who.pw_dir, path))


class Reaper:
    """PID 1 gets every orphan; all exits are collected here, those of our own commands are told on."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[int]] = {}
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    def exit_of(self, pid: int) -> asyncio.Future[int]:
        """Must be asked for before the loop runs again after the start, or the exit may be missed."""
        return self._waiting.setdefault(pid, asyncio.get_running_loop().create_future())

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (done := os.waitpid(-1, os.WNOHANG))[0]:
                if (future := self._waiting.pop(done[0], None)) is not None and not future.done():
                    future.set_result(done[1])


class Command:
    """One process that was started, and those who listen to it."""

    def __init__(self, config: ProcessConfig, tag: str | None, popen: subprocess.Popen[bytes]) -> None:
        self.config, self.tag, self.popen, self.pid = config, tag, popen, popen.pid
        self.end: ProcessEvent | None = None
        self.muted = asyncio.Event()
        self._listeners: set[asyncio.Queue[ProcessEvent]] = set()

    def listen(self) -> asyncio.Queue[ProcessEvent]:
        queue: asyncio.Queue[ProcessEvent] = asyncio.Queue(64)
        if self.end is not None:
            queue.put_nowait(self.end)
        else:
            self._listeners.add(queue)
        return queue

    def leave(self, queue: asyncio.Queue[ProcessEvent]) -> None:
        self._listeners.discard(queue)
        while not queue.empty():  # whoever waits to put goes on
            queue.get_nowait()

    async def say(self, event: ProcessEvent) -> None:
        """Waits for the slowest listener, as envd does: a client that does not read holds the command up."""
        for queue in list(self._listeners):
            if queue in self._listeners:
                await queue.put(event)

    def signal(self, number: int) -> None:
        """To the process itself only, not to its children; nothing of its output is passed on after this. Both as envd."""
        self.muted.set()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def write(self, data: bytes) -> None:
        if self.popen.stdin is None:
            raise ConnectError(Code.INTERNAL, "stdin not enabled or closed")
        try:
            self.popen.stdin.write(data)
            self.popen.stdin.flush()
        except OSError as error:
            raise ConnectError(Code.INTERNAL, f"error writing to stdin of process '{self.pid}': {error}") from None

    def close_stdin(self) -> None:
        if self.popen.stdin is not None:
            with contextlib.suppress(OSError):
                self.popen.stdin.close()
            self.popen.stdin = None


class Processes:
    """Implements e2b.envd.process.process_connect.Process; `environment` is what the sandbox was created with."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._reaper = Reaper()
        self._commands: dict[int, Command] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def list(self, request: ListRequest, ctx: Any) -> ListResponse:
        running = [command for command in self._commands.values() if command.end is None]
        return ListResponse(processes=[ProcessInfo(config=one.config, pid=one.pid, tag=one.tag) for one in running])

    async def start(self, request: StartRequest, ctx: Any) -> AsyncIterator[StartResponse]:
        command = self._spawn(request, user(ctx.request_headers))
        if limit := _time_limit(ctx):
            asyncio.get_running_loop().call_later(limit, self._expire, command)
        async for event in self._events(command, ctx):
            yield StartResponse(event=event)

    async def connect(self, request: ConnectRequest, ctx: Any) -> AsyncIterator[ConnectResponse]:
        async for event in self._events(self._command(request.process, is_running=False), ctx):
            yield ConnectResponse(event=event)

    async def send_input(self, request: SendInputRequest, ctx: Any) -> SendInputResponse:
        await self._put_in(self._command(request.process), request.input)
        return SendInputResponse()

    async def stream_input(self, request: AsyncIterator[StreamInputRequest], ctx: Any) -> StreamInputResponse:
        command = None
        async for message in request:
            match message.event:
                case Oneof(value=StreamInputRequest.StartEvent(process=process)):
                    command = self._command(process)
                case Oneof(value=StreamInputRequest.DataEvent(input=given)) if command is not None:
                    await self._put_in(command, given)
        return StreamInputResponse()

    async def close_stdin(self, request: CloseStdinRequest, ctx: Any) -> CloseStdinResponse:
        self._command(request.process).close_stdin()
        return CloseStdinResponse()

    async def send_signal(self, request: SendSignalRequest, ctx: Any) -> SendSignalResponse:
        if request.signal not in (Signal.SIGTERM, Signal.SIGKILL):
            raise ConnectError(Code.UNIMPLEMENTED, f"invalid signal: {request.signal}")
        self._command(request.process).signal(request.signal.value)
        return SendSignalResponse()

    async def update(self, request: Any, ctx: Any) -> Any:
        raise ConnectError(Code.UNIMPLEMENTED, "There are no terminals here.")

    def _command(self, selector: ProcessSelector | None, *, is_running: bool = True) -> Command:
        chosen = selector.selector if selector is not None else None
        for command in self._commands.values():
            if is_running and command.end is not None:
                continue
            match chosen:
                case Oneof(field="pid", value=pid) if command.pid == pid:
                    return command
                case Oneof(field="tag", value=tag) if command.tag == tag:
                    return command
        what = f"process with {chosen.field} {chosen.value}" if chosen is not None else "process"
        raise ConnectError(Code.NOT_FOUND, f"{what} not found")

    async def _put_in(self, command: Command, given: ProcessInput | None) -> None:
        match given.input if given is not None else None:
            case Oneof(field="stdin", value=data):
                await asyncio.get_running_loop().run_in_executor(None, command.write, data)
            case _:
                raise ConnectError(Code.UNIMPLEMENTED, "There are no terminals here.")

    def _spawn(self, request: StartRequest, who: pwd.struct_passwd) -> Command:
        config = request.process or ProcessConfig()
        if request.has_field("pty"):
            raise ConnectError(Code.UNIMPLEMENTED, "There are no terminals here.")
        folder = resolve(config.cwd, who)
        if not os.path.exists(folder):
            raise ConnectError(Code.INVALID_ARGUMENT, f"cwd '{folder}' does not exist")
        named = {"PATH": PATH, "HOME": who.pw_dir, "USER": who.pw_name, "LOGNAME": who.pw_name}
        has_stdin = not request.has_field("stdin") or request.stdin
        try:
            popen = subprocess.Popen(
                [config.cmd, *config.args],
                cwd=folder,
                env={**named, **self._environment, **dict(config.envs)},
                stdin=subprocess.PIPE if has_stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ConnectError(Code.INVALID_ARGUMENT, f"error starting process '{config.cmd}': {error}") from None
        command = Command(config, request.tag if request.has_field("tag") else None, popen)
        self._commands[command.pid] = command
        task = asyncio.create_task(self._follow(command, self._reaper.exit_of(command.pid)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return command

    async def _follow(self, command: Command, ended: asyncio.Future[int]) -> None:
        pipes = {"stdout": command.popen.stdout, "stderr": command.popen.stderr}
        readers = [asyncio.create_task(self._pass_on(command, name, pipe)) for name, pipe in pipes.items()]
        status = await ended
        command.popen.returncode = os.waitstatus_to_exitcode(status)  # it was not Popen that waited
        # A child that keeps the output open keeps the stream open, until a signal or the time limit ends that.
        muted = asyncio.create_task(command.muted.wait())
        output: asyncio.Future[Any] = asyncio.gather(*readers)
        either: list[asyncio.Future[Any]] = [output, muted]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        muted.cancel()
        output.cancel()
        await asyncio.gather(output, muted, return_exceptions=True)
        command.close_stdin()
        end = _event("end", _end(status))
        await command.say(end)
        command.end = end
        asyncio.get_running_loop().call_later(REMEMBERED_S, self._commands.pop, command.pid, None)

    async def _pass_on(self, command: Command, name: str, pipe: Any) -> None:
        reader = asyncio.StreamReader(limit=PIECE)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        try:
            while data := await reader.read(PIECE):
                if not command.muted.is_set():
                    await command.say(_data(name, data))
        finally:
            transport.close()

    def _expire(self, command: Command) -> None:
        if command.end is None:
            command.signal(signal.SIGKILL)

    async def _events(self, command: Command, ctx: Any) -> AsyncIterator[ProcessEvent]:
        """What a stream says. Its own time limit ends it with DEADLINE_EXCEEDED, also before the end that this brings about."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (_time_limit(ctx) or math.inf)
        pause = float(ctx.request_headers.get("keepalive-ping-interval") or KEEPALIVE_S)
        size = int(ctx.request_headers.get(SPLIT_HEADER) or 0)
        queue = command.listen()
        try:
            yield _event("start", ProcessEvent.StartEvent(pid=command.pid))
            while True:
                try:
                    event = await asyncio.wait_for(queue.get(), min(pause, max(0.0, deadline - loop.time())))
                except TimeoutError:
                    if loop.time() < deadline:
                        yield _event("keepalive", ProcessEvent.KeepAlive())
                        continue
                    raise ConnectError(Code.DEADLINE_EXCEEDED, "context deadline exceeded") from None
                if loop.time() >= deadline:
                    raise ConnectError(Code.DEADLINE_EXCEEDED, "context deadline exceeded")
                for part in _split(event, size):
                    yield part
                if event.event is not None and event.event.field == "end":
                    return
        finally:
            command.leave(queue)


def _time_limit(ctx: Any) -> float:
    """In seconds; 0 is none."""
    return int(ctx.request_headers.get("connect-timeout-ms") or 0) / 1000


def _event(name: Any, value: Any) -> ProcessEvent:
    return ProcessEvent(event=Oneof(name, value))


def _data(name: Any, data: bytes) -> ProcessEvent:
    return _event("data", ProcessEvent.DataEvent(output=Oneof(name, data)))


def _split(event: ProcessEvent, size: int) -> list[ProcessEvent]:
    match event.event:
        case Oneof(field="data", value=ProcessEvent.DataEvent(output=Oneof(field=name, value=data))) if size:
            return [_data(name, data[at : at + size]) for at in range(0, len(data), size)]
    return [event]


def _end(status: int) -> ProcessEvent.EndEvent:
    """In Go's words: -1 is the exit code of a process that a signal ended."""
    if os.WIFSIGNALED(status):
        said = f"signal: {_SIGNALS.get(os.WTERMSIG(status), os.WTERMSIG(status))}"
        return ProcessEvent.EndEvent(exit_code=-1, exited=False, status=said, error=said)
    code = os.waitstatus_to_exitcode(status)
    said = f"exit status {code}"
    return ProcessEvent.EndEvent(exit_code=code, exited=True, status=said, error=said if code else None)


_SIGNALS: dict[int, str] = {signal.SIGKILL: "killed", signal.SIGTERM: "terminated", signal.SIGINT: "interrupt", signal.SIGHUP: "hangup"}
