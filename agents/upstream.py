"""One request to a model provider: to an address that was judged, with TLS that is verified, no redirect followed."""

from __future__ import annotations

import asyncio
import re
import ssl
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import certifi
import httpcore

CONNECT_S, WRITE_S = 15.0, 60.0
READ_S = 600.0  # a model may think for that long without a byte
KEPT_S = 30.0  # an idle connection
MOST_ADDRESSES = 4
PORTS = {"http": 80, "https": 443}
NO_API = "The address that belongs to the key is not one of an API. Correct it under Settings → Keys."

_PATH = re.compile(r"[A-Za-z0-9._~/-]*")
_VERSION = re.compile(r"/v1(beta)?$")

# Scheme, host, port → addresses that a connection may go to, best first. OSError when there are none, NotAllowed when the
# operator does not want one there.
Resolve = Callable[[str, str, int], Awaitable[Sequence[str]]]
Headers = list[tuple[str, str]]


class NotAllowed(Exception):
    """No connection may go there; the message is a sentence."""


class Failed(Exception):
    """There is no answer, or no more of it. The message is a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Address:
    """Where a provider's API is: `path` stands before that of each request, without a slash at its end."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> Address:
        """ValueError with a sentence for what is no address of an API."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").encode("idna").decode(), parts.port
        except ValueError:
            raise ValueError(NO_API) from None
        is_plain = parts.username is None and not parts.query and not parts.fragment and _PATH.fullmatch(parts.path)
        if parts.scheme not in PORTS or not host or not is_plain:
            raise ValueError(NO_API)
        return cls(parts.scheme, host, port or PORTS[parts.scheme], parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def base_url(self) -> str:
        """As agents are told it: without the API's version, which they add."""
        return f"{self.scheme}://{self.authority}{_VERSION.sub('', self.path)}"

    def target(self, path: str, query: str) -> str:
        """`path` begins with the API's version, which an address may name too (https://api.openai.com/v1)."""
        version = path[: path.index("/", 1)]
        joined = self.path.removesuffix(version) + path
        return f"{joined}?{query}" if query else joined


@dataclass(frozen=True)
class Answer:
    """`pieces` are those of the body, decoded; Failed when it breaks off. It must be closed, also when not one was read."""

    status: int
    headers: Headers
    pieces: AsyncGenerator[bytes, None]
    response: httpcore.Response

    async def close(self) -> None:
        await self.pieces.aclose()
        await self.response.aclose()


class Upstream:
    """Connections to providers, which are kept for a while. `tls` is for those with authorities of their own."""

    def __init__(self, resolve: Resolve, *, tls: ssl.SSLContext | None = None, read_s: float = READ_S) -> None:
        self._timeout = {"connect": CONNECT_S, "read": read_s, "write": WRITE_S, "pool": CONNECT_S}
        self._pools = {
            scheme: httpcore.AsyncConnectionPool(
                ssl_context=tls or _tls(),
                max_connections=None,
                max_keepalive_connections=64,
                keepalive_expiry=KEPT_S,
                network_backend=_Judged(partial(resolve, scheme)),
            )
            for scheme in ("http", "https")
        }

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()

    async def send(self, method: str, address: Address, target: str, headers: Headers, body: bytes) -> Answer:
        """The head of the answer, as soon as it is there. Failed when there is none."""
        fields = [("Host", address.authority), *headers, ("Accept-Encoding", "identity")]
        fields += [] if method == "GET" else [("Content-Length", str(len(body)))]
        try:
            sent = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields]
        except UnicodeEncodeError:
            raise Failed(502, "The key has a character that no key can have. Enter it again under Settings → Keys.") from None
        url = httpcore.URL(scheme=address.scheme, host=address.host, port=address.port, target=target.encode("ascii"))
        request = httpcore.Request(method, url, headers=sent, content=body, extensions={"timeout": self._timeout})
        try:
            response = await self._pools[address.scheme].handle_async_request(request)
        except NotAllowed as error:
            raise Failed(502, str(error)) from None
        except httpcore.TimeoutException as error:
            raise Failed(504, f"{address.authority} did not answer in time.") from error
        except httpcore.ConnectError as error:
            raise Failed(502, f"{address.authority} cannot be reached from here.") from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise Failed(502, f"{address.authority} closed the connection without an answer.") from error
        answered = [(name.decode("ascii").lower(), value.decode("latin-1")) for name, value in response.headers]
        coding = ", ".join(value for name, value in answered if name == "content-encoding").lower()
        return Answer(response.status, answered, _pieces(response, coding, address.authority), response)


async def _pieces(response: httpcore.Response, coding: str, authority: str) -> AsyncGenerator[bytes, None]:
    try:
        decode = _decoder(coding, authority)
        async for piece in response.aiter_stream():
            if decoded := decode(piece):
                yield decoded
    except httpcore.TimeoutException as error:
        raise Failed(504, f"{authority} sent nothing more.") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, zlib.error) as error:
        raise Failed(502, f"{authority} broke off its answer.") from error


def _decoder(coding: str, authority: str) -> Callable[[bytes], bytes]:
    """We ask for none, but not everybody listens."""
    if coding in ("", "identity"):
        return bytes
    if coding in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress  # either, as its head says
    raise Failed(502, f"{authority} answered in an encoding that nobody asked for.")


def _tls() -> ssl.SSLContext:
    """The system's authorities (or SSL_CERT_FILE's), and those of Python's own collection where a system has none."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class _Judged(httpcore.AsyncNetworkBackend):
    """Connects to the very addresses that were judged."""

    def __init__(self, resolve: Callable[[str, int], Awaitable[Sequence[str]]]) -> None:
        self._resolve = resolve
        self._sockets = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 — httpcore's way
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = (await self._resolve(host, port))[:MOST_ADDRESSES]
                for address in addresses[:-1]:
                    try:
                        stream = await self._sockets.connect_tcp(address, port, CONNECT_S / len(addresses), local_address, socket_options)
                        return _Stream(stream)
                    except (httpcore.ConnectError, httpcore.ConnectTimeout):
                        continue
                if not addresses:
                    raise httpcore.ConnectError("The name has no address.")
                return _Stream(await self._sockets.connect_tcp(addresses[-1], port, timeout, local_address, socket_options))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that is closed also when it is given up in the middle of TLS's greeting, which httpcore forgets."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        try:
            return await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except asyncio.CancelledError:
            await self._stream.aclose()
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
