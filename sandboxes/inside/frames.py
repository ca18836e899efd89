"""The control protocol's framing: a 4-byte big-endian length, that many bytes of JSON (an object), then as many raw
bytes as its "size" says. Plain functions over blocking sockets; host code imports this module too."""

from __future__ import annotations

import json
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from typing import Any

LENGTH = struct.Struct(">I")
HEADER_MAX = 8 * 1024 * 1024  # bytes of JSON in one message; a turn's spec is the longest


class FrameError(Exception):
    """The peer sent what is no message of this protocol; the connection is of no use any more."""


def encode(message: Mapping[str, Any]) -> bytes:
    """Length and JSON. The raw bytes that `message["size"]` announces follow on their own."""
    body = json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    if len(body) > HEADER_MAX:
        raise FrameError(f"A control message of {len(body)} bytes is too long (at most {HEADER_MAX}).")
    return LENGTH.pack(len(body)) + body


def body_length(head: bytes) -> int:
    """The length of the JSON that follows the four bytes `head`."""
    length: int = LENGTH.unpack(head)[0]
    if length > HEADER_MAX:
        raise FrameError(f"A control message of {length} bytes is too long (at most {HEADER_MAX}).")
    return length


def decode(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FrameError("A control message is not JSON.") from error
    if not isinstance(message, dict):
        raise FrameError("A control message is not a JSON object.")
    return message


def raw_size(message: Mapping[str, Any]) -> int:
    """How many raw bytes follow the message."""
    size = message.get("size", 0)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise FrameError('"size" is not a number of bytes.')
    return size


def send(sock: socket.socket, message: Mapping[str, Any], raw: bytes = b"") -> None:
    """Send one whole message, with `raw` after it."""
    sock.sendall(encode({**message, "size": len(raw)} if raw else message))
    if raw:
        sock.sendall(raw)


def receive(sock: socket.socket) -> dict[str, Any]:
    """The next message; its raw bytes (see `raw_size`) are still to be read. EOFError when the peer has gone."""
    return decode(read_exactly(sock, body_length(read_exactly(sock, LENGTH.size))))


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """`size` bytes; EOFError when the peer closes before."""
    data = bytearray(size)
    view, have = memoryview(data), 0
    while have < size:
        count = sock.recv_into(view[have:])
        if not count:
            raise EOFError("The other side closed the connection.")
        have += count
    return bytes(data)
