"""A private index: git's list of what a tree is to hold, and its memory of which files it has already read."""

# ruff: noqa: B905 - zip has no `strict` in Python 3.8

from __future__ import annotations

import os
from contextlib import suppress

from ._patch_git import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Optional

    from ._patch_git import Git

_MOST_REFUSALS = 100  # every file that git refuses costs two processes
_LONG_AGO_NS = 10**9  # an index as old as this makes git compare contents, whatever the times say


class SavedIndex:
    """An index file as bytes with its time, which git needs to know which entries it may believe."""

    def __init__(self, content: bytes, mtime_ns: int) -> None:
        self.content = content
        self.mtime_ns = mtime_ns

    @classmethod
    def read(cls, path: str) -> SavedIndex:
        """OSError when there is no such file."""
        with open(path, "rb", opener=plainly) as file:
            return cls(file.read(), os.fstat(file.fileno()).st_mtime_ns)

    def write(self, path: str) -> None:
        with open(path, "wb") as file:
            file.write(self.content)
        os.utime(path, ns=(self.mtime_ns, self.mtime_ns))


class PrivateIndex:
    """The index file that `git` works with."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._path = git.env["GIT_INDEX_FILE"]

    def load(self, saved: SavedIndex) -> None:
        saved.write(self._path)

    def load_tree(self, tree: str) -> None:
        """All of a tree, nothing known of any file yet: `refresh` then reads every one."""
        self._git.run("read-tree", tree)

    def save(self) -> SavedIndex:
        return SavedIndex.read(self._path)

    def refresh(self) -> None:
        self._git.run("update-index", "-q", "--refresh", codes=(0, 1))

    def distrust(self) -> None:
        """Have every file compared by content from now on."""
        os.utime(self._path, ns=(_LONG_AGO_NS, _LONG_AGO_NS))

    def entries(self) -> tuple[set[bytes], set[bytes]]:
        """The files and links, and the submodules."""
        files: set[bytes] = set()
        submodules: set[bytes] = set()
        for entry in self._git.run("ls-files", "-z", "--stage").split(b"\0")[:-1]:
            (submodules if entry.startswith(b"160000 ") else files).add(entry.partition(b"\t")[2])
        return files, submodules

    def skip(self, paths: Iterable[bytes]) -> None:
        """Never look at these in the workspace."""
        self._git.run("update-index", "-z", "--skip-worktree", "--stdin", stdin=lines(paths))

    def put(self, entries: Iterable[tuple[bytes, bytes, bytes]]) -> None:
        """Set entries (mode, object id, path) without looking at the workspace; mode 0 removes."""
        self._git.run("update-index", "-z", "--index-info", stdin=b"".join(b"%s %s\t%s\0" % entry for entry in entries))

    def changed(self) -> dict[bytes, Optional[bytes]]:
        """The paths that may differ in the workspace, each with the id of the object it has here, None if its mode
        differs. What is gone is not among them."""
        fields = self._git.run("diff-files", "-z", "--raw", "--no-renames", "--no-ext-diff", "--ignore-submodules=all").split(b"\0")[:-1]
        changed: dict[bytes, Optional[bytes]] = {}
        for meta, path in zip(fields[::2], fields[1::2]):
            old_mode, new_mode, oid, _zeros, status = meta[1:].split(b" ")
            if status != b"D":
                changed[path] = oid if old_mode == new_mode else None
        return changed

    def store(self, paths: list[bytes]) -> dict[bytes, str]:
        """Put the workspace's files and links here as `git add` would; gives the refused ones with git's words.

        One that git dies of costs the others nothing but a second try.
        """
        refused: dict[bytes, str] = {}
        batches = [paths]
        while batches:
            batch = batches.pop()
            if not batch:
                continue
            if len(refused) >= _MOST_REFUSALS:
                refused.update(dict.fromkeys(batch, f"not tried, as {_MOST_REFUSALS} others could not be stored"))
                continue
            done = self._git.attempt("update-index", "-z", "--verbose", "--add", "--remove", "--replace", "--stdin", stdin=lines(batch))
            if done.returncode < 0:  # a file cut short while git had it mapped; which one, nobody says
                with suppress(FileNotFoundError):
                    os.unlink(self._path + ".lock")
                if len(batch) > 1:
                    middle = len(batch) // 2
                    batches += [batch[middle:], batch[:middle]]
                    continue
            stored, skipped, at = _progress(batch, done.stdout, done.stderr)
            is_first = not refused
            refused.update(dict.fromkeys(skipped, "invalid path"))
            if done.returncode == 0:
                continue
            at = min(at, len(batch) - 1)
            refused[batch[at]] = words(done.stderr, done.returncode)
            rest = batch[at + 1 :]
            if is_first:  # the usual cause is an encoding that does not fit: such files go last, so that they alone fail
                rest, encoded = self._by_encoding(rest)
                batches.append(encoded)
            batches += [rest, stored]
        return refused

    def _by_encoding(self, paths: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """The paths without and with a `working-tree-encoding`."""
        fields = self._git.run("check-attr", "-z", "--stdin", "working-tree-encoding", stdin=lines(paths)).split(b"\0")[:-1]
        encoded = {path for path, value in zip(fields[::3], fields[2::3]) if value != b"unspecified"}
        return [path for path in paths if path not in encoded], [path for path in paths if path in encoded]

    def write_tree(self) -> str:
        return self._git.run("write-tree").decode().strip()


def plainly(path: str | bytes, flags: int) -> int:
    """An opener that follows no link at the end and waits for no pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def lines(paths: Iterable[bytes]) -> bytes:
    return b"".join(path + b"\0" for path in paths)


def _progress(batch: list[bytes], said: bytes, complained: bytes) -> tuple[list[bytes], list[bytes], int]:
    """How far `update-index --verbose` came: the paths stored, those it stepped over, and the position it died at."""
    stored: list[bytes] = []
    skipped: list[bytes] = []
    at = 0
    for number, path in enumerate(batch):
        line = b"add '" + path + b"'\n"
        if said.startswith(line, at):
            at += len(line)
            stored.append(path)
        elif b"Ignoring path " + path + b"\n" in complained:
            skipped.append(path)
        else:
            return stored, skipped, number
    return stored, skipped, len(batch)
