"""The patch of a workspace against its base commit, made where the agent's own git has no say.

Its tree is the base tree with every path that `.gitignore` files do not ignore as `git add` would store it now:
attributes honoured, raw bytes where a filter is missing. Except: submodules of the base stay as they were, nested
repositories become plain files, files over the limit stay as in the base and are named, and a folder `artifacts` at the
top in which the base has nothing is left out (`browse.collect` is there for it). A file whose bytes are the base's own
is unchanged, also where `git add` would normalise its line ends, unless a `.gitattributes` has changed.

What is compared is the work tree with the base; the workspace's `.git` is read only once, by `PatchMaker.trust`.
"""

# ruff: noqa: B905 - zip has no `strict` in Python 3.8

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import subprocess
import tempfile
import threading
from contextlib import contextmanager, suppress

from ._patch_git import PATIENCE_S, SHA256_DIGITS, Git, GitError, IgnoreRules, environment, make_git_dir, words
from ._patch_index import PrivateIndex, SavedIndex, plainly
from ._patch_walk import Found, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Optional

_CHUNK = 1 << 20
_ROOM = "patch-"
_TRIES = 5
_HEADER = 200  # bytes that a change costs in a patch besides its content and the names, roughly
_DIFF = ("diff-tree", "-p", "--binary", "--full-index", "-M", "--no-ext-diff", "--no-textconv", "--no-color")
_PREFIXES = ("--src-prefix=a/", "--dst-prefix=b/")


