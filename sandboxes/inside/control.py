"""The control socket: many clients at once, none of which can stall the others or the supervisor."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import sys

from . import browse, frames, processes, transfer
from .loop import READ
from .patches import PatchError
from .transfer import RequestError
from .turns import is_command, is_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any, Optional

    from .loop import Future, Loop
    from .supervisor import Supervisor

CLIENTS_MAX = 64
_MESSAGE_S = 30.0  # for a message to arrive once it has begun
_TRANSFER_S = 900.0
_RUN_S = 3600.0  # no command may take longer
_CHUNK = 65536
_ENTRIES_MAX = 2_000  # of a folder in one reply
_READ_MAX = 64 * 1024 * 1024  # bytes of a file in one reply


class Client:
    """One connection. Reads never take more than the message at hand, so that raw bytes stay for whoever serves them."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._loop, self.sock, self.fd = loop, sock, sock.fileno()
        self.is_busy = False
        self.is_broken = False  # nothing that follows could be understood

    async def receive(self) -> Optional[dict[str, Any]]:
        """The next message; None when the client has gone. FrameError when it is none."""
        head = await self._exactly(1)
        if not head:
            return None
        timer = self._loop.later(_MESSAGE_S, self.hang_up)
        try:
            head += await self._exactly(frames.LENGTH.size - 1)
            if len(head) < frames.LENGTH.size:
                return None
            length = frames.body_length(head)
            body = await self._exactly(length)
            return frames.decode(body) if len(body) == length else None
        finally:
            timer.cancel()

    def send(self, reply: dict[str, Any]) -> None:
        """Replies are small: one that does not fit into the socket's buffer has a client that does not read."""
        data = frames.encode(reply)
        try:
            self.is_broken = self.sock.send(data) < len(data) or self.is_broken
        except OSError:
            self.is_broken = True

    def hang_up(self) -> None:
        self.is_broken = True
        with contextlib.suppress(OSError):  # it did so itself
            self.sock.shutdown(socket.SHUT_RDWR)

    async def _exactly(self, size: int) -> bytes:
        """`size` bytes, or fewer when the client goes."""
        data = bytearray()
        while len(data) < size:
            try:
                chunk = self.sock.recv(min(size - len(data), _CHUNK))
            except BlockingIOError:
                await self._loop.until(self.fd, READ)
                continue
            except OSError:
                break
            if not chunk:
                break
            data += chunk
        return bytes(data)


