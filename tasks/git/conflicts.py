"""What a patch does not go together with, in words and in git's conflict markers, fit to be sent to an agent."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks.errors import AppError
from tasks.git.clones import Clone
from tasks.git.commands import clean

_MAX_PATHS = 50  # told with their text
_MAX_TEXT = 4000  # characters of one path's conflict
_MAX_READ = 2**20
_PATHS_NAMED = 5


@dataclass(frozen=True)
class Conflicting:
    """A path, and what conflicts in it: git's conflict markers, or its sentence. Both are the repository's text, and cut."""

    path: str
    text: str


class Conflicts(AppError):
    """The base branch has moved on, to `commit`, and the patch does not go together with it."""

    code = "conflicts"

    def __init__(self, base_branch: str, commit: str, conflicting: Sequence[Conflicting], way_out: str) -> None:
        named = ", ".join(c.path for c in conflicting[:_PATHS_NAMED])
        more = len(conflicting) - _PATHS_NAMED
        named += f" and {more} more" if more > 0 else ""
        super().__init__(f"These changes conflict with what is new on {base_branch}, in {named}. {way_out}")
        self.commit = commit
        self.conflicting = tuple(conflicting)


def conflicting(clone: Clone, output: bytes, names: Mapping[str, str]) -> list[Conflicting]:
    """What `merge-tree -z --name-only --messages` tells; none when the merge is clean. `names` stand in for commits' ids.

    It prints the tree, the paths, an empty one, then its messages: a count of paths, these, the type, the text.
    """
    tree, *rest = output.split(b"\0")
    end = rest.index(b"") if b"" in rest else 0
    paths, told = rest[:end], rest[end + 1 :]
    said: dict[bytes, list[str]] = {}
    while len(told) > 2 and told[0].isdigit():
        after = int(told[0]) + 1
        kind, text = told[after : after + 2]
        if kind != b"Auto-merging":
            for path in told[1:after]:
                said.setdefault(path, []).append(clean(text).strip())
        told = told[after + 2 :]
    return list(_each(clone, tree.decode(), paths, said, names))


def _each(
    clone: Clone, tree: str, paths: Sequence[bytes], said: Mapping[bytes, list[str]], names: Mapping[str, str]
) -> Iterator[Conflicting]:
    for number, path in enumerate(paths):
        text = _marked(clone, tree, path) if number < _MAX_PATHS else ""
        text = text or "\n".join(said.get(path, ["It conflicts."]))
        for commit, name in names.items():
            text = text.replace(commit, name)
        yield Conflicting(clean(path), text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "\n…")


def _marked(clone: Clone, tree: str, path: bytes) -> str:
    """What stands between conflict markers in the merged file; "" where there is no such text."""
    blob = clone.git("cat-file", "blob", f"{tree}:{os.fsdecode(path)}", good=(0, 128))[:_MAX_READ]
    return "\n…\n".join(re.findall(r"(?ms)^<<<<<<< .*?^>>>>>>> [^\n]*$", blob.decode(errors="replace")))
