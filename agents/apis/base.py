"""What is particular to a provider's API: its paths, its ways to show a key and to say an error, and where it tells usage."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents.grants import Key

MOST_TOKENS = 10**12


@dataclass(frozen=True)
class Route:
    """A request that may be made. `is_metered`: it is answered by a model, and paid for. `model`: the path names it."""

    is_metered: bool = False
    model: str = ""


@dataclass
class Usage:
    """What an answer has said of itself so far; the tokens as in `agents.grants.Call`."""

    model: str = ""
    is_whole: bool = False
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


class Api(ABC):
    provider: str
    base_url: str
    signs: tuple[bytes, ...]  # a message of a stream without any of these tells nothing of usage
    request_headers: frozenset[str] = frozenset()  # that go on, besides those of every API
    parameters: frozenset[str] = frozenset()  # of the query that go on

    @abstractmethod
    def route(self, method: str, path: str) -> Route | None:
        """What may be asked; None for everything else. `path` begins with the API's version."""

    @abstractmethod
    def authorize(self, key: Key, headers: dict[str, str]) -> None:
        """Put the key into the headers, the provider's way."""

    @abstractmethod
    def error(self, status: int, sentence: str) -> dict[str, Any]:
        """An error as the provider would say it: the agents' programs show the sentence then."""

    @abstractmethod
    def read(self, message: Mapping[str, Any], usage: Usage) -> None:
        """Learn from one message of a stream, or from a whole answer. Whatever is odd in it is passed over."""

    def prepare(self, path: str, body: bytes) -> bytes:
        """The body as it goes out. ValueError with a sentence for one that must not."""
        return body


def json_of(data: bytes) -> Any:
    """The value of a JSON text; None for what is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def part(value: Any, *keys: str) -> Mapping[str, Any]:
    """A JSON object within others; empty when it is not there."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def tokens(value: Mapping[str, Any], key: str) -> int:
    count = value.get(key)
    return min(max(count, 0), MOST_TOKENS) if isinstance(count, int) and not isinstance(count, bool) else 0


def text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else ""
