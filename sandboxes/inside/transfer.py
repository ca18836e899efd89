"""Requests that carry bulk. Each is served by a forked child which owns the client's connection until it exits: a slow
client stalls nobody, no bulk passes through the supervisor's memory, and the child has no descriptor worth reaching."""

from __future__ import annotations

import os
import signal

from . import frames, kernel, processes
from .loop import READ, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from .limits import Limits

STALLED_S = 60.0  # a client that takes or gives nothing for so long is gone
RUN_OUTPUT_MAX = 16 * 1024 * 1024
_CHUNK = 256 * 1024
_KILL_S = 5.0
_PIPE_READS = 64


class RequestError(Exception):
    """A request that cannot be served: `code` is one of the protocol's words, the text a sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def reply(self) -> dict[str, Any]:
        return {"ok": False, "error": self.code, "message": str(self)}


def refusal(error: BaseException) -> RequestError:
    if isinstance(error, RequestError):
        return error
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return RequestError("missing", f"{processes.describe(error)}.")
    if isinstance(error, PermissionError):
        return RequestError("denied", f"{processes.describe(error)}.")
    return RequestError("failed", f"{processes.describe(error)}.")


class Connection:
    """A client's connection in the child that serves one request: blocking, each wait bounded by STALLED_S.

    `mark` is a pipe that gets one byte before the reply: should this child be killed, its parent knows whether a reply
    of its own can still be understood.
    """

    def __init__(self, sock: socket.socket, mark: int) -> None:
        sock.settimeout(STALLED_S)
        self._sock, self._mark = sock, mark

    def reply(self, message: Mapping[str, Any], raws: Sequence[bytes] = ()) -> None:
        os.write(self._mark, b"r")
        self._sock.sendall(frames.encode(message))
        for raw in raws:
            self._sock.sendall(raw)

    def send_file(self, fd: int, size: int) -> None:
        """Exactly `size` bytes of a file from its beginning. EOFError when it has shrunk: the reply is broken."""
        at = 0
        while at < size:
            chunk = os.pread(fd, min(_CHUNK, size - at), at)
            if not chunk:
                raise EOFError("The file shrank while it was sent.")
            self._sock.sendall(chunk)
            at += len(chunk)

    def incoming(self, size: int) -> Iterator[bytes]:
        while size > 0:
            chunk = self._sock.recv(min(_CHUNK, size))
            if not chunk:
                raise EOFError("The client left in the middle of a file.")
            size -= len(chunk)
            yield chunk


def serve(connection: Connection, work: Callable[[Connection], None]) -> None:
    """In the child: do the work; what fails before the reply becomes the reply."""
    try:
        work(connection)
    except (RequestError, OSError, RuntimeError) as error:
        if isinstance(error, (ConnectionError, TimeoutError)):
            raise
        connection.reply(refusal(error).reply())


def put(connection: Connection, path: str, mode: int, size: int) -> None:
    incoming = connection.incoming(size)
    try:
        processes.write_file(path, mode, incoming)
    except OSError:
        for _ in incoming:  # the reply comes after the whole request
            pass
        raise
    connection.reply({"ok": True})


def get(connection: Connection, path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    size = processes.require_regular(fd, path)
    connection.reply({"ok": True, "size": size})
    connection.send_file(fd, size)


def send_patch(connection: Connection, fd: int, size: int, told: Mapping[str, Any]) -> None:
    connection.reply({"ok": True, **told, "size": size})
    connection.send_file(fd, size)


def run(connection: Connection, argv: Sequence[str], env: Mapping[str, str], cwd: str, limits: Limits, timeout: float) -> None:
    """A bounded command. Whatever it left behind is killed at its end; a killed command has minus its signal as code."""
    kernel.adopt_orphans()
    loop = Loop()
    loop.take_children()
    running = loop.task(_command(loop, lambda: processes.become(argv, env, cwd, limits), timeout))
    running.then(loop.stop)
    loop.run()
    status, is_timed_out, (stdout, stderr, fault) = running.value()
    if fault:
        raise RequestError("failed", fault.decode("utf-8", "replace"))
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
    message = {"ok": True, "code": code, "is_timed_out": is_timed_out, "stdout": len(stdout), "size": len(stdout) + len(stderr)}
    connection.reply(message, [stdout, stderr])


async def _command(loop: Loop, main: Callable[[], object], seconds: float) -> tuple[int, bool, list[bytes]]:
    pipes = [os.pipe() for _ in range(3)]
    pid = processes.fork(main, stdout=pipes[0][1], stderr=pipes[1][1], fault=pipes[2][1], is_leader=True)
    sinks = []
    for source, into in pipes:
        os.close(into)
        sinks.append(_Sink(loop, source))
    left = loop.child(pid)
    is_timed_out = not await loop.within(left, seconds)
    if is_timed_out:
        processes.kill_group(pid, signal.SIGKILL)
    status = await left
    await processes.kill_all(loop, _KILL_S)
    return status, is_timed_out, [sink.rest() for sink in sinks]


class _Sink:
    """What a pipe gives: the first RUN_OUTPUT_MAX bytes are kept, the rest is read and dropped."""

    def __init__(self, loop: Loop, fd: int) -> None:
        self._loop, self._fd, self._data = loop, fd, bytearray()
        os.set_blocking(fd, False)
        loop.watch(fd, READ, self._read)

    def _read(self) -> bool:
        try:
            chunk = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return False
        self._data += chunk[: RUN_OUTPUT_MAX - len(self._data)]
        if not chunk:
            self._loop.unwatch(self._fd, READ)
        return bool(chunk)

    def rest(self) -> bytes:
        """All that was written, when the writers are gone: at most what a pipe holds is still to be read."""
        for _ in range(_PIPE_READS):
            if not self._read():
                break
        return bytes(self._data)
