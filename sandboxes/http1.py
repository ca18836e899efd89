"""HTTP/1.1 on asyncio streams, as strictly as a proxy must read it: what two programs might read in two ways is refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

CHUNK = 64 * 1024
MAX_HEAD = 64 * 1024
MAX_HEADERS = 256
MAX_BODY = 64 * 1024**3

Headers = list[tuple[bytes, bytes]]
Count = Callable[[int], None]

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e\x80-\xff]+) HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):([\t\x20-\x7e\x80-\xff]*)")
_URL = re.compile(rb"(?i:http)://([^/?#]*)(/[^#]*|\?[^#]*)?")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"te", b"trailer", b"upgrade"})
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"host"})  # never dropped because Connection names them


class ProxyError(Exception):
    """The request ends here with this HTTP status; the message is a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Body(NamedTuple):
    """How long a body is: `length` bytes, chunks, or (neither) until the connection ends."""

    length: int | None
    is_chunked: bool = False


NO_BODY = Body(0)
UNTIL_END = Body(None)


def parse_headers(lines: Sequence[bytes]) -> Headers:
    """Raises ValueError with a sentence on anything that two programs might read in two ways."""
    headers = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise ValueError("A header line is folded, has no name, or has a character that is not allowed.")
        headers.append((match[1], match[2].strip(b" \t")))
    return headers


