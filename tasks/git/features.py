"""What a repository holds that sandboxes get in another form: files kept in Git LFS, and submodules.

The tree is the repository's, so its names, sizes and numbers may be anything: all that is read here is bounded, and a
tree that cannot be walked in time raises GitTimedOut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.git.commands import git
from tasks.git.mirrors import resolve

MOST_FILES = 1000  # files named .gitattributes
MOST_BYTES = 256 * 1024  # of one of them
MOST_BYTES_IN_ALL = 16 * 2**20
_TIMEOUT_S = 10.0

_EMPTY_TREE = {40: "4b825dc642cb6eb9a060e54bf8d69288fbee4904", 64: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321"}
# A regular file as `ls-tree -z` and `diff-tree -z --raw` list it.
_REGULAR = re.compile(rb"(?:100(?:644|755) blob |:000000 100(?:644|755) 0+ )([0-9a-f]+)(?:\t| A\0)([^\0]*)\0")
_LFS = re.compile(rb"(?m)^[ \t]*[^#\s].*[ \t]filter=lfs(?=[ \t\r]|$)")


@dataclass(frozen=True)
class Features:
    has_lfs: bool = False
    has_submodules: bool = False


def features(path: Path, branch: str) -> Features:
    """What the tree of this branch in the mirror at `path` says. BranchMissing, RepoUnavailable (GitTimedOut)."""
    commit = resolve(path, branch)
    top = _blobs(path, "ls-tree", "-z", commit, "--", ".gitattributes", ".gitmodules")
    has_lfs = any(map(_LFS.search, _contents(path, top.get(b".gitattributes", []))))
    if not has_lfs:
        changes = ("diff-tree", "-r", "-z", "--raw", "--no-renames", _EMPTY_TREE[len(commit)], commit)
        below = _blobs(path, *changes, "--", ":(glob)**/.gitattributes")
        has_lfs = any(map(_LFS.search, _contents(path, (oid for oids in below.values() for oid in oids))))
    return Features(has_lfs, has_submodules=b".gitmodules" in top)


def _blobs(path: Path, *args: str) -> dict[bytes, list[bytes]]:
    """The ids of the regular files that git lists, by their path."""
    found: dict[bytes, list[bytes]] = {}
    for entry in _REGULAR.finditer(git(args, git_dir=path, timeout=_TIMEOUT_S)):
        found.setdefault(entry[2], []).append(entry[1])
    return found


def _contents(path: Path, ids: Iterable[bytes]) -> list[bytes]:
    """What is in these files, as many of them as the bounds allow."""
    asked = list(dict.fromkeys(ids))[:MOST_FILES]
    read, left = [], MOST_BYTES_IN_ALL
    for oid, size in (line.split() for line in _cat(path, "--batch-check=%(objectname) %(objectsize)", asked).splitlines()):
        if size.isdigit() and int(size) <= min(MOST_BYTES, left):
            read.append(oid)
            left -= int(size)
    return [_cat(path, "--batch=%(objectsize)", read)] if read else []


def _cat(path: Path, option: str, ids: list[bytes]) -> bytes:
    return git(["cat-file", option], git_dir=path, timeout=_TIMEOUT_S, input=b"".join(oid + b"\n" for oid in ids)) if ids else b""
