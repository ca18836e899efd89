"""Programs with tokens, for the tests of the API."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart

from tasks import limits, tokens
from tasks.models import User

ROOT = "/api/v1"
JSON = "application/json"


async def _whole(parts: AsyncIterator[bytes]) -> bytes:
    return b"".join([part async for part in parts])


@dataclass
class Answer:
    """`body` is what came as JSON; None of an empty or other answer."""

    status: int
    body: Any
    headers: dict[str, str]
    content: bytes


class Program:
    """Asks the API with a token: `ask("POST", "/tasks", {…})`."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.client = Client(raise_request_exception=False)

    def ask(self, method: str, path: str, body: Any = None, *, key: str = "", content_type: str = JSON, **headers: str) -> Answer:
        if self.secret:
            headers.setdefault("Authorization", f"Bearer {self.secret}")
        if key:
            headers["Idempotency-Key"] = key
        path = path if path.startswith(("http", ROOT)) else ROOT + path
        data = body if isinstance(body, bytes | str) else "" if body is None else json.dumps(body)
        response = self.client.generic(method, path, data, content_type=content_type, headers=headers)
        content = async_to_sync(_whole)(response.streaming_content) if response.streaming else response.content
        is_json = "json" in response.headers.get("Content-Type", "")
        return Answer(response.status_code, json.loads(content) if is_json and content else None, dict(response.headers), content)

    def upload(self, path: str, content: bytes, name: str = "notes.txt", **more: Any) -> Answer:
        """A file, as a form has it."""
        body = encode_multipart(BOUNDARY, {"file": SimpleUploadedFile(name, content)})
        return self.ask("POST", path, body, content_type=MULTIPART_CONTENT, **more)

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.ask("POST", path, body, **more)


@pytest.fixture(autouse=True)
def own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bad tokens of each test are counted by themselves."""
    monkeypatch.setattr(limits, "TOKENS", replace(limits.TOKENS, name=secrets.token_hex(8)))


@pytest.fixture
def program() -> Callable[..., Program]:
    """A program of a user, with a token of a scope."""

    def make(user: User, scope: str = "write") -> Program:
        return Program(tokens.create_token(user=user, name=f"{scope} {user.api_tokens.count()}", scope=scope, expires_in_days=7)[1])

    return make


@pytest.fixture
def alices(alice: User, program: Callable[..., Program]) -> Program:
    return program(alice)


@pytest.fixture
def bobs(bob: User, program: Callable[..., Program]) -> Program:
    return program(bob)
