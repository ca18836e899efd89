"""A whole file as a table of its lines, each with a number that is its address: tr: td#L12 (number), td (code, as in `render`)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from django.utils.safestring import SafeString, mark_safe

from tasks.review.highlight import Budget, highlight
from tasks.review.lines import Side
from tasks.review.rows import Text

MOST_ROWS = 20_000
_PART = 60  # rows in one body: those that nobody sees are not laid out (diff.css)
_LOOKED_AT = 8_000  # bytes in which what is no text shows itself, as to git


@dataclass(frozen=True)
class Whole:
    html: SafeString  # bodies of a table
    lines: int
    shown: int


def is_text(content: bytes) -> bool:
    return b"\0" not in content[:_LOOKED_AT]


def whole(path: str, content: bytes, *, budget_ms: float) -> Whole:
    text = Text.of(content)
    # By git's name for it: so what was highlighted for a difference need not be again.
    blob = hashlib.sha1(b"blob %d\0%s" % (len(content), content), usedforsecurity=False).hexdigest()
    has_cr = all(line.endswith("\r") for line in text.lines) and bool(text.lines)
    side = Side(text, highlight(blob, path, text, Budget(budget_ms)), shows_cr=not has_cr)
    shown = min(len(text.lines), MOST_ROWS)
    html: list[str] = []
    for number in range(1, shown + 1):
        part = "<tbody>" if number % _PART == 1 else ""
        html.append(f"{part}<tr><td id=L{number}><a href=#L{number}>{number}</a><td>{side.html(number)}")
    return Whole(mark_safe("".join(html)), len(text.lines), shown)  # noqa: S308 (escaped)
