"""OpenAI's Responses and Chat Completions APIs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agents.apis.base import Api, Route, Usage, json_of, part, text, tokens
from agents.grants import Key

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
_ROUTES = {
    ("POST", RESPONSES): Route(is_metered=True),
    ("POST", CHAT): Route(is_metered=True),
    ("GET", "/v1/models"): Route(),
}
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


class OpenAI(Api):
    provider = "openai"
    base_url = "https://api.openai.com/v1"
    signs = (b'"usage"', b"[DONE]")
    request_headers = frozenset({"openai-beta", "originator", "session_id", "conversation_id", "version"})

    def route(self, method: str, path: str) -> Route | None:
        return _ROUTES.get((method, path))

    def authorize(self, key: Key, headers: dict[str, str]) -> None:
        headers["authorization"] = f"Bearer {key.secret}"

    def error(self, status: int, sentence: str) -> dict[str, Any]:
        kind = "invalid_request_error" if status < 500 else "server_error"
        return {"error": {"message": sentence, "type": kind, "param": None, "code": None}}

    def prepare(self, path: str, body: bytes) -> bytes:
        """Written anew, so that what was judged is what is sent: a name that stands twice could be read in two ways."""
        asked = json_of(body)
        if not isinstance(asked, dict):
            raise ValueError("The request is not a JSON object.")
        if asked.get("background"):
            raise ValueError("Requests that go on in the background are not passed on: what they take would not be counted.")
        if path == CHAT and asked.get("stream"):
            asked["stream_options"] = {**part(asked, "stream_options"), "include_usage": True}
        return json.dumps(asked).encode()

    def read(self, message: Mapping[str, Any], usage: Usage) -> None:
        kind = text(message, "type")
        if kind.startswith("response."):
            if kind in _ENDS:
                self._responses(part(message, "response"), usage)
        elif message.get("object") == "response":
            self._responses(message, usage)
        else:
            self._chat(message, usage)

    def _responses(self, response: Mapping[str, Any], usage: Usage) -> None:
        said = part(response, "usage")
        usage.model = text(response, "model") or usage.model
        usage.input_tokens = tokens(said, "input_tokens")
        usage.cached_tokens = tokens(part(said, "input_tokens_details"), "cached_tokens")
        usage.output_tokens = tokens(said, "output_tokens")
        usage.reasoning_tokens = tokens(part(said, "output_tokens_details"), "reasoning_tokens")
        usage.is_whole = True

    def _chat(self, message: Mapping[str, Any], usage: Usage) -> None:
        usage.model = text(message, "model") or usage.model
        if said := part(message, "usage"):
            usage.input_tokens = tokens(said, "prompt_tokens")
            usage.cached_tokens = tokens(part(said, "prompt_tokens_details"), "cached_tokens")
            usage.output_tokens = tokens(said, "completion_tokens")
            usage.reasoning_tokens = tokens(part(said, "completion_tokens_details"), "reasoning_tokens")
            usage.is_whole = True
