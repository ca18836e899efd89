"""A repository of ours for one publication: where a patch becomes a commit, and from where it is pushed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tasks.errors import AppError, RepoUnavailable
from tasks.git.commands import GitFailed, GitTimedOut, git
from tasks.git.refusals import explained
from tasks.git.remotes import Remote
from tasks.git.workspaces import APPLY, borrow

_COMMIT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_THERE = "refs/asynccode/there"


@dataclass(frozen=True)
class Author:
    name: str
    email: str

    @property
    def plain(self) -> Author:
        """What git takes of them: no control characters and no <>, and never without a name."""
        email = _plain(self.email)
        return Author(_plain(self.name) or email.partition("@")[0] or "unknown", email)


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isprintable() and c not in "<>").encode(errors="replace").decode().strip(" .,:;'\"\\")


@dataclass(frozen=True)
class Clone:
    git_dir: Path
    remote: Remote
    held: int  # our git keeps the folder's lock, so that it is not removed under a push that outlives us

    def git(self, *args: str, input: bytes = b"", env: Mapping[str, str] | None = None, good: Sequence[int] = (0,)) -> bytes:
        left = self.remote.seconds_left
        return git(args, git_dir=self.git_dir, timeout=left, input=input, env=env, good=good, held=[self.held])

    def line(self, *args: str, good: Sequence[int] = (0,)) -> str:
        return self.git(*args, good=good).decode().strip()

    def apply(self, patch: bytes) -> str:
        """The tree that the index gives with this patch."""
        try:
            self.git(*APPLY, input=patch)
        except GitTimedOut:
            raise
        except GitFailed as error:
            raise AppError("The run's patch does not fit the commit it was made from, so it cannot be published. Run it again.") from error
        return self.line("write-tree")

    def patchwork(self, commit: str, others: Mapping[str, str]) -> str:
        """The tree of `commit`, but at each of these paths what the other commit has there; one that is not here changes nothing."""
        if not (others := {path: other for path, other in others.items() if self.has(other)}):
            return self.tree(commit)
        index = {"GIT_INDEX_FILE": str(self.git_dir / "patchwork")}
        self.git("read-tree", commit, env=index)
        entries = b""
        for path, other in others.items():
            found = re.match(rb"(1\d{5}) \w+ ([0-9a-f]+)\t", self.git("ls-tree", "-z", other, "--", f":(top,literal){path}"))
            mode, object_id = found.groups() if found else (b"0", b"0" * len(commit))
            entries += b"%s %s\t%s\0" % (mode, object_id, os.fsencode(path))
        self.git("update-index", "--replace", "-z", "--index-info", input=entries, env=index)
        return self.git("write-tree", env=index).decode().strip()

    def commit(self, tree: str, parents: Sequence[str], message: bytes, author: Author, at: datetime) -> str:
        who = {"NAME": author.plain.name, "EMAIL": author.plain.email, "DATE": f"@{int(at.timestamp())} +0000"}
        env = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in who.items()}
        args = [tree, *(part for parent in parents for part in ("-p", parent))]
        return self.git("commit-tree", *args, "-F", "-", input=message, env=env).decode().strip()

    def has(self, commit: str) -> bool:
        return bool(_COMMIT_ID.fullmatch(commit)) and self.line("cat-file", "-t", commit, good=(0, 128)) == "commit"

    def tree(self, commit: str) -> str:
        return self.line("rev-parse", f"{commit}^{{tree}}")

    def parent(self, commit: str) -> str:
        """The only parent; "" when there are none or several."""
        parents = self.line("rev-parse", f"{commit}^@").split()
        return parents[0] if len(parents) == 1 else ""

    def merge_base(self, one: str, other: str) -> str:
        """The commit from which the two went apart; "" when they have none in common."""
        return self.line("merge-base", one, other, good=(0, 1))

    def tip(self, branch: str) -> str:
        """The commit that the source's branch holds, brought here; "" when there is no such branch."""
        ref = f"refs/heads/{branch}"
        with explained(self.remote, branch):
            if not self._held_there(ref):
                return ""
            fixed = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance")
            args = ["fetch", *fixed, "--", self.remote.source.url, f"+{ref}:{_THERE}"]
            self.remote.git(args, git_dir=self.git_dir, held=[self.held])
        return self.line("rev-parse", "--verify", f"{_THERE}^{{commit}}")

    def push(self, commit: str, branch: str, *, expected: str) -> None:
        """Make the source's branch hold `commit`, if it holds `expected` ("": if there is no such branch)."""
        ref = f"refs/heads/{branch}"
        args = ["push", f"--force-with-lease={ref}:{expected}", "--", self.remote.source.url, f"{commit}:{ref}"]
        with explained(self.remote, branch):
            try:
                self.remote.git(args, git_dir=self.git_dir, held=[self.held])
            except GitTimedOut:
                raise
            except GitFailed:  # also when a push that outlived its process was faster, or the answer got lost
                if self._held_there(ref) != commit:
                    raise

    def _held_there(self, ref: str) -> str:
        listing = self.remote.git(["ls-remote", "--", self.remote.source.url, ref], held=[self.held]).decode(errors="replace")
        return next((line.split("\t")[0] for line in listing.splitlines() if line.endswith(f"\t{ref}")), "")


@contextmanager
def clone(mirror: Path, commit: str, scratch: Path, remote: Remote) -> Iterator[Clone]:
    """A repository within `scratch` that borrows the mirror's objects, its index the commit's tree; removed in the end.

    Any number of calls may share `scratch`. What a killed one left there is removed, once its last git has ended.
    """
    with _folder(scratch) as (folder, held):
        try:
            borrow(mirror, commit, folder / "clone.git", timeout=remote.seconds_left)
        except GitTimedOut:
            raise
        except GitFailed as error:
            raise RepoUnavailable(
                "Our copy of the repository no longer has the commit that this task started from. Start the task anew."
            ) from error
        yield Clone(folder / "clone.git", remote, held)


@contextmanager
def _folder(scratch: Path) -> Iterator[tuple[Path, int]]:
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(scratch):  # or a folder could be taken for a leftover between its making and its locking
        for leftover in scratch.iterdir():
            try:
                with _locked(leftover, fcntl.LOCK_NB):
                    shutil.rmtree(leftover)
            except (BlockingIOError, FileNotFoundError):  # in use, or removed just now by whom it belonged to
                continue
        folder = Path(tempfile.mkdtemp(dir=scratch))
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield folder, descriptor
    finally:
        shutil.rmtree(folder)
        os.close(descriptor)


@contextmanager
def _locked(folder: Path, how: int = 0) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(descriptor)
