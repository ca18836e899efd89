"""Where comments on a run's changes go in the diff of its pull request: GitHub takes them on its lines only.

The pull request may stand on a newer commit of the base branch than the run, or lack the run's newest turn. So lines are looked for
by what stands in them, at first where they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.comments import Lines, quote_of
from tasks.github_api.differences import LEFT, RIGHT, DiffFile
from tasks.models import Comment, CommentSide


@dataclass(frozen=True)
class Place:
    """Lines of one side (LEFT, RIGHT) of a hunk; `path` is what the file is called in the pull request."""

    path: str
    side: str
    lines: Lines

    def as_comment(self, body: str) -> dict[str, Any]:
        """As GitHub wants to have it in a review."""
        found = {"path": self.path, "body": body, "line": self.lines.end, "side": self.side}
        if self.lines.start < self.lines.end:
            found |= {"start_line": self.lines.start, "start_side": self.side}
        return found


@dataclass(frozen=True)
class Placed:
    """A comment with its place, or with why there is none."""

    comment: Comment
    place: Place | None
    why_not: str = ""

    @property
    def is_moved(self) -> bool:
        """Whether its lines have other numbers there."""
        return self.place is not None and self.place.lines != Lines(self.comment.start_line, self.comment.end_line)


def placed(comment: Comment, files: Sequence[DiffFile]) -> Placed:
    is_old = comment.side == CommentSide.OLD
    side = LEFT if is_old else RIGHT
    name = comment.old_path or comment.path
    file = next((one for one in files if (name == one.old_path if is_old else comment.path == one.path)), None)
    if file is None:
        return Placed(comment, None, "The pull request does not change this file.")
    if not file.hunks:
        return Placed(comment, None, "GitHub shows no lines of this file.")
    lines = Lines(comment.start_line, comment.end_line)
    found = list(_found(comment, file, side))
    if lines in found:
        return Placed(comment, Place(file.path, side, lines))
    if len(found) == 1 and comment.quote.strip():
        return Placed(comment, Place(file.path, side, found[0]))
    return Placed(comment, None, "These lines are not in the pull request's diff.")


def _found(comment: Comment, file: DiffFile, side: str) -> Iterator[Lines]:
    """Where in the hunks the lines are that the comment quotes."""
    first, more = comment.quote.partition("\n")[0], comment.end_line - comment.start_line
    for hunk in file.hunks:
        there = hunk.sides[side]
        for start, text in there.items():
            if start + more not in there or quote_of([text]) != first:
                continue
            if quote_of(there[number] for number in range(start, start + more + 1)) == comment.quote:
                yield Lines(start, start + more)
