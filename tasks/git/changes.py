"""What git says of two trees of `trees.py`: which files differ, where, what is in them, and what attributes they have.

A base commit may stand for its tree. Paths are text in which bytes that are no UTF-8 are surrogates (`os.fsdecode`). Errors:
RepoUnavailable, of which TreesLost is mended by making the trees again.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tasks.git.trees import ask, lost, place_of

MOST_IN_ALL = 128 * 1024 * 1024  # bytes of the contents that one call gives
_MOST_ATTRIBUTES = 256 * 1024  # bytes of a .gitattributes file that is heeded
_RENAMES_LIMIT = 400  # files on either side among which similar ones are sought; equal ones always are


class Status(StrEnum):
    ADDED = "added"
    DELETED = "deleted"
    MODIFIED = "modified"
    RENAMED = "renamed"
    MODE = "mode"  # the same content, executable or not
    TYPE = "type"  # a file became a symlink, or the like


@dataclass(frozen=True)
class Change:
    """One file that differs. `old_path` is `path` unless it was renamed; a side that is not there has mode and blob "".

    `similarity` is in percent, of renames. A submodule's "blob" is a commit id. Counts are 0 for what is binary.
    """

    status: Status
    path: str
    old_path: str
    old_mode: str
    new_mode: str
    old_blob: str
    new_blob: str
    similarity: int = 0
    additions: int = 0
    deletions: int = 0
    is_binary: bool = False

    @property
    def is_submodule(self) -> bool:
        return "160000" in (self.old_mode, self.new_mode)

    @property
    def is_symlink(self) -> bool:
        return "120000" in (self.old_mode, self.new_mode)


class Hunk(NamedTuple):
    """Lines old_start to old_end (from 0, the end excluded) became new_start to new_end. `heading` is git's: the function's line."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int
    heading: str = ""


_NONE = re.compile("0+")
_STATUS = {"A": Status.ADDED, "D": Status.DELETED, "R": Status.RENAMED, "T": Status.TYPE, "M": Status.MODIFIED}
_WHITESPACE = {"": (), "amount": ("--ignore-space-change",), "all": ("--ignore-all-space",)}
_PLAIN = ("--no-color", "--no-ext-diff", "--no-textconv", "--full-index")


def changes(mirror: Path, old: str, new: str) -> list[Change]:
    """The files that differ between two trees, in the order of their paths."""
    args = ["diff-tree", "-r", "-z", "--raw", "--numstat", "-M", f"-l{_RENAMES_LIMIT}", *_PLAIN, old, new, "--"]
    words = iter(os.fsdecode(ask(mirror, args)).split("\0"))
    found: list[Change] = []
    counted = 0
    for word in words:
        if word.startswith(":"):
            *sides, letter = word[1:].split(" ")
            old_mode, new_mode, old_blob, new_blob = ("" if _NONE.fullmatch(side) else side for side in sides)
            old_path = next(words)
            path = next(words) if letter[0] == "R" else old_path
            status = Status.MODE if letter == "M" and old_blob == new_blob else _STATUS[letter[0]]
            found.append(Change(status, path, old_path, old_mode, new_mode, old_blob, new_blob, int(letter[1:] or 0)))
        elif word:  # the counts come after all files, in the same order
            added, deleted, path = word.split("\t", 2)
            if not path:  # the two paths of a rename follow
                next(words)
                next(words)
            if added == "-":
                found[counted] = replace(found[counted], is_binary=True)
            else:
                found[counted] = replace(found[counted], additions=int(added), deletions=int(deleted))
            counted += 1
    return found


def patch(mirror: Path, old: str, new: str) -> bytes:
    """What makes the new tree of the old one, ready for `git apply --index --allow-empty`."""
    return ask(mirror, ["diff-tree", "-r", "-p", "-M", "--binary", f"-l{_RENAMES_LIMIT}", *_PLAIN, old, new, "--"])


