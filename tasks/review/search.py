"""Looking for words in a change: in the names of its files, and in the lines that it adds or takes away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tasks.git.changes import Hunk, contents, hunks
from tasks.review.diffs import File
from tasks.review.rows import Text

MOST_BYTES = 1024 * 1024  # of one side of a file that is looked into
MOST_LINES = 200  # that are told of,
MOST_OF_A_FILE = 20  # and so many of one file
_AT_ONCE = 200  # files that are read together


class Line(NamedTuple):
    """A changed line that has the words: "L" and its number in the old text, or "R" and the one in the new."""

    side: str
    number: int
    text: str


@dataclass(frozen=True)
class Found:
    """A file whose name or lines have the words. `is_cut`: it has more such lines."""

    file: File
    lines: Sequence[Line]
    is_cut: bool


def search(mirror: Path, files: Sequence[File], words: str) -> Iterator[Found]:
    """The files that have these words, letters' case aside, in the order of the change. There are at most MOST_LINES lines."""
    wanted = words.casefold()
    left = names = MOST_LINES
    for start in range(0, len(files), _AT_ONCE):
        some = files[start : start + _AT_ONCE]
        lines = _lines(mirror, some, wanted)
        for file in some:
            found = lines.get(file.number, [])[: MOST_OF_A_FILE + 1]
            is_named = wanted in file.path.casefold() or wanted in file.change.old_path.casefold()
            if not found and not is_named:
                continue
            if not left or not names:
                return
            shown = found[: min(left, MOST_OF_A_FILE)]
            left, names = left - len(shown), names - (not shown)
            yield Found(file, shown, len(found) > len(shown))


def _lines(mirror: Path, files: Sequence[File], wanted: str) -> dict[int, list[Line]]:
    """Of these files, by number."""
    readable = [file for file in files if file.has_rows and max(file.old_size, file.new_size) <= MOST_BYTES]
    sizes = {file.change.old_blob: file.old_size for file in readable} | {file.change.new_blob: file.new_size for file in readable}
    sizes.pop("", None)
    blobs = contents(mirror, sizes, most=MOST_BYTES)
    having = {blob for blob, content in blobs.items() if wanted in content.decode(errors="surrogateescape").casefold()}
    promising = [file for file in readable if {file.change.old_blob, file.change.new_blob} & having]
    pairs = [(file.change.old_blob, file.change.new_blob) for file in promising]
    differences = hunks(mirror, pairs) if pairs else []
    return {
        file.number: list(islice(_of_hunks(blobs, file, its or [], wanted), MOST_OF_A_FILE + 1))
        for file, its in zip(promising, differences, strict=True)
    }


def _of_hunks(blobs: dict[str, bytes], file: File, its: Sequence[Hunk], wanted: str) -> Iterator[Line]:
    old, new = (Text.of(blobs.get(blob, b"")).lines for blob in (file.change.old_blob, file.change.new_blob))
    for hunk in its:
        for side, lines, start, end in (("L", old, hunk.old_start, hunk.old_end), ("R", new, hunk.new_start, hunk.new_end)):
            for place in range(start, min(end, len(lines))):
                if wanted in lines[place].casefold():
                    yield Line(side, place + 1, _around(lines[place], wanted))


def _around(line: str, wanted: str) -> str:
    """A line, or of a long one the part that has the words."""
    at = max(line.casefold().find(wanted) - 60, 0) if len(line) > 200 else 0
    return f"{'…' if at else ''}{line[at : at + 200].strip()}{'…' if len(line) > at + 200 else ''}"
