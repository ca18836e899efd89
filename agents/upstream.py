"""The providers' model APIs as we reach them: where they are, how a key is shown, and connections to judged addresses only.

Shared by the broker and the check of a key. Names are looked up here and every address is judged by the caller, so that what is
connected to is what was judged, whatever a name leads to a moment later.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpcore
import httpx

from agents.adapters.base import Provider

PUBLIC = {
    Provider.ANTHROPIC: "https://api.anthropic.com",
    Provider.OPENAI: "https://api.openai.com",
    Provider.GEMINI: "https://generativelanguage.googleapis.com",
}
VERSIONS = {Provider.ANTHROPIC: "/v1", Provider.OPENAI: "/v1", Provider.GEMINI: "/v1beta"}
CHECKS = {Provider.ANTHROPIC: "/v1/models?limit=1", Provider.OPENAI: "/v1/models", Provider.GEMINI: "/v1beta/models?pageSize=1"}
ANTHROPIC_VERSION = "2023-06-01"
SUBSCRIPTION_BETA = "oauth-2025-04-20"  # Anthropic takes a subscription's token only with this in `anthropic-beta`
MOST_SAID = 64 * 1024  # bytes of an answer to a check that are read

Judge = Callable[[str, int, Sequence[str]], Sequence[str]]
"""Host, port, the addresses found → those that may be connected to; raises what the caller wants when there are none."""


def base_of(provider: Provider, base_url: str) -> str:
    """Where a provider's API begins, without slash and version, as ModelAccess has it; "" is the provider's own address.

    Programs differ in whether the version belongs to it (OPENAI_BASE_URL usually has it): both are understood.
    """
    return base_url.rstrip("/").removesuffix(VERSIONS[provider]).rstrip("/") or PUBLIC[provider]


def key_headers(provider: Provider, secret: str, *, is_subscription: bool = False) -> dict[str, str]:
    """The headers that show a key, names in lower case. A subscription's also need SUBSCRIPTION_BETA in `anthropic-beta`."""
    if provider is Provider.ANTHROPIC and not is_subscription:
        return {"x-api-key": secret}
    return {"x-goog-api-key": secret} if provider is Provider.GEMINI else {"authorization": f"Bearer {secret}"}


class Judged(httpcore.AsyncNetworkBackend):
    """Connects to addresses that `judge` allows, one after the other until one answers."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 — the signature is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} cannot be found") from error
        refused: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in self._judge(host, port, list(dict.fromkeys(str(entry[4][0]) for entry in found))):
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                refused = error
        raise refused


@cache
def ssl_context() -> ssl.SSLContext:
    """The usual authorities, or those that SSL_CERT_FILE names."""
    return httpx.create_ssl_context()


def pool(judge: Judge, **options: Any) -> httpcore.AsyncConnectionPool:
    """Connections that are made as `Judged` says, never through a proxy, and follow no redirect; HTTP/1.1."""
    return httpcore.AsyncConnectionPool(ssl_context=ssl_context(), network_backend=Judged(judge), **options)


@dataclass(frozen=True)
class Answer:
    """What a provider said to a check: the status of HTTP, the beginning of the body."""

    status: int
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body, empty when it is no JSON object."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def is_refusal(self) -> bool:
        """Whether the key itself was refused. Google answers 400 to a key that it does not know."""
        return self.status in (401, 403) or (self.status == 400 and b"API_KEY_INVALID" in self.body)

    @property
    def said(self) -> str:
        """The sentence of an error, on one line; "" without one."""
        error = self.json.get("error")
        message = error.get("message") if isinstance(error, dict) else error
        return " ".join(message.split()) if isinstance(message, str) else ""


async def ask(provider: Provider, base_url: str, secret: str, judge: Judge, *, is_subscription: bool = False) -> Answer:
    """One cheap request that needs the key: the list of models. Errors are httpcore's, OSError, and those of `judge`."""
    headers = key_headers(provider, secret, is_subscription=is_subscription) | {"accept": "application/json", "user-agent": "asynccode"}
    if provider is Provider.ANTHROPIC:
        headers["anthropic-version"] = ANTHROPIC_VERSION
        if is_subscription:
            headers["anthropic-beta"] = SUBSCRIPTION_BETA
    address = base_of(provider, base_url) + CHECKS[provider]
    async with pool(judge) as connections, connections.stream("GET", address, headers=list(headers.items())) as response:
        body = bytearray()
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) >= MOST_SAID:
                break
        return Answer(response.status, bytes(body[:MOST_SAID]))
