"""A file's difference as rows: which line of the old text stands beside which one of the new."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from tasks.git.changes import Hunk
from tasks.review.words import Effort, Marks, marks, pair

CONTEXT = 3  # lines around what has changed


@dataclass(frozen=True)
class Text:
    """A text in lines, without their ends; bytes that are no UTF-8 are surrogates. The last line may lack its end."""

    lines: Sequence[str]
    ends: bool = True

    @classmethod
    def of(cls, content: bytes) -> Text:
        lines = content.decode(errors="surrogateescape").split("\n")
        return cls(lines[:-1]) if not lines[-1] else cls(lines, ends=False)

    @property
    def content(self) -> bytes:
        text = "\n".join(self.lines) + ("\n" if self.ends and self.lines else "")
        return text.encode(errors="surrogateescape")


class Kind(StrEnum):
    CONTEXT = "context"
    DELETED = "deleted"
    ADDED = "added"
    CHANGED = "changed"  # a deleted and an added line in one row


class Row(NamedTuple):
    """Lines by their numbers from 1, 0 for none. Marks are the characters that changed, of lines that are alike."""

    kind: Kind
    old: int
    new: int
    old_marks: Marks = ()
    new_marks: Marks = ()


class Gap(NamedTuple):
    """So many equal `lines` are not shown, from these numbers on. `heading` is the function that what follows lies in."""

    old: int
    new: int
    lines: int
    heading: str = ""


def side_by_side(old: Text, new: Text, hunks: Sequence[Hunk], *, context: int = CONTEXT) -> Iterator[Row | Gap]:
    """The rows of a difference; nothing for none. Equal lines that are further away than `context` are in gaps."""
    if not hunks:
        return
    effort = Effort()
    end = Hunk(len(old.lines), len(old.lines), len(new.lines), len(new.lines))
    yield from _between(old, Hunk(0, 0, 0, 0), hunks[0], 0, context)
    for hunk, following in pairwise([*hunks, end]):
        yield from _changed(old.lines[hunk.old_start : hunk.old_end], new.lines[hunk.new_start : hunk.new_end], hunk, effort)
        yield from _between(old, hunk, following, context, context if following is not end else 0)


def unified(rows: Iterable[Row | Gap]) -> Iterator[Row | Gap]:
    """The same rows one below the other: of lines that changed together, first all deleted ones."""
    added: list[Row] = []
    for row in rows:
        if isinstance(row, Gap) or row.kind is Kind.CONTEXT:
            yield from added
            added.clear()
            yield row
            continue
        if row.old:
            yield Row(Kind.DELETED, row.old, 0, row.old_marks)
        if row.new:
            added.append(Row(Kind.ADDED, 0, row.new, (), row.new_marks))
    yield from added


def context_rows(old: int, new: int, lines: int) -> Iterator[Row]:
    """Equal lines: what is in a gap."""
    return (Row(Kind.CONTEXT, old + place, new + place) for place in range(lines))


def _between(text: Text, before: Hunk, after: Hunk, head: int, tail: int) -> Iterator[Row | Gap]:
    """What is equal between two hunks: so many lines at either side, and a gap if that leaves out more than one line."""
    old, new, count = before.old_end, before.new_end, after.old_start - before.old_end
    hidden = count - head - tail
    if hidden <= 1:
        yield from context_rows(old + 1, new + 1, count)
        return
    yield from context_rows(old + 1, new + 1, head)
    shown = text.lines[after.old_start - tail : after.old_start]
    heading = "" if any(line.startswith(after.heading) for line in shown) else after.heading
    yield Gap(old + head + 1, new + head + 1, hidden, heading)
    yield from context_rows(old + count - tail + 1, new + count - tail + 1, tail)


def _changed(deleted: Sequence[str], added: Sequence[str], hunk: Hunk, effort: Effort) -> Iterator[Row]:
    """Lines that are alike stand beside each other; between these, the others beside each other as they come."""
    pairs = pair(deleted, added, effort) if deleted and added else []
    i = j = 0
    for old, new in [*pairs, (len(deleted), len(added))]:
        while i < old or j < new:
            has_old, has_new = i < old, j < new
            kind = Kind.CHANGED if has_old and has_new else Kind.DELETED if has_old else Kind.ADDED
            yield Row(kind, hunk.old_start + i + 1 if has_old else 0, hunk.new_start + j + 1 if has_new else 0)
            i, j = i + has_old, j + has_new
        if old < len(deleted) and new < len(added):
            yield Row(Kind.CHANGED, hunk.old_start + old + 1, hunk.new_start + new + 1, *marks(deleted[old], added[new], effort))
            i, j = old + 1, new + 1
