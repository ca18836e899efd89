"""Whether a provider takes a key: one cheap request that needs it, the list of models."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from agents.apis.registry import APIS
from agents.grants import Key
from agents.upstream import Address, Resolve, Upstream

TARGETS = {"anthropic": ("/v1/models", "limit=1"), "openai": ("/v1/models", ""), "gemini": ("/v1beta/models", "pageSize=1")}
ANTHROPIC_VERSION = "2023-06-01"
MOST_SAID = 64 * 1024  # bytes of an answer that are read


@dataclass(frozen=True)
class Reply:
    """What a provider said: the status of HTTP, and the beginning of the body."""

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


async def check(key: Key, resolve: Resolve) -> Reply:
    """Ask the provider of this key, or whoever is at its address. `agents.upstream.Failed` when there is no answer, ValueError
    when the address is none, and what `resolve` raises besides OSError."""
    api = APIS[key.provider]
    address = Address.of(key.base_url or api.base_url)
    headers = {"accept": "application/json", "user-agent": "asynccode"}
    if key.provider == "anthropic":
        headers["anthropic-version"] = ANTHROPIC_VERSION
    api.authorize(key, headers)
    upstream = Upstream(resolve)
    try:
        answer = await upstream.send("GET", address, address.target(*TARGETS[key.provider]), list(headers.items()), b"")
        try:
            body = bytearray()
            async for piece in answer.pieces:
                body += piece
                if len(body) >= MOST_SAID:
                    break
        finally:
            await answer.close()
        return Reply(answer.status, bytes(body[:MOST_SAID]))
    finally:
        await upstream.close()
