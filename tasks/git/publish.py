"""A run's patch as a commit on a branch of the repository it came from.

All that is sent is a function of the arguments and of the commit it stands on, its id too. So a call that died at any
point is simply made again: what is on the branch already is recognized by its id, and nothing is pushed twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tasks.errors import AppError, InvalidInput
from tasks.git import mirrors
from tasks.git.clones import Author, Clone, clone
from tasks.git.commands import version
from tasks.git.conflicts import Conflicts, conflicting
from tasks.git.refusals import BranchMoved, explained
from tasks.git.remotes import Remote
from tasks.git.sources import Source, valid_branch

_STAND_IN = Author("asynccode", "asynccode@localhost")  # of commits that nobody gets to see


@dataclass(frozen=True)
class Published:
    """`commit` is what the branch holds now, `base` the commit of the base branch that it stands on.

    `is_rebased`: that is another one than the task's base commit. `was_there`: the branch held it already.
    """

    commit: str
    base: str
    is_rebased: bool
    was_there: bool


class NothingToPublish(AppError):
    """The patch is empty, or the base branch holds the same by now."""

    code = "nothing_to_publish"


def publish(
    mirror: Path,
    source: Source,
    *,
    base_commit: str,
    base_branch: str,
    patch: bytes,
    branch: str,
    message: str,
    author: Author,
    at: datetime,
    co_authors: Sequence[Author] = (),
    token: str = "",
    previous: str = "",
    rebase: bool = True,
    settled: Mapping[str, str] | None = None,
    scratch: Path,
    timeout: float,
    gid: int | None = None,
) -> Published:
    """Commit `patch` (from `base_commit`, of `base_branch`) and push it to `branch` of the source.

    The commit stands on what the base branch holds now, or, without `rebase`, on `base_commit`. With `previous`, the
    commit that was pushed last, it stands on that instead, with the tree that the new patch gives on the same base:
    nothing is forced. The same arguments give the same commit; `at` is its time. Nothing of others' is ever overwritten.

    After Conflicts, a patch that was brought together with them says so in `settled`: path → the error's `commit`. What
    the patch has there then counts as made from what that commit has there.

    `scratch` is a folder for this only, which any number of calls may share; what a killed call left there is removed.
    `timeout` is in seconds, for all of it; `gid` as in `mirrors`. May be repeated, after any crash.
    Errors: NothingToPublish, Conflicts, BranchMoved, PublishRefused (TokenRefused), RepoUnavailable, BranchMissing.
    """
    if source.is_local:
        raise InvalidInput("This repository is a folder on this machine. Only what comes from an https URL can be published.")
    if not patch.strip():
        raise NothingToPublish("There is nothing to publish: this run has changed no files.")
    if valid_branch(branch) == base_branch:
        raise InvalidInput(f"{branch} is the branch that the task started from. Publish under another name.", field="branch")
    remote = Remote(source, time.monotonic() + timeout, token=token)
    with explained(remote, branch):
        mirrors.fetch(mirror, source, branch=base_branch, timeout=remote.seconds_left, token=token, gid=gid)
    newest = mirrors.resolve(mirror, base_branch)
    with clone(mirror, base_commit, scratch, remote) as ours:
        tree = ours.apply(patch)
        change = _Change(ours, base_commit, tree, base_branch, _message(ours, message, co_authors), author, at, settled or {})
        tip = ours.tip(branch)
        onto = newest if rebase else base_commit
        published = _after(previous, change, branch, newest, tip) if previous else _first(change, onto, tip)
        if not published.was_there:
            if tip != previous:
                raise _moved(source, branch, previous, tip)
            ours.push(published.commit, branch, expected=tip)
        return published


@dataclass(frozen=True)
class _Change:
    """What is published: `tree` is that of `base_commit` with the patch."""

    clone: Clone
    base_commit: str
    tree: str
    base_branch: str
    message: bytes
    author: Author
    at: datetime
    settled: Mapping[str, str]

    def commit(self, tree: str, parent: str) -> str:
        return self.clone.commit(tree, [parent], self.message, self.author, self.at)

    def on(self, base: str, way_out: str) -> str:
        """The tree of `base` with these changes. Conflicts, which say the `way_out`.

        It is merged as a rebase does it: what both have in common is the task's base commit, wherever `base` came from, but
        at a settled path what the patch was brought together with.
        """
        if base == self.base_commit:
            return self.tree
        if version() < (2, 38):
            raise AppError("git on this server is older than 2.38 and cannot rebase. Publish on the commit that the task started from.")
        common = self._stand_in(self.clone.patchwork(self.base_commit, self.settled))
        ours, theirs = self._stand_in(self.clone.tree(base), common), self._stand_in(self.tree, common)
        output = self.clone.git("merge-tree", "--write-tree", "-z", "--name-only", "--messages", ours, theirs, good=(0, 1))
        if found := conflicting(self.clone, output, {ours: self.base_branch, theirs: "these changes"}):
            raise Conflicts(self.base_branch, base, found, way_out)
        return output.split(b"\0")[0].decode().strip()

    def _stand_in(self, tree: str, *parents: str) -> str:
        return self.clone.commit(tree, parents, b"", _STAND_IN, self.at)


def _first(change: _Change, base: str, tip: str) -> Published:
    """The commit on `base`, or the one that a call before this one pushed when the base branch stood elsewhere."""
    parent = change.clone.parent(tip) if tip else ""
    if parent and _made_on(change, parent) == tip:
        return Published(tip, parent, is_rebased=parent != change.base_commit, was_there=True)
    tree = change.on(base, "Send the conflicts to the agent as a follow-up, or publish on the commit that the task started from.")
    if tree == change.clone.tree(base):
        raise NothingToPublish(f"There is nothing to publish: {change.base_branch} holds these changes already.")
    return Published(change.commit(tree, base), base, is_rebased=base != change.base_commit, was_there=False)


def _made_on(change: _Change, parent: str) -> str:
    try:
        return change.commit(change.on(parent, ""), parent)
    except Conflicts:
        return ""


def _after(previous: str, change: _Change, branch: str, newest: str, tip: str) -> Published:
    """The commit on `previous`; `previous` itself when it holds just this."""
    clone = change.clone
    if not clone.has(previous):
        raise _moved(clone.remote.source, branch, previous, tip)
    base = clone.merge_base(previous, newest) or change.base_commit
    tree = change.on(base, "Send the conflicts to the agent as a follow-up, or publish under another branch name.")
    commit = previous if tree == clone.tree(previous) else change.commit(tree, previous)
    return Published(commit, base, is_rebased=base != change.base_commit, was_there=commit == tip)


def _moved(source: Source, branch: str, previous: str, tip: str) -> BranchMoved:
    if not previous:
        what = f"{source.name} has a branch {branch} already, with something else in it. Delete it there"
    elif not tip:
        what = f"The branch {branch} is gone from {source.name}. Restore it there"
    else:
        what = f"Somebody else has pushed to {branch} of {source.name}, and nothing was overwritten. Take their commits back there"
    return BranchMoved(f"{what}, or publish under another branch name.")


def _message(clone: Clone, message: str, co_authors: Sequence[Author]) -> bytes:
    text = message.replace("\r\n", "\n").replace("\0", "").strip() or "Apply a run's changes"
    encoded = f"{text}\n".encode(errors="replace")
    trailers = [f"--trailer=Co-authored-by: {who.plain.name} <{who.plain.email}>" for who in co_authors]
    return clone.git("interpret-trailers", "--no-divider", "--if-exists=addIfDifferent", *trailers, input=encoded) if trailers else encoded
