"""The bridge: from a loopback port inside the sandbox to the gateway's socket, in a child of the supervisor.

A gateway that is missing or being replaced is waited for: connections made meanwhile are held. Bytes are passed both
ways until both sides have said they are done.
"""

from __future__ import annotations

import contextlib
import socket
import time

from .loop import READ, WRITE, Loop

CONNECTIONS_MAX = 256
_RETRY_S = (0.05, 0.5)  # the first and the longest pause between two tries
_CHUNK = 65536
_NOBODY = b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nThe sandbox's gateway is not running.\n"


def serve(listener: socket.socket, gateway: str, hold_s: float) -> None:
    """Accept on `listener` for ever; hold a connection for at most `hold_s` seconds while nobody is at `gateway`."""
    loop = Loop()
    loop.task(_Bridge(loop, listener, gateway, hold_s).accept())
    loop.run()


class _Bridge:
    def __init__(self, loop: Loop, listener: socket.socket, gateway: str, hold_s: float) -> None:
        self._loop, self._listener, self._gateway, self._hold_s = loop, listener, gateway, hold_s
        self._count = 0
        self._room = loop.future()

    async def accept(self) -> None:
        while True:
            if self._count >= CONNECTIONS_MAX:
                self._room = self._loop.future()
                await self._room
            await self._loop.until(self._listener.fileno(), READ)
            try:
                inner, _ = self._listener.accept()
            except OSError:  # it has gone again
                continue
            self._count += 1
            self._loop.task(self._connect(inner))

    async def _connect(self, inner: socket.socket) -> None:
        inner.setblocking(False)
        try:
            outer = await self._reach()
            if outer is None:
                inner.send(_NOBODY)
            else:
                try:
                    there = self._loop.task(self._pass_on(inner, outer))
                    await self._pass_on(outer, inner)
                    await there
                finally:
                    outer.close()
        except OSError:  # the other end of `inner` is gone: nobody to tell
            pass
        finally:
            inner.close()
            self._count -= 1
            self._room.set()

    async def _reach(self) -> socket.socket | None:
        until, pause = time.monotonic() + self._hold_s, _RETRY_S[0]
        while True:
            outer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            outer.setblocking(False)
            try:
                outer.connect(self._gateway)
                return outer
            except OSError:  # missing, refusing, or its queue is full
                outer.close()
            if time.monotonic() >= until:
                return None
            await self._loop.sleep(pause)
            pause = min(2 * pause, _RETRY_S[1])

    async def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        """All bytes of `source`, then its end; when either breaks, both directions end."""
        try:
            while True:
                try:
                    data = memoryview(source.recv(_CHUNK))
                except BlockingIOError:
                    await self._loop.until(source.fileno(), READ)
                    continue
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                while data:
                    try:
                        data = data[sink.send(data) :]
                    except BlockingIOError:
                        await self._loop.until(sink.fileno(), WRITE)
        except OSError:
            for each in (source, sink):
                _break(each)


def _break(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # broken already
        sock.shutdown(socket.SHUT_RDWR)
