"""A tool's call as one line, and what it was given and gave back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils.safestring import SafeString

from tasks.marks import name_html, text_html
from tasks.web.shown.ansi import Terminal
from tasks.web.shown.patches import FileDiff, file_diffs
from tasks.web.shown.text import MOST_SHOWN, number, string, took

MOST_TITLE = 200
SHORT = 40  # characters that the line of a call has room for
LONG = 40  # lines of output from which on it is folded

_VERBS = {
    "read": "Read",
    "edit": "Edit",
    "delete": "Delete",
    "move": "Move",
    "search": "Search",
    "execute": "Run",
    "think": "Think",
    "fetch": "Fetch",
}
# Where the object of a call stands in its input, by the names agents give it.
_OBJECTS = {"execute": ("command", "cmd"), "search": ("pattern", "query"), "fetch": ("url", "query")}


@dataclass
class Part:
    """A text that may be long: `rest` characters of it are not in `html`."""

    html: SafeString
    rest: int = 0
    is_mono: bool = True
    lines: int = 0
    is_markdown: bool = False

    @property
    def is_long(self) -> bool:
        return self.lines > LONG

    @property
    def left(self) -> str:
        return f"{self.rest:,}"

    @classmethod
    def of(cls, text: str, *, most: int = MOST_SHOWN, colours: bool = False, is_mono: bool = True) -> Part:
        shown = text[:most]
        html = Terminal().html(shown) if colours else text_html(shown.removesuffix("\n"))
        return cls(html, max(0, len(text) - most), is_mono, shown.removesuffix("\n").count("\n") + 1)


@dataclass
class Result:
    seq: int
    at: datetime
    output: Part | None
    diffs: list[FileDiff]
    failure: str  # "exit 1", "failed" or ""
    seconds: float | None

    @property
    def time(self) -> str:
        return took(self.seconds)

    @property
    def additions(self) -> int:
        return sum(diff.additions for diff in self.diffs)

    @property
    def deletions(self) -> int:
        return sum(diff.deletions for diff in self.diffs)


@dataclass
class Call:
    seq: int
    verb: str
    what: SafeString
    is_name: bool  # `what` is a path or a command, not a sentence
    input: Part | None
    where: list[SafeString] = field(default_factory=list)


def call_of(seq: int, data: Mapping[str, Any], *, most: int = MOST_SHOWN) -> Call:
    tool, given = string(data.get("tool")), data.get("input")
    title = _line(string(data.get("title")))
    places = _places(data.get("locations"))
    verb = _VERBS.get(tool, "")
    named = ""
    if tool in _OBJECTS:
        named = _line(_object(given, _OBJECTS[tool]))
    elif verb and tool != "think" and places:
        named = " → ".join(places[:2]) if tool == "move" else places[0] + (f" and {len(places) - 1} more" if len(places) > 1 else "")
    what = named or (title if not verb else _without(verb, title))
    command = _object(given, _OBJECTS["execute"]) if tool == "execute" else ""
    text = command or ("" if _is_said(given, [what, *places]) else string(given))
    return Call(
        seq=seq,
        verb=verb or "Tool",
        what=name_html(what or string(data.get("tool"))[:MOST_TITLE] or "without a name"),
        is_name=bool(named) or tool in ("execute", "search", "fetch", "read", "edit", "delete", "move"),
        input=Part.of(text, most=most) if text else None,
        where=[name_html(place) for place in places],
    )


def result_of(seq: int, at: datetime, data: Mapping[str, Any], *, most: int = MOST_SHOWN) -> Result:
    output = string(data.get("output"))
    code = data.get("exit_code")
    failure = ""
    if isinstance(code, int) and code and abs(code) < 1 << 32:
        failure = f"exit {int(code)}"
    elif data.get("is_error"):
        failure = "failed"
    return Result(
        seq=seq,
        at=at,
        output=Part.of(output, most=most, colours=True) if output.strip() else None,
        diffs=file_diffs(data.get("diffs")),
        failure=failure,
        seconds=number(data.get("seconds")),
    )


def _line(text: str) -> str:
    """The first line of a text, short enough for one line of the log."""
    line = text[: MOST_TITLE * 2].strip().partition("\n")[0].strip().strip("`")
    return line if len(line) <= MOST_TITLE else f"{line[:MOST_TITLE]}…"


def _object(given: Any, names: tuple[str, ...]) -> str:
    if isinstance(given, str):
        return given
    if not isinstance(given, dict):
        return ""
    for name in names:
        value = given.get(name)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
            return " ".join(value)
    return ""


def _is_said(given: Any, said: list[str]) -> bool:
    """Whether all of an input stands in the line of its call, where there is room for it."""
    if not isinstance(given, dict):
        return given is None or given == []
    short = [value for value in given.values() if isinstance(value, str) and len(value) <= SHORT]
    return len(short) == len(given) and all(any(f"{text}:".startswith(f"{value}:") for text in said) for value in short)


def _places(value: Any) -> list[str]:
    places = []
    for entry in value[:50] if isinstance(value, list) else []:
        if isinstance(entry, dict) and (path := string(entry.get("path"))):
            line = number(entry.get("line"))
            places.append(path[:500] + (f":{line:.0f}" if line and line > 1 else ""))
    return places


def _without(verb: str, title: str) -> str:
    """A title without the verb that stands before it anyway."""
    return title[len(verb) :].strip().strip("`") or title if title.lower().startswith(f"{verb.lower()} ") else title
