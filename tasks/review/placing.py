"""Where the lines of comments are in a change as it is now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.comments import Lines
from tasks.git.changes import Hunk, Status, blobs, hunks
from tasks.models import Comment, CommentSide
from tasks.review import kept
from tasks.review.diffs import File, anchor

_VERSION = 1


@dataclass(frozen=True)
class Place:
    """`file` is None where the change no longer has the file, `lines` where it has not these lines as they were."""

    file: File | None = None
    lines: Lines | None = None


def places(mirror: Path, files: Sequence[File], comments: Sequence[Comment]) -> list[Place]:
    """The place of each comment, by what differs between its file then and now; by one or two calls of git for all, or none."""
    by_name = {anchor(file.change.old_path): file for file in files} | {file.anchor: file for file in files}
    by_content = {file.change.new_blob: file for file in files if file.change.status in (Status.ADDED, Status.RENAMED)}
    pairs: dict[int, tuple[str, str]] = {}
    found = [by_name.get(each.file) or by_content.get(each.blob) for each in comments]
    for comment, file in zip(comments, found, strict=True):
        if file is not None and file.has_rows and (now := _blob(file, comment.side)):
            pairs[comment.pk] = (comment.blob, now)
    differences = _differences(mirror, set(pairs.values()))
    placed = []
    for comment, file in zip(comments, found, strict=True):
        its = differences.get(pairs[comment.pk]) if comment.pk in pairs else None
        lines = None if its is None else moved(its, Lines(comment.start_line, comment.end_line))
        placed.append(Place(file, lines))
    return placed


def moved(differences: Sequence[Hunk], lines: Lines) -> Lines | None:
    """Where lines of a text are in another one that differs so; None when one of them has changed. New ones among them do not
    matter."""
    start, end = lines.start, lines.end
    for hunk in differences:
        if hunk.old_start < lines.end and hunk.old_end >= lines.start and hunk.old_end > hunk.old_start:
            return None
        more = (hunk.new_end - hunk.new_start) - (hunk.old_end - hunk.old_start)
        start += more if hunk.old_end < lines.start else 0
        end += more if hunk.old_end < lines.end else 0
    return Lines(start, end)


def _blob(file: File, side: str) -> str:
    return file.change.old_blob if side == CommentSide.OLD else file.change.new_blob


def _differences(mirror: Path, pairs: set[tuple[str, str]]) -> Mapping[tuple[str, str], list[Hunk] | None]:
    """By pair. One whose first side is lost (of a checkpoint, after our trees were made anew) or is binary is left out or None."""
    found: dict[tuple[str, str], list[Hunk] | None] = {pair: [] for pair in pairs if pair[0] == pair[1]}
    keys = {pair: f"moved:{_VERSION}:{pair[0]}:{pair[1]}" for pair in pairs - found.keys()}
    known = kept.recall(keys.values()) if keys else {}
    found |= {pair: known[key] for pair, key in keys.items() if key in known}
    # Asked for first: git fails for what is missing, and then all trees would be taken for lost.
    missing = sorted(pair for pair in keys if pair not in found)
    there = blobs(mirror, [blob for pair in missing for blob in pair])
    asked = [pair for pair in missing if pair[0] in there and pair[1] in there]
    if asked:
        fresh = dict(zip(asked, hunks(mirror, asked), strict=True))
        kept.keep({keys[pair]: its for pair, its in fresh.items()})
        found |= fresh
    return found
