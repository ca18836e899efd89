"""Highlighting of whole files, line by line: so a string or a comment of many lines is one in each of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from pygments.lexers import LEXERS, find_lexer_class
from pygments.token import Token, _TokenType

from tasks.review import kept
from tasks.review.languages import language_of
from tasks.review.rows import Text

Spans = tuple[tuple[int, str], ...]  # a line from its start on, as (length, class of highlight.css or ""); what is left is plain

MOST_CHARACTERS = 400_000  # of a file; more is shown plain
MOST_LINE = 2_000  # characters of a line; a file that has a longer one is shown plain
_VERSION = 1
_CLOCK = 50  # tokens between two looks at the clock

_CLASSES = {
    Token.Keyword: "k",
    Token.Keyword.Type: "t",
    Token.Operator.Word: "k",
    Token.Literal.String: "s",
    Token.Literal.Number: "m",
    Token.Comment: "c",
    Token.Comment.Preproc: "a",
    Token.Comment.PreprocFile: "s",
    Token.Name.Function: "f",
    Token.Name.Class: "f",
    Token.Name.Builtin: "t",
    Token.Name.Exception: "t",
    Token.Name.Constant: "m",
    Token.Name.Entity: "m",
    Token.Name.Decorator: "a",
    Token.Name.Attribute: "a",
    Token.Name.Tag: "k",
    Token.Generic.Heading: "f",
    Token.Generic.Subheading: "f",
    Token.Generic.Deleted: "k",
    Token.Generic.Inserted: "s",
}


@dataclass(frozen=True)
class Highlighted:
    """`lines` may be fewer than the text has: the rest is plain. `is_complete`: there is no more to be had with more time."""

    lines: Sequence[Spans]
    is_complete: bool


PLAIN = Highlighted((), is_complete=True)


class Budget:
    """Milliseconds for highlighting, spent by nothing else; None is no limit but those on sizes."""

    def __init__(self, ms: float | None) -> None:
        self._left = float("inf") if ms is None else ms / 1000
        self._began = 0.0

    def begin(self) -> None:
        self._began = time.perf_counter()

    def end(self) -> None:
        self._left -= time.perf_counter() - self._began

    @property
    def is_used_up(self) -> bool:
        """Between `begin` and `end`."""
        return time.perf_counter() - self._began >= self._left


def highlight(blob: str, path: str, text: Text, budget: Budget) -> Highlighted:
    """The lines of a blob, kept by its id. What the budget leaves undone is plain and not kept."""
    language = language_of(path)
    if not language or sum(map(len, text.lines)) > MOST_CHARACTERS or max(map(len, text.lines), default=0) > MOST_LINE:
        return PLAIN
    key = f"highlight:{_VERSION}:{language}:{blob}"
    if (lines := kept.recall([key]).get(key)) is not None:
        return Highlighted(lines, is_complete=True)
    budget.begin()
    found = Highlighted((), is_complete=False) if budget.is_used_up else _lines(language, text, budget)
    budget.end()
    if found.is_complete:
        kept.keep({key: found.lines})
    return found


def _lines(language: str, text: Text, budget: Budget) -> Highlighted:
    lexer = find_lexer_class(LEXERS[language][1])
    assert lexer is not None
    # Pygments expects lines that end in \n; a carriage return keeps its place within a line, and at its end is left out.
    source = "".join([line.removesuffix("\r") + "\n" for line in text.lines]).replace("\r", " ")
    lines: list[Spans] = []
    line: list[tuple[int, str]] = []
    position = 0
    for number, (start, kind, value) in enumerate(lexer().get_tokens_unprocessed(source)):
        if start != position:  # a language's fault; plain is right at least
            return PLAIN
        position += len(value)
        name = _class(kind)
        if "\n" not in value:
            _add(line, len(value), name)
        else:
            head, *rest = value.split("\n")
            _add(line, len(head), name)
            for part in rest:
                lines.append(tuple(line) if any(name for _, name in line) else ())
                line = []
                _add(line, len(part), name)
        if number % _CLOCK == 0 and budget.is_used_up:
            return Highlighted(lines, is_complete=False)
    return Highlighted(lines, is_complete=True)


def _add(line: list[tuple[int, str]], length: int, name: str) -> None:
    if line and line[-1][1] == name:
        line[-1] = (line[-1][0] + length, name)
    elif length:
        line.append((length, name))


@cache
def _class(kind: _TokenType) -> str:
    """The class of a kind of token: its own, or the one of the kind that it is a kind of."""
    parent: _TokenType | None = kind
    while parent is not None:
        if parent in _CLASSES:
            return _CLASSES[parent]
        parent = parent.parent
    return ""