class Server:
    def __init__(self, house: Supervisor, listener: socket.socket) -> None:
        self._house, self._loop, self._listener = house, house.loop, listener
        self._clients: list[Client] = []  # the longest idle one first
        listener.setblocking(False)
        self._loop.watch(listener.fileno(), READ, self._accept)
        self._actions = {
            "ping": self._ping, "put": self._put, "get": self._get, "run": self._run, "turn": self._turn, "stop": self._stop,
            "interrupt": self._interrupt, "checkpoint": self._checkpoint, "message": self._message, "patch": self._patch,
            "shutdown": self._shutdown, "look": self._look, "read": self._read, "collect": self._collect,
        }  # fmt: skip

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:  # it has gone again, or no descriptor is free: then closing an idle client helps
            self._drop_idle()
            return
        if len(self._clients) >= CLIENTS_MAX:
            self._drop_idle()
        client = Client(self._loop, sock)
        self._clients.append(client)
        self._loop.task(self._serve(client))

    def _drop_idle(self) -> None:
        for client in self._clients:
            if not client.is_busy:
                client.hang_up()
                return

    async def _serve(self, client: Client) -> None:
        try:
            while not client.is_broken:
                request = await client.receive()
                if request is None:
                    break
                client.is_busy = True
                reply = await self._answer(client, request)
                if reply is not None:
                    client.send(reply)
                client.is_busy = False
                self._clients.remove(client)
                self._clients.append(client)
        except frames.FrameError as error:
            client.send(RequestError("bad", str(error)).reply())
        finally:
            self._clients.remove(client)
            client.sock.close()

    async def _answer(self, client: Client, request: dict[str, Any]) -> Optional[dict[str, Any]]:
        """The reply; None when it was sent already."""
        name = request.get("do")
        action = self._actions.get(name) if isinstance(name, str) else None
        if frames.raw_size(request) and name != "put":
            client.is_broken = True
            return RequestError("bad", "Only a put carries raw bytes.").reply()
        try:
            if action is None:
                raise RequestError("bad", "There is no such request.")
            return await action(client, request)
        except (RequestError, PatchError, OSError) as error:
            client.is_broken = client.is_broken or name == "put"  # its bytes are still in the way
            return transfer.refusal(error).reply()
        except Exception as error:
            sys.excepthook(type(error), error, error.__traceback__)
            client.is_broken = True
            return RequestError("failed", f"The supervisor failed: {processes.describe(error)}.").reply()

    # Requests

    async def _ping(self, client: Client, request: dict[str, Any]) -> dict[str, Any]:
        turn = self._house.turn
        return {"ok": True, "pid": os.getpid(), "turn": turn.number if turn else None, "turns": self._house.turns}

    async def _put(self, client: Client, request: dict[str, Any]) -> None:
        path, mode, size = _path(request), request.get("mode", 0o644), frames.raw_size(request)
        if not isinstance(mode, int):
            raise RequestError("bad", '"mode" is not a number.')
        await self._transfer(client, lambda connection: transfer.put(connection, path, mode, size))

    async def _get(self, client: Client, request: dict[str, Any]) -> None:
        path = _path(request)
        await self._transfer(client, lambda connection: transfer.get(connection, path))

    async def _patch(self, client: Client, request: dict[str, Any]) -> None:
        turn, kind = request.get("turn"), request.get("kind")
        if not isinstance(turn, int) or kind not in ("checkpoint", "final"):
            raise RequestError("bad", 'A patch has a "turn" and the "kind" checkpoint or final.')
        patch = self._house.patches.get(turn, kind)
        if patch is None:
            raise RequestError("missing", f"There is no {kind} patch of turn {turn}.")
        fd, size, told = patch.fd, patch.size, patch.told
        await self._transfer(client, lambda connection: transfer.send_patch(connection, fd, size, told), keep=[fd])

    async def _look(self, client: Client, request: dict[str, Any]) -> None:
        path, first, most = _below(request), _number(request, "first"), _number(request, "most")
        workspace = self._house.options.workspace
        await self._transfer(client, lambda connection: browse.look(connection, workspace, path, first, min(most, _ENTRIES_MAX)))

    async def _read(self, client: Client, request: dict[str, Any]) -> None:
        path, offset, most = _below(request), _number(request, "offset"), _number(request, "most")
        workspace = self._house.options.workspace
        await self._transfer(client, lambda connection: browse.read(connection, workspace, path, offset, min(most, _READ_MAX)))

    async def _collect(self, client: Client, request: dict[str, Any]) -> None:
        path, known = _below(request), request.get("known")
        bounds = [_number(request, name) for name in ("most_files", "most_file_bytes", "most_bytes")]
        if not isinstance(known, dict):
            raise RequestError("bad", '"known" is not an object.')
        workspace = self._house.options.workspace
        await self._transfer(client, lambda connection: browse.collect(connection, workspace, path, known, *bounds))

    async def _run(self, client: Client, request: dict[str, Any]) -> None:
        argv: Any = request.get("argv")
        timeout, env = request.get("timeout"), request.get("env", {})
        if not is_command(argv) or not is_text(env):
            raise RequestError("bad", "A run has an argv of text and an env of text.")
        if not isinstance(timeout, (int, float)) or not 0 < timeout <= _RUN_S:
            raise RequestError("bad", f"A run has a timeout of at most {_RUN_S:.0f} seconds.")
        house = self._house
        await house.runs.passed()
        env, cwd = {**house.plain_env(), **env}, house.run_folder()
        work = functools.partial(transfer.run, argv=argv, env=env, cwd=cwd, limits=house.limits, timeout=timeout)
        await self._delegate(client, work, timeout + 60)

    async def _turn(self, client: Client, request: dict[str, Any]) -> dict[str, Any]:
        return {"ok": True, "is_new": self._house.begin(request.get("spec"))}

    async def _stop(self, client: Client, request: dict[str, Any]) -> dict[str, Any]:
        if self._house.turn:
            self._house.turn.stop("stop")
        return {"ok": True}

    async def _interrupt(self, client: Client, request: dict[str, Any]) -> dict[str, Any]:
        self._house.running_step().interrupt()
        return {"ok": True}

    async def _message(self, client: Client, request: dict[str, Any]) -> dict[str, Any]:
        text = request.get("text")
        if not isinstance(text, str) or "\n" in text:
            raise RequestError("bad", "A message is one line of text.")
        refused = self._house.running_step().send(text)
        if refused:
            raise RequestError("failed", refused)
        return {"ok": True}

    async def _checkpoint(self, client: Client, request: dict[str, Any]) -> dict[str, Any]:
        if self._house.turn is None:
            raise RequestError("missing", "No turn is running.")
        await self._house.turn.checkpoint(is_asked=True)
        return {"ok": True}

    async def _shutdown(self, client: Client, request: dict[str, Any]) -> Optional[dict[str, Any]]:
        turn = await self._house.shut_down()
        try:
            patch = turn.patch if turn else None
            if turn is None or patch is None:
                client.send({"ok": True, "turn": turn.number if turn else None})
                return None
            fd, size, told = patch.fd, patch.size, {**patch.told, "turn": turn.number}
            await self._transfer(client, lambda connection: transfer.send_patch(connection, fd, size, told), keep=[fd])
            return None
        finally:
            self._loop.stop()

    # Serving in a child

    async def _transfer(self, client: Client, work: Callable[[transfer.Connection], None], keep: Collection[int] = ()) -> None:
        await self._house.transfers.passed()
        await self._delegate(client, work, _TRANSFER_S, keep, self._house.moving)

    async def _delegate(
        self,
        client: Client,
        work: Callable[[transfer.Connection], None],
        seconds: float,
        keep: Collection[int] = (),
        counted: Optional[set[Future]] = None,
    ) -> None:
        """Let a child serve the request. RequestError when it was killed before it replied; after that the connection is broken."""
        mark, into = os.pipe()
        try:
            pid = processes.fork(lambda: transfer.serve(transfer.Connection(client.sock, into), work), keep=[client.fd, into, *keep])
        except OSError:  # the sandbox has all the processes it may have
            os.close(mark)
            raise
        finally:
            os.close(into)
        left = self._loop.child(pid)

        def give_up() -> None:
            if not left.is_done:
                os.kill(pid, signal.SIGKILL)

        timer = self._loop.later(seconds, give_up)
        if counted is not None:
            counted.add(left)
        status = await left
        if counted is not None:
            counted.discard(left)
        timer.cancel()
        os.set_blocking(mark, False)
        has_replied = os.read(mark, 1) != b""
        os.close(mark)
        if status and has_replied:
            client.is_broken = True
        elif status:
            raise RequestError("failed", "It was killed before it was done.")


def _path(request: dict[str, Any]) -> str:
    path = request.get("path")
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        raise RequestError("bad", "A path is absolute.")
    return path


def _below(request: dict[str, Any]) -> str:
    path = request.get("path")
    if not isinstance(path, str):
        raise RequestError("bad", "A path in the workspace is text.")
    browse.parts(path)
    return path


def _number(request: dict[str, Any], name: str) -> int:
    number = request.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise RequestError("bad", f'"{name}" is not a number from 0 on.')
    return number
