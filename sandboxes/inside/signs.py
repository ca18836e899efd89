"""What a step says of its own end: lines of its output that mean that the work is done, or that it goes on after all."""

from __future__ import annotations

import json
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any, Optional

_PLAIN = re.compile(r"[A-Za-z0-9_.: -]+")  # written alike by every encoder of JSON


class Signs:
    """`ends_on` and `goes_on` are patterns: a line that is a JSON object matches one when it has all its members, objects
    in it again by those of their members that the pattern names. `linger_s` is how long a step that has ended its work may
    be quiet before it is ended."""

    def __init__(self, ends_on: Sequence[Mapping[str, Any]], goes_on: Sequence[Mapping[str, Any]], linger_s: float) -> None:
        self.linger_s = linger_s
        given = [(True, ends_on), (False, goes_on)]
        self._patterns = [(is_done, _hint(pattern), pattern) for is_done, patterns in given for pattern in patterns]

    def read(self, lines: Iterable[tuple[bytes, int]]) -> Optional[bool]:
        """Whether the work is done by the last of these lines that tells; None when none does. A line that was cut tells
        nothing."""
        verdict = None
        for line, cut in lines:
            if cut:
                continue
            likely = [(is_done, pattern) for is_done, hint, pattern in self._patterns if hint in line]  # a flood is not parsed
            if not likely:
                continue
            try:
                said = json.loads(line.decode("utf-8", "replace"))
            except (ValueError, RecursionError):
                continue
            for is_done, pattern in likely:
                if _has(said, pattern):
                    verdict = is_done
        return verdict


def _has(said: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(said, dict) and all(name in said and _has(said[name], value) for name, value in wanted.items())
    is_flag = isinstance(wanted, bool)  # which Python takes for a number
    return isinstance(said, bool) == is_flag and bool(said == wanted)


def _hint(pattern: Mapping[str, Any]) -> bytes:
    """What a line that matches holds in any case: the pattern's longest string, or its longest name."""
    for strings in (_values(pattern), _names(pattern)):
        plain = [text for text in strings if _PLAIN.fullmatch(text)]
        if plain:
            return b'"' + max(plain, key=len).encode("ascii") + b'"'
    return b""


def _values(pattern: Mapping[str, Any]) -> Iterator[str]:
    for value in pattern.values():
        if isinstance(value, dict):
            yield from _values(value)
        elif isinstance(value, str):
            yield value


def _names(pattern: Mapping[str, Any]) -> Iterator[str]:
    for name, value in pattern.items():
        yield name
        if isinstance(value, dict):
            yield from _names(value)
