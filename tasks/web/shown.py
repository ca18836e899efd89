"""Untrusted text as HTML: everything escaped, terminal escapes taken out, invisible and reordering characters marked."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from tasks.models import Event, EventKind, RunStatus, Stage

MOST_SHOWN = 20_000  # characters of one event; the raw log has the rest

# Terminal escapes: CSI (colours, cursor), OSC and the other strings (titles, links), and the short ones.
_TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])|\x9b[0-?]*[ -/]*[@-~]")
# What a reader cannot see, or what makes text look like other text: C0 and C1 controls, bidirectional controls,
# zero-width characters (not the joiners, which emoji and many scripts need), line separators, tags.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)


def _mark(match: re.Match[str]) -> str:
    code = ord(match[0])
    name = unicodedata.name(match[0], "control character").lower()
    label = f"\\x{code:02x}" if code < 256 else f"U+{code:04X}"
    return f'<span class="mark" title="{name}">{label}</span>'


def text_html(text: str) -> SafeString:
    """Text as safe HTML in which nothing hides. Line breaks and tabs stay as they are."""
    return mark_safe(_HIDDEN.sub(_mark, escape(text)))  # noqa: S308 (escaped; marks are ours)


def name_html(text: str) -> SafeString:
    """A name on one line (a path, a title): line breaks and tabs are marked too."""
    return mark_safe(re.sub(r"[\n\t]", _mark, text_html(text)))  # noqa: S308 (as above)


def bare(text: str) -> str:
    """Text without what hides, for places that take no markup (a window's title). Still to be escaped."""
    return _HIDDEN.sub("", text)


def log_html(text: str) -> SafeString:
    """Output of programs as a terminal would leave it, without colours: overwritten parts of lines are dropped."""
    plain = _TERMINAL.sub("", text.replace("\r\n", "\n"))
    if "\r" in plain:
        plain = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in plain.split("\n"))
    return text_html(cut(plain.removesuffix("\n")))


def cut(text: str) -> str:
    left = len(text) - MOST_SHOWN
    return text if left <= 0 else f"{text[:MOST_SHOWN]}\n… {left:,} more characters; the raw log has them."


def duration(seconds: float | None) -> str:
    """0:07, 12:03, 1:02:03; "" when nothing has begun."""
    if seconds is None:
        return ""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# --- events -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """One event as the log shows it. `look` is log, divider, note, error, message or prompt."""

    seq: int
    at: datetime
    look: str
    html: SafeString
    label: str = ""
    stream: str = ""


def show(event: Event, prompts: Mapping[int, str]) -> list[Shown]:
    """An event as at most two pieces of the log; `prompts` maps turn ids to what was asked in them."""
    data = event.data

    def piece(look: str, html: str, **more: str) -> Shown:
        return Shown(event.seq, event.at, look, SafeString(html), **more)

    match event.kind:
        case EventKind.LOG:
            return [piece("log", log_html(str(data.get("text", ""))), stream=str(data.get("stream", "")))]
        case EventKind.ERROR:
            return [piece("error", log_html(str(data.get("text", ""))), label="Error")]
        case EventKind.STATUS if data.get("status") == RunStatus.RUNNING:
            return []  # the stages that follow say more
        case EventKind.STATUS:
            look, text = _status(data)
            prompt = prompts.get(event.turn_id or 0) if data.get("status") == RunStatus.STARTING else None
            before = [piece("prompt", text_html(cut(prompt)), label="Prompt")] if prompt else []
            return [*before, piece(look, text_html(cut(text)))]
        case EventKind.MESSAGE | EventKind.THOUGHT:
            return [piece("message", log_html(str(data.get("text", ""))), label="" if event.kind == EventKind.MESSAGE else "Thought")]
        case _:
            return [piece("note", text_html(cut(json.dumps(data, ensure_ascii=False))), label=event.kind.replace("_", " ").capitalize())]


def _status(data: Mapping[str, Any]) -> tuple[str, str]:
    """How a status event looks, and its sentence."""
    if (status := data.get("status")) in RunStatus.values:
        label = RunStatus(status).label
        return ("error", f"{label}. {data['error']}") if data.get("error") else ("divider", label)
    if (stage := data.get("stage")) in Stage.values:
        return "divider", Stage(stage).label
    if isinstance(ended := data.get("ended"), dict):
        return _ended(str(data.get("step", "")).capitalize(), ended)
    if "patch" in data:
        return "note", _patch(data)
    return "note", json.dumps(data, ensure_ascii=False)


def _ended(step: str, data: Mapping[str, Any]) -> tuple[str, str]:
    seconds = f"after {data['seconds']:.1f} s" if isinstance(data.get("seconds"), int | float) else ""
    if data.get("reason") == "exit" and data.get("code") == 0:
        return "note", f"{step} done {seconds}"
    if data.get("signal"):
        return "error", f"{step} was ended by signal {data['signal']} {seconds} ({data.get('reason')})"
    how = f"exit code {data.get('code')}" if data.get("reason") == "exit" else str(data.get("reason"))
    return "error", f"{step} ended with {how} {seconds}"


def _patch(data: Mapping[str, Any]) -> str:
    name = "Checkpoint" if data["patch"] == "checkpoint" else "Patch"
    if not (files := data.get("files")):
        return f"{name}: no changes"
    return f"{name}: {files} file{'' if files == 1 else 's'}, +{data.get('additions')} −{data.get('deletions')}"


# --- patches ------------------------------------------------------------------------------------------------------------

_LOOKS = {"+": "added", "-": "removed", "\\": "quiet"}


def patch_html(content: bytes) -> SafeString:
    """A raw patch with its lines told apart. Bytes that are no UTF-8 are shown as U+FFFD; `content` may end anywhere."""
    shown, is_in_hunk = [], False
    for line in content.decode(errors="replace").removesuffix("\n").split("\n"):
        if line.startswith("@@ "):
            is_in_hunk, look = True, "hunk"
        elif is_in_hunk and line[:1] in ("+", "-", " ", "\\"):
            look = _LOOKS.get(line[:1], "")
        else:
            is_in_hunk, look = False, "file" if line.startswith("diff --git ") else "quiet"
        shown.append(f'<span class="{look}">{text_html(line)}\n</span>' if look else f"{text_html(line)}\n")
    return mark_safe("".join(shown))  # noqa: S308 (every line went through text_html)