def hunks(mirror: Path, pairs: Sequence[tuple[str, str]], *, whitespace: str = "") -> list[list[Hunk] | None]:
    """Where the two blobs of each pair differ ("" is a side that is not there), all by one git; None where one is binary.

    `whitespace` that is ignored: "" (none), "amount" (how much of it there is), "all".
    """
    length = max((len(blob) for pair in pairs for blob in pair), default=40)
    with tempfile.TemporaryDirectory(prefix="asynccode-objects-") as folder:
        sides = [_tree(Path(folder), [pair[side] for pair in pairs], length) for side in (0, 1)]
        env = {"GIT_OBJECT_DIRECTORY": folder, "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{place_of(mirror) / "objects"}"'}
        args = ["diff-tree", "-r", "-p", "-U0", "--no-renames", "--indent-heuristic", *_WHITESPACE[whitespace], *_PLAIN, *sides, "--"]
        found: list[list[Hunk] | None] = [[] for _ in pairs]
        _read_hunks(ask(mirror, args, env=env), found)
    return found


def _tree(objects: Path, blobs: Sequence[str], length: int) -> str:
    """A tree in which each blob has its number for a name; it exists in this folder of objects only."""
    body = b"".join(b"100644 %06d\0%s" % (number, bytes.fromhex(blob)) for number, blob in enumerate(blobs) if blob)
    whole = b"tree %d\0%s" % (len(body), body)
    name = (hashlib.sha1(whole, usedforsecurity=False) if length == 40 else hashlib.sha256(whole)).hexdigest()
    (objects / name[:2]).mkdir(exist_ok=True)
    (objects / name[:2] / name[2:]).write_bytes(zlib.compress(whole, 1))
    return name


_AT = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@ ?(.*)")


def _read_hunks(patch: bytes, found: list[list[Hunk] | None]) -> None:
    """Lines of content are counted, not looked at: they may look like anything."""
    position, number, left = 0, 0, 0
    while position < len(patch):
        end = patch.find(b"\n", position)
        end = len(patch) if end < 0 else end
        if left:
            left -= patch[position] != 0x5C  # "\ No newline at end of file"
        elif patch.startswith(b"@@ ", position):
            match = _AT.match(patch, position, end)
            assert match is not None
            old_count, new_count = (int(match[group] or 1) if match[group] != b"0" else 0 for group in (2, 4))
            left = old_count + new_count
            old_start, new_start = int(match[1]) - (old_count > 0), int(match[3]) - (new_count > 0)
            heading = match[5].decode(errors="surrogateescape")
            hunk = Hunk(old_start, old_start + old_count, new_start, new_start + new_count, heading)
            hunks_of = found[number]
            assert hunks_of is not None
            hunks_of.append(hunk)
        elif patch.startswith(b"diff --git ", position):
            number = int(patch[position + 13 : position + 19])
        elif patch.startswith(b"Binary files ", position):
            found[number] = None
        position = end + 1


def blobs(mirror: Path, names: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Which of these names (an id, or TREE:PATH) are blobs: name → (id, bytes). A name with a line break is none."""
    names = [name for name in dict.fromkeys(names) if name and "\n" not in name]
    asked = os.fsencode("".join(f"{name}\n" for name in names))
    args = ["cat-file", "--batch-check=%(objecttype) %(objectname) %(objectsize)", "--buffer"]
    lines = ask(mirror, args, input=asked).split(b"\n") if names else []
    found = (line.decode().split(" ") if line.startswith(b"blob ") else None for line in lines)
    return {name: (words[1], int(words[2])) for name, words in zip(names, found, strict=False) if words}


def contents(mirror: Path, sizes: Mapping[str, int], *, most: int) -> dict[str, bytes]:
    """The blobs of these ids and sizes; those of more than `most` bytes, and what goes over MOST_IN_ALL together, are left out."""
    wanted, total = [], 0
    for blob, size in sizes.items():
        if size <= most and total + size <= MOST_IN_ALL:
            wanted.append(blob)
            total += size
    output = ask(mirror, ["cat-file", "--batch", "--buffer"], input="".join(f"{blob}\n" for blob in wanted).encode()) if wanted else b""
    found, position = {}, 0
    for blob in wanted:
        start = output.index(b"\n", position) + 1
        if output[position:start].split() != [blob.encode(), b"blob", str(sizes[blob]).encode()]:
            raise lost(mirror)
        found[blob] = output[start : start + sizes[blob]]
        position = start + sizes[blob] + 1
    return found


def attribute_files(tree: str, paths: Iterable[str]) -> dict[str, str]:
    """The .gitattributes that there may be for these paths, as path → name for `blobs`."""
    folders = {folder for path in paths for folder in PurePosixPath(path).parents}
    return {path: f"{tree}:{path}" for path in sorted(str(folder / ".gitattributes") for folder in folders)}


def attributes(mirror: Path, files: Mapping[str, tuple[str, int]], paths: Iterable[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The attributes of these names that these paths have by these .gitattributes (path → blob and its size): path → name →
    "set", "unset" or a value. Paths that have none of them are left out."""
    heeded = {path: blob for path, (blob, size) in files.items() if size <= _MOST_ATTRIBUTES}
    if not heeded:
        return {}
    index = "".join(f"100644 {blob}\t{path}\0" for path, blob in heeded.items())
    with tempfile.TemporaryDirectory(prefix="asynccode-index-") as folder:
        env = {"GIT_INDEX_FILE": f"{folder}/index"}
        ask(mirror, ["update-index", "-z", "--index-info"], input=os.fsencode(index), env=env)
        asked = os.fsencode("".join(f"{path}\0" for path in paths))
        words = os.fsdecode(ask(mirror, ["check-attr", "--cached", "-z", "--stdin", *names], input=asked, env=env)).split("\0")
    found: dict[str, dict[str, str]] = {}
    for path, name, value in zip(words[0::3], words[1::3], words[2::3], strict=False):
        if value != "unspecified":
            found.setdefault(path, {})[name] = value
    return found
