"""What GitHub says of the files between two commits: the diff on whose lines it takes comments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tasks.github_api.answers import line, listed, mapping, sha
from tasks.github_api.connection import Connection
from tasks.github_api.conversations import repository_path

LEFT, RIGHT = "LEFT", "RIGHT"
_AT = re.compile(r"@@ -(\d{1,9})(?:,\d+)? \+(\d{1,9})(?:,\d+)? @@")
_SIDES = {" ": (LEFT, RIGHT), "": (LEFT, RIGHT), "-": (LEFT,), "+": (RIGHT,)}


@dataclass(frozen=True)
class DiffHunk:
    """The lines of a hunk, those around the changes among them: of each side, number → text without its line break."""

    sides: Mapping[str, Mapping[int, str]]


@dataclass(frozen=True)
class DiffFile:
    """`blob` is git's id of what is there now, "" where GitHub does not say. No hunks: it is binary, or too large for GitHub to show."""

    path: str
    old_path: str
    blob: str
    hunks: tuple[DiffHunk, ...]


class Differences:
    """The part of `GitHub` (client.py) that is about diffs."""

    _connection: Connection

    def differences(self, full_name: str, base: str, head: str) -> list[DiffFile]:
        """What `head` has changed since it and `base` parted, as a pull request shows it; the first 300 files."""
        path = f"{repository_path(full_name)}/compare/{quote(base, safe='')}...{quote(head, safe='')}"
        said = mapping(self._connection.ask("GET", path, {"per_page": 1}).value)
        return [read_file(one) for one in listed(said.get("files")) if line(one.get("filename"))]


def read_file(said: dict[str, Any]) -> DiffFile:
    path, patch = line(said.get("filename")), said.get("patch")
    hunks = read_patch(patch.encode(errors="replace").decode()) if isinstance(patch, str) else ()
    return DiffFile(path, line(said.get("previous_filename")) or path, sha(said.get("sha")), hunks)


def read_patch(patch: str) -> tuple[DiffHunk, ...]:
    """The hunks of one file."""
    found: list[dict[str, dict[int, str]]] = []
    at = {LEFT: 0, RIGHT: 0}
    for row in patch.split("\n"):
        if begin := _AT.match(row):
            at = {LEFT: int(begin[1]), RIGHT: int(begin[2])}
            found.append({LEFT: {}, RIGHT: {}})
        elif found:
            for side in _SIDES.get(row[:1], ()):  # else "\ No newline at end of file"
                found[-1][side][at[side]] = row[1:]
                at[side] += 1
    return tuple(DiffHunk(sides) for sides in found)
