"""Patches as trees, in a repository of our own beside each mirror. What there is to know of a change is asked of trees.

The repository borrows the mirror's objects and holds only what patches add to them. Nothing refers to these objects and nothing
removes them, since garbage is never collected here; all of it may be deleted at any time, for trees are made of patches again.
Sandboxes never see it. It has no work tree, so no attribute, filter or line ending has a say in what a tree is.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.errors import AppError, RepoUnavailable
from tasks.git.commands import GitFailed, GitTimedOut, git
from tasks.git.workspaces import APPLY, make_borrowing

_TIMEOUT_S = 60.0
_LEFTOVER_S = 3600.0


class TreesLost(RepoUnavailable):
    """Our trees of a repository were damaged or deleted. They are made anew of their patches: `tree_of`, then ask again."""

    code = "trees_lost"


def tree_of(mirror: Path, *, base_commit: str, patch: bytes, timeout: float = _TIMEOUT_S) -> str:
    """The id of the tree that `base_commit` has with this patch: what `git write-tree` gave in the workspace it was made in.

    The same arguments give the same tree. It may be called by several at once and again after any crash.
    Errors: AppError (the patch does not fit), RepoUnavailable.
    """
    try:
        return _applied(mirror, base_commit, patch, timeout)
    except TreesLost:
        try:
            return _applied(mirror, base_commit, patch, timeout)
        except TreesLost as error:
            raise RepoUnavailable(
                "Our copy of the repository no longer has the commit that this change was made from, so it cannot be shown."
            ) from error


def has(mirror: Path, tree: str) -> bool:
    """Whether a tree is still there, as far as one can tell without starting git for it."""
    return bool(tree) and (place_of(mirror) / "objects" / tree[:2] / tree[2:]).exists()


def place_of(mirror: Path) -> Path:
    return mirror.with_name(f"{mirror.stem}.trees.git")


def ask(
    mirror: Path, args: Sequence[str], *, input: bytes = b"", env: Mapping[str, str] | None = None, timeout: float = _TIMEOUT_S
) -> bytes:
    """What git says of the trees of this mirror. TreesLost when they cannot be read (what is damaged is gone then)."""
    place = place_of(mirror)
    if not place.exists():
        _make(mirror, timeout)
    try:
        return git(args, git_dir=place, timeout=timeout, input=input, env=env)
    except GitTimedOut:
        raise
    except GitFailed as error:
        if not error.tells_of_damage:
            raise
        raise lost(mirror) from error


def lost(mirror: Path) -> TreesLost:
    """What to raise when something of them is not there: what is left is deleted, so that all is made anew."""
    forget(mirror)
    return TreesLost("What was known of this change is lost. It is made anew: try again.")


def forget(mirror: Path) -> None:
    """Delete all trees of a mirror."""
    place = place_of(mirror)
    if place.exists():
        old = Path(tempfile.mkdtemp(prefix=f"{place.name}.", dir=place.parent))
        try:
            place.rename(old)
        except OSError:  # another process was faster
            if place.exists():
                raise
        shutil.rmtree(old, ignore_errors=True)  # somebody may still write there; then it is left to a later call
    for leftover in place.parent.glob(f"{place.name}.*"):
        if time.time() - leftover.stat().st_mtime > _LEFTOVER_S:
            shutil.rmtree(leftover, ignore_errors=True)


def _applied(mirror: Path, base_commit: str, patch: bytes, timeout: float) -> str:
    if not patch.strip():
        return ask(mirror, ["rev-parse", f"{base_commit}^{{tree}}"], timeout=timeout).decode().strip()
    with tempfile.TemporaryDirectory(prefix="asynccode-index-") as folder:
        index = {"GIT_INDEX_FILE": f"{folder}/index"}
        ask(mirror, ["read-tree", base_commit], env=index, timeout=timeout)
        try:
            ask(mirror, APPLY, input=patch, env=index, timeout=timeout)
        except GitTimedOut:
            raise
        except GitFailed as error:
            raise AppError("This patch does not fit the commit it was made from, so it cannot be shown. Run it again.") from error
        return ask(mirror, ["write-tree"], env=index, timeout=timeout).decode().strip()


def _make(mirror: Path, timeout: float) -> None:
    if not mirror.exists():
        raise RepoUnavailable("Our copy of the repository is not here, so this cannot be shown. Fetch the repository again.")
    place = place_of(mirror)
    if not mirror.exists():
        raise RepoUnavailable("Our copy of the repository is not there any more. Fetch the repository again.")
    new = Path(tempfile.mkdtemp(prefix=f"{place.name}.", dir=place.parent))
    try:
        object_format = git(["rev-parse", "--show-object-format"], git_dir=mirror, timeout=timeout).decode().strip()
        make_borrowing(mirror, new, object_format, timeout=timeout)
        with (new / "config").open("a") as file:
            file.write("[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n")
        new.rename(place)
    except OSError:  # another process was faster; its repository is as good
        if not place.exists():
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