class PatchMaker:
    """Makes patches of one workspace.

    `mirror_objects` are object directories that hold the base commit; `scratch` is an existing folder. An agent may
    spoil what lies in it: nothing there outlives one patch but a hint for checkpoints. Files over `max_file_bytes`
    are left out; then, largest first, what brings the changed files' sizes, or the patch itself, over
    `max_patch_bytes`. Both may be set anew between patches. Every failure is a RuntimeError with a sentence.
    """

    def __init__(
        self, workspace: str, scratch: str, mirror_objects: list[str], base: str, max_file_bytes: int, max_patch_bytes: int
    ) -> None:
        self.max_file_bytes = max_file_bytes
        self.max_patch_bytes = max_patch_bytes
        self._workspace = workspace
        self._scratch = scratch
        self._base = base
        self._alternates = ":".join('"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"' for path in mirror_objects)
        self._hint = os.path.join(scratch, f"hint-{base}")
        self._trusted: Optional[SavedIndex] = None

    def trust(self) -> None:
        """Take the workspace's index for true, and with it that what it calls unchanged need never be read again.

        To be called right after the checkout of the base, while no agent has run and nothing else is alive. Without
        it every final patch reads every file.
        """
        try:
            self._trusted = SavedIndex.read(os.path.join(self._workspace, ".git", "index"))
        except OSError as error:
            raise RuntimeError(f"The index of the fresh checkout cannot be read: {error.strerror}.") from error

    def final(self, out_fd: int) -> dict[str, Any]:
        """Write the patch to `out_fd` (a regular file, from its present offset on), when nothing else is alive.

        Gives {"sha256", "bytes", "left_out": [{"path", "bytes", "reason"}], "tree"}: `tree` is the id of the tree
        that the patch makes of the base, `left_out` what differs from it in the workspace and why, sorted by path
        ("size", "total", "unreadable", "submodule" or "git: " and its words). May be repeated; changes nothing.
        """
        return self._make(out_fd, is_alive=False)

    def checkpoint(self, out_fd: int) -> dict[str, Any]:
        """Like `final` while agents are alive; what changes or vanishes meanwhile is left for the next time."""
        start = os.lseek(out_fd, 0, os.SEEK_CUR)
        for _ in range(_TRIES - 1):
            with suppress(GitError):  # a file cut short while git had it mapped kills git
                return self._make(out_fd, is_alive=True)
            os.lseek(out_fd, start, os.SEEK_SET)
        return self._make(out_fd, is_alive=True)

    def _make(self, out_fd: int, *, is_alive: bool) -> dict[str, Any]:
        try:
            return self._made(out_fd, is_alive=is_alive)
        except OSError as error:
            raise RuntimeError(f"The patch could not be written: {error.strerror} ({error.filename or 'its file'}).") from error

    def _made(self, out_fd: int, *, is_alive: bool) -> dict[str, Any]:
        with self._fresh() as git:
            index = PrivateIndex(git)
            base_tree = self._base_tree(git)
            left_out: dict[bytes, tuple[int, str]] = {}
            self._fill(git, index, left_out, is_alive=is_alive)
            tree = index.write_tree()
            start = os.lseek(out_fd, 0, os.SEEK_CUR)
            budget = self.max_patch_bytes
            while True:
                os.ftruncate(out_fd, start)
                os.lseek(out_fd, start, os.SEEK_SET)
                written = self._write(git, base_tree, tree, out_fd)
                if written is not None:
                    break
                self._shrink(git, index, (base_tree, tree), budget, left_out)
                tree = index.write_tree()
                budget //= 2
        return {
            "sha256": written[0],
            "bytes": written[1],
            "left_out": [
                {"path": path.decode("utf-8", "replace"), "bytes": size, "reason": reason}
                for path, (size, reason) in sorted(left_out.items())
            ],
            "tree": tree,
        }

    @contextmanager
    def _fresh(self) -> Iterator[Git]:
        """git with a repository of its own, no object and no index yet, all of it gone afterwards.

        The lock says that somebody still works in a folder; what killed ones left behind goes first.
        """
        self._tidy()
        room = tempfile.mkdtemp(prefix=_ROOM, dir=self._scratch)
        lock = os.open(room, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            home, git_dir = os.path.join(room, "home"), os.path.join(room, "git")
            os.mkdir(home)
            make_git_dir(git_dir, self._base)
            env = environment(git_dir, self._workspace, home)
            env["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = self._alternates
            env["GIT_INDEX_FILE"] = os.path.join(room, "index")
            yield Git(env, self._workspace)
        finally:
            os.close(lock)
            _remove(room)

    def _tidy(self) -> None:
        for name in os.listdir(self._scratch):
            if not name.startswith(_ROOM):
                continue
            room = os.path.join(self._scratch, name)
            with suppress(OSError):  # somebody works in it, or it is no folder
                lock = os.open(room, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(room)
                finally:
                    os.close(lock)

    def _base_tree(self, git: Git) -> str:
        try:
            return git.run("rev-parse", "--verify", "--quiet", "--end-of-options", self._base + "^{tree}").decode().strip()
        except GitError as error:
            raise RuntimeError(f"The base commit {self._base} is not among the repository's objects.") from error

    def _fill(self, git: Git, index: PrivateIndex, left_out: dict[bytes, tuple[int, str]], *, is_alive: bool) -> None:
        """Bring the private index from the base to what the workspace holds."""
        known = self._trusted or (self._hinted() if is_alive else None)
        if known is not None:
            index.load(known)
        else:
            index.load_tree(self._base)
        tracked, submodules = index.entries()
        with IgnoreRules(git) as rules:  # the walk first: it finds the pipes that git would wait for
            found = walk(os.fsencode(self._workspace), tracked, submodules, rules.ask)
        if submodules:  # git would open their repositories
            index.skip(submodules)
        self._name_obstacles(found, rules.refused, left_out)
        if known is None:
            index.refresh()
            if is_alive:
                fresh = git.env["GIT_INDEX_FILE"] + ".hint"
                index.save().write(fresh)
                os.replace(fresh, self._hint)
        shut = tuple(folder + b"/" if folder else b"" for folder in found.closed)
        removed = [path for path in tracked - found.kept if not path.startswith(shut)]
        if removed:
            index.put((b"0", b"0" * len(self._base), path) for path in removed)
        changed = index.changed()
        if any(path.rpartition(b"/")[2] == b".gitattributes" for paths in (removed, found.new, changed) for path in paths):
            index.distrust()
            changed = dict.fromkeys(index.changed())
        paths = self._affordable(git, changed, found.new, left_out)
        for path, said in index.store(paths).items():
            if not is_alive or os.path.lexists(self._full(path)):
                left_out[path] = self._size(path), f"git: {said}"

    def _hinted(self) -> Optional[SavedIndex]:
        """What a checkpoint before learned of the files; agents could have forged it, so a final patch never asks."""
        try:
            return SavedIndex.read(self._hint)
        except OSError:
            return None

    def _name_obstacles(self, found: Found, refused: Iterable[bytes], left_out: dict[bytes, tuple[int, str]]) -> None:
        for path in found.closed:
            left_out[(path or b".") + b"/"] = 0, "unreadable"
        for path in found.forbidden:
            left_out[path] = self._size(path), "git: invalid path"
        for path in found.blocked:
            left_out[path] = self._size(path), "submodule"
        for path in refused:
            left_out[path] = self._size(path), "git: cannot tell whether it is ignored"

    def _affordable(
        self, git: Git, changed: dict[bytes, Optional[bytes]], new: Iterable[bytes], left_out: dict[bytes, tuple[int, str]]
    ) -> list[bytes]:
        """The paths to store, in order, without those whose bytes have the object id that `changed` gives (they are
        unchanged); what is over the limits or cannot be read is named instead."""
        seen = {path: size for path in sorted([*changed, *new]) for size in self._seen(path, left_out)}
        over = [oid for path, oid in changed.items() if oid is not None and seen.get(path, 0) > self.max_file_bytes]
        blob_sizes = dict(zip(over, self._blob_sizes(git, over)))
        sizes: dict[bytes, int] = {}
        for path, size in seen.items():
            oid = changed.get(path)
            if oid is not None and blob_sizes.get(oid, size) == size and self._is_blob(path, size, oid):
                continue
            if size > self.max_file_bytes:
                left_out[path] = size, "size"
            else:
                sizes[path] = size
        for path in _excess(sizes, self.max_patch_bytes):
            left_out[path] = sizes.pop(path), "total"
        return list(sizes)

    def _seen(self, path: bytes, left_out: dict[bytes, tuple[int, str]]) -> Iterator[int]:
        """The size of what is to be stored; nothing when it is gone or cannot be read."""
        full = self._full(path)
        try:
            status = os.lstat(full)
        except FileNotFoundError:
            return
        except OSError:
            left_out[path] = 0, "unreadable"
            return
        if stat.S_ISREG(status.st_mode) and not os.access(full, os.R_OK):
            left_out[path] = status.st_size, "unreadable"
            return
        yield status.st_size

    def _is_blob(self, path: bytes, size: int, oid: bytes) -> bool:
        """Whether the file's bytes, as they are, have this object id."""
        digest = hashlib.new("sha256" if len(oid) == SHA256_DIGITS else "sha1", b"blob %d\0" % size)
        try:
            with open(self._full(path), "rb", buffering=0, opener=plainly) as file:
                rest = size + 1  # not one that grows for ever
                while rest and (chunk := file.read(min(rest, _CHUNK))):
                    digest.update(chunk)
                    rest -= len(chunk)
        except OSError:  # a symbolic link, or something else meanwhile: git will see
            return False
        return digest.hexdigest().encode() == oid

    def _write(self, git: Git, base_tree: str, tree: str, out_fd: int) -> Optional[tuple[str, int]]:
        """Stream the patch; its SHA-256 and size, or None as soon as it is over the limit.

        No attributes are in force here: `-diff` would hide changes from whoever reviews the patch or scans it.
        """
        digest = hashlib.sha256()
        size = 0
        if tree == base_tree:
            return digest.hexdigest(), size
        home = git.env["HOME"]
        blind = git.with_env(cwd=home, GIT_WORK_TREE=home, GIT_INDEX_FILE=os.path.join(home, "none"))
        with blind.start(*_DIFF, *_PREFIXES, base_tree, tree) as process:
            output = process.stdout
            assert output is not None
            clock = threading.Timer(PATIENCE_S, process.kill)
            clock.start()
            try:
                for chunk in iter(lambda: output.read(_CHUNK), b""):
                    size += len(chunk)
                    if size > self.max_patch_bytes:
                        process.kill()
                        return None
                    digest.update(chunk)
                    _write_all(out_fd, chunk)
            finally:
                clock.cancel()
        if process.returncode != 0:
            raise GitError("diff-tree", words(b"", process.returncode))
        return digest.hexdigest(), size

    def _shrink(self, git: Git, index: PrivateIndex, trees: tuple[str, str], budget: int, left_out: dict[bytes, tuple[int, str]]) -> None:
        """Put the largest changes back, so that what the rest takes away and adds is about `budget` bytes; 0 puts all back."""
        fields = git.run("diff-tree", "-r", "-z", "--raw", "--no-renames", *trees).split(b"\0")[:-1]
        before: dict[bytes, tuple[bytes, bytes, bytes]] = {}
        oids: dict[bytes, list[bytes]] = {}
        for meta, path in zip(fields[::2], fields[1::2]):
            mode, _mode, old, new, _status = meta[1:].split(b" ")
            before[path] = (mode.lstrip(b"0") or b"0", old, path)
            oids[path] = [oid for oid in (old, new) if oid.strip(b"0")]
        sizes = iter(self._blob_sizes(git, [oid for both in oids.values() for oid in both]))
        weights = {path: sum(next(sizes) for _ in both) + 2 * len(path) + _HEADER for path, both in oids.items()}
        back = _excess(weights, budget)
        for path in back:
            left_out[path] = self._size(path), "total"
        index.put(before[path] for path in back)

    def _blob_sizes(self, git: Git, oids: list[bytes]) -> list[int]:
        if not oids:
            return []
        return [int(line) for line in git.run("cat-file", "--batch-check=%(objectsize)", stdin=b"\n".join(oids) + b"\n").split()]

    def _full(self, path: bytes) -> bytes:
        return os.path.join(os.fsencode(self._workspace), path)

    def _size(self, path: bytes) -> int:
        try:
            return os.lstat(self._full(path)).st_size
        except OSError:
            return 0


def _remove(folder: str) -> None:
    """As much as can be; `rm` copes with folders nested deeper than Python's stack."""
    subprocess.run(["/bin/rm", "-rf", "--", folder], check=False, stderr=subprocess.DEVNULL)


def _excess(sizes: dict[bytes, int], budget: int) -> list[bytes]:
    """The largest ones, as few as possible, without which the rest is at most `budget`."""
    excess = sum(sizes.values()) - budget
    chosen = []
    for path, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        if excess <= 0:
            break
        chosen.append(path)
        excess -= size
    return chosen


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
