"""Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.apis.base import Api, Route, Usage, part, text, tokens
from agents.grants import Key

OAUTH = "oauth-2025-04-20"  # what a subscription's token needs beside itself
_ROUTES = {
    ("POST", "/v1/messages"): Route(is_metered=True),
    ("POST", "/v1/messages/count_tokens"): Route(),
    ("GET", "/v1/models"): Route(),
}
_KINDS = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error"}


class Anthropic(Api):
    provider = "anthropic"
    base_url = "https://api.anthropic.com"
    signs = (b'"usage"', b"message_stop")
    request_headers = frozenset({"anthropic-version", "anthropic-beta", "anthropic-dangerous-direct-browser-access", "x-app"})
    parameters = frozenset({"beta", "limit", "after_id", "before_id"})

    def route(self, method: str, path: str) -> Route | None:
        return _ROUTES.get((method, path))

    def authorize(self, key: Key, headers: dict[str, str]) -> None:
        if not key.is_subscription:
            headers["x-api-key"] = key.secret
            return
        headers["authorization"] = f"Bearer {key.secret}"
        betas = [beta.strip() for beta in headers.get("anthropic-beta", "").split(",") if beta.strip()]
        headers["anthropic-beta"] = ",".join(dict.fromkeys([*betas, OAUTH]))

    def error(self, status: int, sentence: str) -> dict[str, Any]:
        return {"type": "error", "error": {"type": _KINDS.get(status, "api_error"), "message": sentence}}

    def read(self, message: Mapping[str, Any], usage: Usage) -> None:
        match message.get("type"):
            case "message":  # a whole answer
                self._count(message, usage)
                usage.is_whole = True
            case "message_start":
                self._count(part(message, "message"), usage)
            case "message_delta":  # its figures are those of the whole message until now
                self._count(message, usage)
            case "message_stop":
                usage.is_whole = True

    def _count(self, message: Mapping[str, Any], usage: Usage) -> None:
        said = part(message, "usage")
        usage.model = text(message, "model") or usage.model
        if said.get("input_tokens") is not None:
            usage.cached_tokens = tokens(said, "cache_read_input_tokens")
            usage.cache_write_tokens = tokens(said, "cache_creation_input_tokens")
            usage.input_tokens = tokens(said, "input_tokens") + usage.cached_tokens + usage.cache_write_tokens
        usage.output_tokens = tokens(said, "output_tokens") or usage.output_tokens
