"""A run's events as lines for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.text import Text

from asynccode.client.clean import line, said

MOST_LINES = 12  # of an output or a prompt; the pages have the rest
MOST_CHARACTERS = 20_000  # of one text
DONE = ("succeeded", "failed", "errored", "canceled", "interrupted")
STYLES = {"succeeded": "green", "failed": "red", "errored": "red", "canceled": "yellow", "interrupted": "yellow", "waiting": "magenta"}
_STEPS = {"completed": "✓", "in_progress": "▸"}


class Conversation:
    """Takes events in their order. Text in the making is kept until the whole of it comes, or the turn is over."""

    def __init__(self) -> None:
        self._growing: dict[str, str] = {}
        self.stage = ""
        self.status = ""
        self.tokens = 0
        self.cost: float | None = None

    @property
    def tail(self) -> str:
        """The end of what is being written just now."""
        newest = "".join([*self._growing.values()][-1:])  # (copied at once: the line at the bottom is drawn by another thread)
        return "\n".join(said(newest).splitlines()[-MOST_LINES // 2 :])

    def lines(self, event: dict[str, Any]) -> Iterator[Text]:
        """What is to be printed of this event."""
        data = event["data"] if isinstance(event["data"], dict) else {}
        match event["kind"]:
            case "message" | "thought" as kind:
                yield from self._text(f"{event['turn']}:{_string(data.get('id'))}", kind, data)
            case "tool_call":
                yield Text.assemble(("▸ ", "cyan"), (_cut_line(data.get("title") or data.get("tool") or "tool"), "cyan"))
            case "tool_result":
                style = "red" if data.get("is_error") else "dim"
                yield from _block(_string(data.get("output")), style, MOST_LINES, indent="  ")
            case "plan":
                entries = data.get("entries")
                for entry in entries if isinstance(entries, list) else []:
                    if isinstance(entry, dict):
                        mark = _STEPS.get(_string(entry.get("status")), "·")
                        yield Text(f"  {mark} {_cut_line(entry.get('content'))}")
            case "log":
                yield from _block(_string(data.get("text")), "red" if data.get("stream") == "stderr" else "", None)
            case "error":
                yield from _block(f"✗ {_string(data.get('text'))}", "red", None)
                if advice := _string(data.get("advice")):
                    yield from _block(advice, "", None, indent="  ")
            case "usage":
                self._count(data)
            case "status":
                yield from self._status(data)

    def rest(self) -> Iterator[Text]:
        """Texts that were never completed."""
        for text in self._growing.values():
            yield from _block(text, "", None)
        self._growing.clear()

    def _text(self, key: str, kind: str, data: dict[str, Any]) -> Iterator[Text]:
        if "chunk" in data:
            self._growing[key] = (self._growing.get(key, "") + _string(data["chunk"]))[-MOST_CHARACTERS:]
            return
        self._growing.pop(key, None)
        yield from _block(_string(data.get("text")), "dim italic" if kind == "thought" else "", None)

    def _count(self, data: dict[str, Any]) -> None:
        self.tokens += sum(int(_number(data.get(name))) for name in ("input_tokens", "output_tokens"))
        if data.get("cost_usd") is not None:
            self.cost = (self.cost or 0.0) + _number(data["cost_usd"])

    def _status(self, data: dict[str, Any]) -> Iterator[Text]:
        if status := _string(data.get("status")):
            self.status = status
            yield from self.rest()
            yield Text(f"── {line(status)}", style=f"bold {STYLES.get(status, '')}".strip())
            if error := _string(data.get("error")):
                yield from _block(error, "red", MOST_LINES, indent="  ")
        elif stage := _string(data.get("stage")):
            self.stage = stage
            yield Text(f"── {line(stage)}", style="dim")
        elif "patch" in data:
            yield Text(f"── {figures(data)}", style="dim")


def prompt(turn: dict[str, Any]) -> Iterator[Text]:
    """What the agent was asked in a turn."""
    yield from _block(f"› {_string(turn['prompt'])}", "bold", MOST_LINES)


def figures(data: dict[str, Any]) -> str:
    """How much a patch changes: 3 files, +10 −2."""
    files, added, removed = (int(_number(data.get(name))) for name in ("files", "additions", "deletions"))
    return f"{files} file{'' if files == 1 else 's'}, +{added} −{removed}"


def took(seconds: float | None) -> str:
    """0:07, 12:03, 1:02:03; "" when nothing has begun."""
    if seconds is None:
        return ""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _block(text: str, style: str, most: int | None, indent: str = "") -> Iterator[Text]:
    left = len(text) - MOST_CHARACTERS
    lines = said(text[:MOST_CHARACTERS]).rstrip("\n").split("\n")
    shown = lines if most is None else lines[:most]
    if shown != [""]:
        for one in shown:
            yield Text(f"{indent}{one}", style=style)
    if len(lines) > len(shown) or left > 0:
        yield Text(f"{indent}… there is more on the run's page", style="dim")


def _cut_line(value: Any) -> str:
    return line(" ".join(said(_string(value)[:1000]).split()))[:200]


def _string(value: Any) -> str:
    """What stands in JSON where a text should."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) and 0 <= value < 1e12 else 0
