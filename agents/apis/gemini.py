"""Google's Gemini API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agents.apis.base import Api, Route, Usage, part, text, tokens
from agents.grants import Key

_PATH = re.compile(r"/v1(?:beta)?/models/([A-Za-z0-9._-]{1,120}):(generateContent|streamGenerateContent|countTokens)")
_STATES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 503: "UNAVAILABLE"}


class Gemini(Api):
    provider = "gemini"
    base_url = "https://generativelanguage.googleapis.com"
    signs = (b'"usageMetadata"', b'"finishReason"')
    request_headers = frozenset({"x-goog-api-client"})
    parameters = frozenset({"alt"})

    def route(self, method: str, path: str) -> Route | None:
        match = _PATH.fullmatch(path)
        if method != "POST" or match is None:
            return None
        return Route(is_metered=match[2] != "countTokens", model=match[1])

    def authorize(self, key: Key, headers: dict[str, str]) -> None:
        headers["x-goog-api-key"] = key.secret

    def error(self, status: int, sentence: str) -> dict[str, Any]:
        return {"error": {"code": status, "message": sentence, "status": _STATES.get(status, "INTERNAL")}}

    def read(self, message: Mapping[str, Any], usage: Usage) -> None:
        usage.model = text(message, "modelVersion") or usage.model
        if said := part(message, "usageMetadata"):  # of the whole answer until now
            usage.input_tokens = tokens(said, "promptTokenCount") + tokens(said, "toolUsePromptTokenCount")
            usage.cached_tokens = tokens(said, "cachedContentTokenCount")
            usage.reasoning_tokens = tokens(said, "thoughtsTokenCount")
            usage.output_tokens = tokens(said, "candidatesTokenCount") + usage.reasoning_tokens
        candidates = message.get("candidates")
        if isinstance(candidates, list) and any(isinstance(one, Mapping) and one.get("finishReason") for one in candidates):
            usage.is_whole = True