def body_of(headers: Headers, *, otherwise: Body) -> Body:
    """The body's framing. Raises ValueError when it is said twice, or in a way that is not understood everywhere."""
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    codings = [value for name, value in headers if name.lower() == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        raise ValueError("The length of the body is given more than once.")
    if codings:
        if codings[0].lower() != b"chunked":
            raise ValueError("The only Transfer-Encoding understood is chunked.")
        return Body(None, is_chunked=True)
    if lengths:
        if not lengths[0].isdigit():
            raise ValueError("Content-Length is not a plain number.")
        return Body(int(lengths[0][:20]))
    return otherwise


def connection_options(headers: Headers) -> set[bytes]:
    return {option.strip().lower() for name, value in headers if name.lower() == b"connection" for option in value.split(b",")}


def passed_on(headers: Headers, *, without: frozenset[bytes] = frozenset()) -> Headers:
    """The headers that are the other end's business: none of a single connection's, none meant for a proxy."""
    dropped = _HOP_BY_HOP | without | (connection_options(headers) - _FRAMING)
    return [(name, value) for name, value in headers if name.lower() not in dropped and not name.lower().startswith(b"proxy-")]


def render(first_line: bytes, headers: Headers) -> bytes:
    return b"\r\n".join([first_line, *(name + b": " + value for name, value in headers), b"", b""])


@dataclass(frozen=True)
class Request:
    method: str
    target: bytes
    is_http_11: bool
    headers: Headers
    body: Body

    @classmethod
    def parse(cls, head: bytes) -> Request:
        """`head` ends with the empty line. Raises ProxyError."""
        first, *lines = head[:-4].split(b"\r\n")
        match = _REQUEST_LINE.fullmatch(first)
        if match is None:
            raise ProxyError(400, "The request line is not that of an HTTP/1.1 or HTTP/1.0 request.")
        if len(lines) > MAX_HEADERS:
            raise ProxyError(431, f"There are more than {MAX_HEADERS} header lines.")
        try:
            headers = parse_headers(lines)
            body = body_of(headers, otherwise=NO_BODY)
        except ValueError as error:
            raise ProxyError(400, str(error)) from None
        is_http_11 = match[3] == b"1"
        hosts = sum(name.lower() == b"host" for name, _ in headers)
        if hosts > 1 or (is_http_11 and not hosts):
            raise ProxyError(400, "An HTTP/1.1 request has exactly one Host header.")
        if body.is_chunked and not is_http_11:
            raise ProxyError(400, "An HTTP/1.0 request has no Transfer-Encoding.")
        if body.length is not None and body.length > MAX_BODY:
            raise ProxyError(413, f"A body may be {MAX_BODY // 1024**3} GiB long at most.")
        return cls(match[1].decode(), match[2], is_http_11, headers, body)

    def split_url(self) -> tuple[bytes, bytes]:
        """The authority of an http:// target, and what the origin server is asked for. Raises ProxyError."""
        match = _URL.fullmatch(self.target)
        if match is None:
            raise ProxyError(400, "A proxy request is CONNECT host:port, or names a URL that begins with http:// and has no fragment.")
        path = match[2] or b"/"
        return match[1], path if path.startswith(b"/") else b"/" + path


@dataclass(frozen=True)
class Response:
    line: bytes
    is_interim: bool
    headers: Headers
    body: Body

    @classmethod
    def parse(cls, head: bytes, method: str) -> Response:
        """`head` ends with the empty line and answers a request of `method`. Raises ValueError."""
        line, *lines = head[:-4].split(b"\r\n")
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise ValueError("The status line is not that of an HTTP/1.1 answer.")
        headers, status = parse_headers(lines), int(match[1])
        if status == 101:
            raise ValueError("The connection was switched to another protocol, which nobody asked for.")
        body = body_of(headers, otherwise=UNTIL_END)
        if method == "HEAD" or status < 200 or status in (204, 304):
            body = NO_BODY
        return cls(b"HTTP/1.1" + line[8:], status < 200, headers, body)


async def copy(source: asyncio.StreamReader, to: asyncio.StreamWriter, count: Count, length: int | None = None) -> None:
    """Stream `length` bytes, or all there are; EOFError when the source ends before."""
    left = length
    while left is None or left > 0:
        data = await source.read(CHUNK if left is None else min(left, CHUNK))
        if not data:
            if left is None:
                return
            raise EOFError("The body ended too early.")
        to.write(data)
        await to.drain()
        count(len(data))
        if left is not None:
            left -= len(data)


async def copy_body(source: asyncio.StreamReader, to: asyncio.StreamWriter, count: Count, body: Body) -> None:
    """Stream a body; chunks are written anew, without extensions and trailers. ValueError on a malformed one."""
    if not body.is_chunked:
        await copy(source, to, count, body.length)
        return
    async for size in _chunks(source):
        to.write(b"%x\r\n" % size)
        await copy(source, to, count, size)
        to.write(b"\r\n")
    to.write(b"0\r\n\r\n")
    await to.drain()


async def read_body(source: asyncio.StreamReader, body: Body, count: Count) -> bytes:
    """A whole body, of which `count` is told as it comes and may have enough. ValueError on a malformed one."""
    data = bytearray()

    async def read(length: int) -> None:
        while length > 0:
            piece = await source.read(min(length, CHUNK))
            if not piece:
                raise EOFError("The body ended too early.")
            count(len(piece))
            data.extend(piece)
            length -= len(piece)

    if body.length is not None:
        await read(body.length)
    else:
        async for size in _chunks(source):
            await read(size)
    return bytes(data)


async def _chunks(source: asyncio.StreamReader) -> AsyncIterator[int]:
    """The size of each chunk, whose data is to be read before the next is asked for; trailers are passed over."""
    try:
        total = 0
        while True:
            match = _CHUNK_LINE.fullmatch(await source.readuntil(b"\r\n"))
            if match is None:
                raise ValueError("A chunk's size is not a hexadecimal number.")
            size = int(match[1], 16)
            total += size
            if total > MAX_BODY:
                raise ValueError(f"A body may be {MAX_BODY // 1024**3} GiB long at most.")
            if size == 0:
                break
            yield size
            if await source.readexactly(2) != b"\r\n":
                raise ValueError("A chunk is longer than its size.")
        for _ in range(MAX_HEADERS):  # trailers
            if await source.readuntil(b"\r\n") == b"\r\n":
                return
        raise ValueError("There are too many trailers.")
    except asyncio.LimitOverrunError:
        raise ValueError("A line between chunks is too long.") from None
