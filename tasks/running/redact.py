"""Keeping secrets out of events and patches."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from tasks.models import Run
from tasks.running import model_access

MARK = "•••"
LEAST = 6  # shorter values stand in any text by chance


def _spellings(value: str) -> set[str]:
    """A secret as it is, each of its lines, and its base64."""
    found = {value, value.strip(), *(line.strip() for line in value.splitlines())}
    found.add(base64.b64encode(value.encode()).decode().rstrip("="))
    return {spelling for spelling in found if len(spelling) >= LEAST}


class Redactor:
    """Replaces the values of secrets in text; `secrets` maps names to values."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._names = {spelling: name for name, value in secrets.items() for spelling in _spellings(value)}
        longest_first = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        self._longest = len(longest_first[0]) if longest_first else 0

    def text(self, text: str) -> str:
        return self._pattern.sub(MARK, text) if self._pattern else text

    def split(self, text: str) -> tuple[str, str]:
        """What of a text that goes on can be said now, redacted, and its end with which a secret may begin."""
        safe = self.text(text)
        for size in range(min(self._longest - 1, len(safe)), 0, -1):
            if any(spelling.startswith(safe[-size:]) for spelling in self._names):
                return safe[:-size], safe[-size:]
        return safe, ""

    def data(self, value: Any) -> Any:
        """JSON with every string redacted."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.data(item) for item in value]
        if isinstance(value, dict):
            return {self.text(key): self.data(item) for key, item in value.items()}
        return value

    def found_in(self, content: bytes) -> list[str]:
        """Names of the secrets whose values stand in `content`."""
        return sorted({name for spelling, name in self._names.items() if spelling.encode() in content})


def redactor(run: Run) -> Redactor:
    """Of the secrets of a run's repository, and of the keys that could be in its sandbox."""
    return Redactor({v.name: v.value for v in run.task.repo.variables.filter(is_secret=True)} | model_access.secrets(run))
