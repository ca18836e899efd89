"""The small differences that a tool's result brings along, as HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from django.utils.safestring import SafeString, mark_safe

from tasks.marks import name_html, text_html
from tasks.web.shown.text import string

MOST_LINES = 400  # of one file's difference in the log
MOST_FILES = 20
MOST_COMPARED = 200_000  # characters of one side
MOST_PAIRS = 20_000  # of equal lines: what comparing costs grows with them


@dataclass(frozen=True)
class FileDiff:
    """What a tool did to one file. `is_cut`: not all of it is in `html`, and the figures count what was compared."""

    path: SafeString
    is_new: bool
    additions: int
    deletions: int
    html: SafeString
    is_cut: bool


def file_diffs(value: Any) -> list[FileDiff]:
    """The diffs of a tool's result, [{"path", "old", "new"}]; what is none is left out."""
    entries = value[:MOST_FILES] if isinstance(value, list) else []
    return [_file_diff(entry) for entry in entries if isinstance(entry, dict)]


def _file_diff(entry: dict[str, Any]) -> FileDiff:
    old, new = string(entry.get("old")), string(entry.get("new"))
    is_cut = max(len(old), len(new)) > MOST_COMPARED
    lines = list(_compare(old[:MOST_COMPARED].splitlines(), new[:MOST_COMPARED].splitlines()))
    shown, size = [], 0
    for line in lines[:MOST_LINES]:
        size += len(line)
        if size > MOST_COMPARED // 10:
            break
        look = {"+": "added", "-": "removed", "@": "hunk"}.get(line[:1])
        shown.append(f'<span class="{look}">{text_html(line)}\n</span>' if look else f"{text_html(line)}\n")
    return FileDiff(
        path=name_html(string(entry.get("path"))[:500] or "a file"),
        is_new=entry.get("old") is None,
        additions=sum(line[0] == "+" for line in lines),
        deletions=sum(line[0] == "-" for line in lines),
        html=mark_safe("".join(shown)),  # noqa: S308 (as above)
        is_cut=is_cut or len(shown) < len(lines),
    )


def _compare(old: list[str], new: list[str], context: int = 3) -> Iterator[str]:
    """The lines of a unified diff, each with its sign; "@@" lines lie between its hunks, the first one has none at the top."""
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    start = max(0, head - context)
    old, new = old[start : len(old) - max(0, tail - context)], new[start : len(new) - max(0, tail - context)]
    counts = Counter(new)
    if sum(counts[line] for line in old) > MOST_PAIRS:  # all at once, then, but what is the same at either end
        head, tail = head - start, min(tail, context)
        yield from (f" {line}" for line in old[:head])
        yield from (f"-{line}" for line in old[head : len(old) - tail])
        yield from (f"+{line}" for line in new[head : len(new) - tail])
        yield from (f" {line}" for line in old[len(old) - tail :])
        return
    for number, group in enumerate(SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(context)):
        if start + group[0][1] or number:
            yield f"@@ {start + group[0][1] + 1} @@"
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                yield from (f" {line}" for line in old[i1:i2])
                continue
            yield from (f"-{line}" for line in old[i1:i2])
            yield from (f"+{line}" for line in new[j1:j2])
