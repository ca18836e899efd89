"""Files of a change as tables of HTML, kept by what is in them.

The markup is small, since there may be 20,000 rows of it: end tags and quotes that HTML does not need are left out. Rows are
  unified        tr.d | tr.a | tr: td#f…-L12 (old number), td#f…-R20 (new number), td (code)
  side by side   tr.d | tr.a | tr.c | tr: td#f…-L12, td (old code), td#f…-R20, td (new code); .c changed on both sides
  either         tbody: PART rows, which the browser lays out when they are near; tr.g: a gap, with a link that brings its lines;
                 tr.more: the end of what is shown
In code, <i class=…> are tokens (highlight.css), <b> the words that changed, .mark what hides, .cut and .eof words of ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from html import escape
from itertools import islice
from pathlib import Path

from django.utils.safestring import SafeString, mark_safe

from tasks.git.changes import Hunk, contents, hunks
from tasks.marks import name_html
from tasks.review import kept
from tasks.review.diffs import File
from tasks.review.highlight import Budget, highlight
from tasks.review.languages import language_of
from tasks.review.lines import Side
from tasks.review.rows import CONTEXT, Gap, Kind, Row, Text, context_rows, side_by_side, unified

MOST_BYTES = 8 * 1024 * 1024  # of one side of a file
MOST_LINES = 200_000  # of one side
MOST_ROWS = 20_000
PART = 60  # rows
_VERSION = 4

# Stand-ins for what depends on the page: in HTML of ours these two characters are always marked.
_ID, _HREF = "\x01", "\x02"


class Form(StrEnum):
    UNIFIED = "unified"
    SPLIT = "split"


@dataclass(frozen=True)
class Options:
    """`whitespace` that is ignored: "", "amount" or "all"; `context` is the equal lines around what changed."""

    form: Form = Form.UNIFIED
    whitespace: str = ""
    context: int = CONTEXT


@dataclass(frozen=True)
class Rendered:
    """A file's table ("" when it has no rows: `note` says why, beside `File.note`). `rows` are how many it has, for its height
    before it is painted. Without `is_highlighted`, asking again with more time brings more colour."""

    html: SafeString
    rows: int
    note: str = ""
    is_highlighted: bool = True


def render(
    mirror: Path,
    files: Sequence[File],
    options: Options = Options(),
    *,
    budget_ms: float | None = None,
    gap_href: str = "?",
) -> list[Rendered]:
    """The diffs of these files, each with its anchor before its lines' ids, by two or three calls of git for all.

    `budget_ms` is the time for highlighting, all files together; None is no limit. A gap's link is `gap_href` with
    "file=ANCHOR&old=FROM&new=FROM&lines=COUNT" after it (see `gap`).
    """
    keys = {file.number: _key(file, options) for file in files}
    found: dict[str, Rendered] = kept.recall(keys.values())
    missing = [file for file in files if keys[file.number] not in found]
    fresh = _rendered(mirror, missing, options, Budget(budget_ms))
    kept.keep({keys[number]: rendered for number, rendered in fresh.items() if rendered.is_highlighted})
    return [_placed(fresh.get(file.number) or found[keys[file.number]], file.anchor, gap_href) for file in files]


def gap(
    mirror: Path, file: File, old: int, new: int, lines: int, options: Options = Options(), *, budget_ms: float | None = None
) -> Rendered:
    """The rows (no table around them) of equal lines, so many from these numbers on; what lies outside of the file is left out."""
    blobs = contents(mirror, _sizes([file]), most=MOST_BYTES)
    if not _is_small(file, blobs):
        return Rendered(SafeString(), 0)
    sides = _Sides(file, blobs, Budget(budget_ms))
    start = min(old, new) - 1
    old, new = (old - start, new - start) if start < 0 else (old, new)
    lines = min(lines, MOST_ROWS, len(sides.old.lines) - old + 1, len(sides.new.lines) - new + 1)
    rows = "".join(_row(row, sides, options.form) for row in context_rows(old, new, lines)) if lines > 0 else ""
    return _placed(Rendered(mark_safe(rows), max(lines, 0), is_highlighted=sides.is_highlighted), file.anchor, "")  # noqa: S308 (escaped)


def _key(file: File, options: Options) -> str:
    change = file.change
    parts = (change.old_blob, change.new_blob, language_of(change.old_path), language_of(change.path), str(file.has_rows))
    whole = "\0".join((str(_VERSION), options.form, options.whitespace, str(options.context), *parts))
    return f"diff:{hashlib.sha256(whole.encode()).hexdigest()}"


def _placed(rendered: Rendered, anchor: str, gap_href: str) -> Rendered:
    html = rendered.html.replace(_ID, f"{anchor}-").replace(_HREF, escape(f"{gap_href}file={anchor}&"))
    return Rendered(mark_safe(html), rendered.rows, rendered.note, rendered.is_highlighted)  # noqa: S308 (as before)


class _Sides:
    """Both texts of a file, and their lines as HTML. A side that is not there is empty."""

    def __init__(self, file: File, blobs: Mapping[str, bytes], budget: Budget) -> None:
        change = file.change
        texts = [Text.of(blobs.get(blob, b"")) for blob in (change.old_blob, change.new_blob)]
        self.old, self.new = texts
        shows_cr = not _same_ends([line for text in texts for line in (text.lines if text.ends else text.lines[:-1])])
        # The new side first: where time is short, it is the one that is read.
        new = highlight(change.new_blob, change.path, self.new, budget)
        old = highlight(change.old_blob, change.old_path, self.old, budget)
        self.is_highlighted = old.is_complete and new.is_complete
        self.old_lines, self.new_lines = Side(self.old, old, shows_cr=shows_cr), Side(self.new, new, shows_cr=shows_cr)


def _same_ends(lines: Sequence[str]) -> bool:
    """Whether all lines end with a carriage return, or none."""
    return sum(line.endswith("\r") for line in lines) in (0, len(lines))


def _sizes(files: Sequence[File]) -> dict[str, int]:
    """The blobs of both sides of these files, and their sizes."""
    sides = [(file.change.old_blob, file.old_size) for file in files] + [(file.change.new_blob, file.new_size) for file in files]
    return {blob: size for blob, size in sides if blob}


def _is_small(file: File, blobs: Mapping[str, bytes]) -> bool:
    sides = [blob for blob in (file.change.old_blob, file.change.new_blob) if blob]
    return all(blob in blobs and blobs[blob].count(b"\n") <= MOST_LINES for blob in sides)


def _rendered(mirror: Path, files: Iterable[File], options: Options, budget: Budget) -> dict[int, Rendered]:
    """By number."""
    found = {file.number: Rendered(SafeString(), 0) for file in files}
    readable = [file for file in files if file.has_rows]
    blobs = contents(mirror, _sizes(readable), most=MOST_BYTES)
    small = [file for file in readable if _is_small(file, blobs)]
    for file in readable:
        if file not in small:
            found[file.number] = Rendered(SafeString(), 0, "It is too large to be shown. The download has it.")
    pairs = [(file.change.old_blob, file.change.new_blob) for file in small]
    differences = hunks(mirror, pairs, whitespace=options.whitespace) if pairs else []
    for file, its in zip(small, differences, strict=True):
        found[file.number] = _table(_Sides(file, blobs, budget), its or [], options)
    return found


def _table(sides: _Sides, differences: Sequence[Hunk], options: Options) -> Rendered:
    if not differences:
        return Rendered(SafeString(), 0, "Only whitespace differs." if options.whitespace else "")
    rows = side_by_side(sides.old, sides.new, differences, context=options.context)
    if options.form is Form.UNIFIED:
        rows = unified(rows)
    shown = [_row(row, sides, options.form) for row in islice(rows, MOST_ROWS)]
    if next(rows, None) is not None:
        shown.append("<tr class=more><td colspan=4>What follows is not shown; the download has it.")
    parts = "".join(f"<tbody>{''.join(shown[start : start + PART])}" for start in range(0, len(shown), PART))
    html = f'<table class="diff {options.form}">{parts}</table>'
    return Rendered(mark_safe(html), len(shown), is_highlighted=sides.is_highlighted)  # noqa: S308 (every line went through Side)


_CLASS = {Kind.CONTEXT: "", Kind.DELETED: " class=d", Kind.ADDED: " class=a", Kind.CHANGED: " class=c"}


def _row(row: Row | Gap, sides: _Sides, form: Form) -> str:
    if isinstance(row, Gap):
        what = "1 line" if row.lines == 1 else f"{row.lines:,} lines"
        link = f'<a href="{_HREF}old={row.old}&amp;new={row.new}&amp;lines={row.lines}">{what}</a>'
        return f"<tr class=g><td colspan={3 if form is Form.UNIFIED else 4}>{link} {name_html(row.heading[:200])}"
    kind, old, new, old_marks, new_marks = row
    old_number = f"<td id={_ID}L{old}>{old}" if old else "<td>"
    new_number = f"<td id={_ID}R{new}>{new}" if new else "<td>"
    if form is Form.UNIFIED:
        code = sides.new_lines.html(new, new_marks) if new else sides.old_lines.html(old, old_marks)
        return f"<tr{_CLASS[kind]}>{old_number}{new_number}<td>{code}"
    old_code = sides.old_lines.html(old, old_marks) if old else ""
    new_code = sides.new_lines.html(new, new_marks) if new else ""
    return f"<tr{_CLASS[kind]}>{old_number}<td>{old_code}{new_number}<td>{new_code}"
