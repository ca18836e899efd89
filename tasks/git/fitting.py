"""Whether trees of `trees.py` still go together with what a branch holds now: merges that are tried, and whose objects are thrown away."""

from __future__ import annotations

import hashlib
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from tasks.errors import AppError
from tasks.git.commands import clean, version
from tasks.git.trees import ask, place_of

_NOBODY = "asynccode <asynccode@localhost> 0 +0000"


def conflicts(mirror: Path, *, base_commit: str, head: str, trees: Sequence[str]) -> list[list[str]]:
    """Of each of these trees, which were made from `base_commit`, the paths in which it conflicts with what the commit `head` holds.

    They are merged as publishing does it: what both have in common is the base commit, wherever `head` came from. All by two calls
    of git. Errors: RepoUnavailable (TreesLost), AppError (git is too old).
    """
    if version() < (2, 39):
        raise AppError("git on this server is older than 2.39 and cannot tell.")
    if not trees:
        return []
    there = ask(mirror, ["rev-parse", f"{head}^{{tree}}"]).decode().strip()
    with tempfile.TemporaryDirectory(prefix="asynccode-objects-") as folder:
        ours = _commit(Path(folder), there, base_commit)
        pairs = "".join(f"{ours} {_commit(Path(folder), tree, base_commit)}\n" for tree in trees)
        env = {"GIT_OBJECT_DIRECTORY": folder, "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{place_of(mirror) / "objects"}"'}
        output = ask(mirror, ["merge-tree", "--stdin", "--name-only", "--no-messages"], input=pairs.encode(), env=env)
    return _read(output, len(trees))


def _read(output: bytes, count: int) -> list[list[str]]:
    """A status, the merged tree, the conflicting paths and an empty word for each merge."""
    words = iter(output.split(b"\0"))
    found = []
    for _ in range(count):
        next(words)
        next(words)
        found.append([clean(path) for path in iter(lambda: next(words), b"")])
    return found


def _commit(objects: Path, tree: str, parent: str) -> str:
    """A commit that exists in this folder of objects only."""
    body = f"tree {tree}\nparent {parent}\nauthor {_NOBODY}\ncommitter {_NOBODY}\n\n".encode()
    whole = b"commit %d\0%s" % (len(body), body)
    name = (hashlib.sha1(whole, usedforsecurity=False) if len(tree) == 40 else hashlib.sha256(whole)).hexdigest()
    (objects / name[:2]).mkdir(exist_ok=True)
    (objects / name[:2] / name[2:]).write_bytes(zlib.compress(whole, 1))
    return name
