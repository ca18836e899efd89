"""The text of a .env file as names and values. Nothing is expanded or run: `$HOME` stays `$HOME`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_START = re.compile(r"[ \t]*(?:export[ \t]+)?([^=\n]*)=[ \t]*")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_SINGLE = re.compile(r"'([^']*)'")
_REST = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass
class Entry:
    """One assignment, and the line it begins on; `error` is a sentence when it is none."""

    line: int
    name: str = ""
    value: str = ""
    error: str = ""


def parse(text: str) -> list[Entry]:
    """The assignments of a .env file in their order. Values in quotes may go over several lines; comments are left out."""
    text = text.replace("\r\n", "\n").removeprefix("\ufeff")
    found: list[Entry] = []
    lines: dict[str, int] = {}
    at, number = 0, 1
    while at < len(text):
        line, begin = _line(text, at), at
        at += len(line) + 1
        if line.strip() and not line.lstrip().startswith("#"):
            entry, at = _entry(text, begin, number)
            if entry.name in lines:
                entry.error = entry.error or f"{entry.name} is on line {lines[entry.name]} already."
            lines.setdefault(entry.name, number)
            found.append(entry)
        number += text.count("\n", begin, at)
    return found


def _entry(text: str, at: int, number: int) -> tuple[Entry, int]:
    """The assignment that begins at `at`, and where the next line begins."""
    next_line = at + len(_line(text, at)) + 1
    start = _START.match(text, at)
    if start is None:
        return Entry(number, error="This is no assignment. Write NAME=value"), next_line
    entry, begin = Entry(number, start[1].rstrip()), start.end()
    quote = text[begin : begin + 1]
    if quote != '"' and quote != "'":
        entry.value = re.split(r"(?:^|[ \t])#", _line(text, begin), maxsplit=1)[0].strip()
        return entry, next_line
    quoted = (_DOUBLE if quote == '"' else _SINGLE).match(text, begin)
    if quoted is None:
        entry.error = f"The quote ({quote}) is not closed."
        return entry, next_line
    rest = _REST.match(text, quoted.end())
    if rest is None:
        entry.error = "Something follows the closing quote."
        return entry, next_line
    entry.value = quoted[1] if quote == "'" else re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), quoted[1], flags=re.DOTALL)
    return entry, rest.end()


def _line(text: str, at: int) -> str:
    end = text.find("\n", at)
    return text[at:] if end < 0 else text[at:end]
