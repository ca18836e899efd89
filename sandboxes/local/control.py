"""The host's side of the control channel (the protocol is in `sandboxes.inside`)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

from sandboxes.errors import SandboxGone
from sandboxes.supervised import checked, within

_LENGTH = struct.Struct(">I")
_BACKLOG = 128
_MIB = 1024 * 1024
_CHUNK = _MIB
_HEADER_MAX = 8 * _MIB


def listen(folder: Path, name: str) -> socket.socket:
    """A listening socket at folder/name, replacing an older one. Only this account can connect.
    The path may be longer than the 107 bytes an address holds."""
    with _directory(folder) as directory:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory.fd)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(directory.path(name))
        listener.listen(_BACKLOG)
        return listener


async def request(address: Path, message: dict[str, Any], payload: bytes = b"", *, timeout_s: float) -> tuple[dict[str, Any], bytes]:
    """One request to the supervisor behind the socket `address`: its reply and the reply's payload.

    Raises SandboxGone when nobody listens there or no reply comes within `timeout_s` seconds, FileMissing and
    SandboxError when the supervisor refuses."""
    try:
        async with asyncio.timeout(timeout_s):
            reply, content = await _exchange(address, message, payload)
    except TimeoutError:
        raise SandboxGone(f"The sandbox did not answer “{message['do']}” within {timeout_s:g} seconds.") from None
    except (ConnectionError, FileNotFoundError, asyncio.IncompleteReadError):
        raise SandboxGone("The sandbox is not running: nothing answers its control socket.") from None
    return checked(message["do"], reply), content


async def _exchange(address: Path, message: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
    with _directory(address.parent) as directory:
        reader, writer = await asyncio.open_unix_connection(directory.path(address.name), limit=_CHUNK)
    try:
        header = json.dumps({**message, "size": len(payload)} if payload else message).encode()
        # Refused, it may answer and hang up before it has read all: the answer is what counts then.
        with contextlib.suppress(ConnectionError):
            writer.write(_LENGTH.pack(len(header)) + header)
            view = memoryview(payload)
            for start in range(0, len(view), _CHUNK):  # drained in pieces: a big file is not copied into the buffer whole
                writer.write(view[start : start + _CHUNK])
                await writer.drain()
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        reply = json.loads(await reader.readexactly(within(length, _HEADER_MAX)))
        return reply, await reader.readexactly(within(reply.get("size", 0)))
    finally:
        writer.close()


class _directory:  # noqa: N801 - a context manager, used like a function
    """An open folder; `path(name)` is a short path to an entry of it for as long as it is open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> _directory:
        self.fd = os.open(self.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self.fd)

    def path(self, name: str) -> str:
        return f"/proc/self/fd/{self.fd}/{name}"
