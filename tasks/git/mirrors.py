"""One bare mirror per repository: what task creation reads, and what sandboxes borrow objects from (read-only).

A mirror's objects are never deleted while it lives (no gc), so a running sandbox keeps what it was started on, also
after a force push. Everything here can be fetched again: a mirror that turns out damaged is made anew, and its old
folder, which running sandboxes may still have mounted, is moved aside until the next time.

All functions take the mirror's path (`<mirrors>/<repo id>.git`). `timeout` is in seconds and covers the wait for the
lock too. `gid` is the group that may read the mirror (that of the sandboxes' account); without one only we can. `token`
signs in at the source.
Errors: RepoUnavailable (GitFailed and GitTimedOut among them), EmptyRepository, BranchMissing, SourceRefused.
"""

from __future__ import annotations

import difflib
import fcntl
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import BranchMissing, InvalidInput, RepoUnavailable
from tasks.git import shipments, trees
from tasks.git.commands import GitFailed, git
from tasks.git.remotes import Remote
from tasks.git.sources import Resolver, Source, valid_branch

Progress = Callable[[int, str], None]  # percent of the whole (0 to 100, never falling), what is going on

KEPT = "refs/asynccode/"
_EVERYTHING = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
_CONFIG = f"[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n[transfer]\n\thideRefs = {KEPT.rstrip('/')}\n"
_COMMIT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_QUICK_S = 30.0
_POLL_S = 0.02
_MAX_NAMES_COMPARED = 5000
_MAX_LOOSE_KEPT = 200
_MANY_REFS_BYTES = 1024 * 1024  # of packed-refs, about 15,000 refs


def ensure(
    path: Path,
    source: Source,
    *,
    timeout: float,
    token: str = "",
    progress: Progress | None = None,
    gid: int | None = None,
    resolver: Resolver = socket.getaddrinfo,
) -> None:
    """Make the mirror, or bring all its branches and tags up to date. May be repeated, after any crash."""
    remote = Remote(source, time.monotonic() + timeout, resolver, token)
    with _lock(path, timeout) as held:
        for leftover in path.glob("objects/pack/tmp_*"):
            leftover.unlink()
        _Work(path, remote, held, gid, progress).update()
    if progress is not None:
        progress(100, "Done")


def fetch(
    path: Path,
    source: Source,
    *,
    branch: str | None = None,
    timeout: float,
    token: str = "",
    gid: int | None = None,
    resolver: Resolver = socket.getaddrinfo,
) -> None:
    """Bring one branch up to date (all, without a name), quickly. A missing or damaged mirror is made first."""
    remote = Remote(source, time.monotonic() + timeout, resolver, token)
    with _lock(path, timeout) as held:
        _Work(path, remote, held, gid).update(branch and valid_branch(branch))


def resolve(path: Path, branch: str) -> str:
    """The full commit id a branch stands at in the mirror; BranchMissing names branches that are spelled alike."""
    valid_branch(branch)
    try:
        return git(["rev-parse", "--verify", f"refs/heads/{branch}^{{commit}}"], git_dir=path, timeout=_QUICK_S).decode().strip()
    except GitFailed as error:
        names = branches(path)
        if branch in names:
            raise RepoUnavailable("Our copy of this repository is damaged. It is made anew with the next fetch: try again.") from error
        alike = difflib.get_close_matches(branch, names[:_MAX_NAMES_COMPARED], n=3)
        alike += [name for name in names if name.lower() == branch.lower() and name not in alike]
        hint = f" Did you mean {' or '.join(alike)}?" if alike else ""
        raise BranchMissing(f"The repository has no branch named {branch}.{hint}") from None


def branches(path: Path) -> list[str]:
    """All branches in the mirror, sorted. Names that are no UTF-8 are left out."""
    listing = git(["for-each-ref", "--format=%(refname)", "refs/heads"], git_dir=path, timeout=_QUICK_S)
    return sorted(_names(listing))


def recent_branches(path: Path) -> list[str]:
    """As `branches`, but those with the newest commits first, where there are not too many to look at each."""
    packed = path / "packed-refs"
    if packed.exists() and packed.stat().st_size > _MANY_REFS_BYTES:
        return branches(path)
    args = ["for-each-ref", "--sort=refname", "--sort=-committerdate", "--format=%(refname)", "refs/heads"]
    return _names(git(args, git_dir=path, timeout=_QUICK_S))


def _names(listing: bytes) -> list[str]:
    names = (line.removeprefix(b"refs/heads/").decode(errors="replace") for line in listing.splitlines())
    return [name for name in names if "\ufffd" not in name]


def keep(path: Path, commit: str, name: str, *, timeout: float = _QUICK_S) -> None:
    """Pin a commit under a name of ours: whatever happens to the remote's branches, it stays. May be repeated."""
    ref = KEPT + valid_branch(name)
    if not _COMMIT_ID.fullmatch(commit):
        raise InvalidInput("This is not a full commit id.", field="base_commit")
    with _lock(path, timeout) as held:
        git(["update-ref", ref, commit], git_dir=path, timeout=timeout, held=[held])
        if sum(1 for _ in (path / KEPT).iterdir()) > _MAX_LOOSE_KEPT:  # every fetch reads them, at 14 µs a file
            git(["pack-refs", "--all"], git_dir=path, timeout=timeout, held=[held])


def has(path: Path, commit: str) -> bool:
    """Whether a commit is in the mirror; False when there is none. What is pinned by itself is found without starting git."""
    if (path / KEPT / f"commit-{commit}").exists():
        return True
    if not _COMMIT_ID.fullmatch(commit) or not path.exists():
        return False
    try:
        git(["cat-file", "-e", f"{commit}^{{commit}}"], git_dir=path, timeout=_QUICK_S)
    except GitFailed:
        return False
    return True


def release(path: Path, name: str, *, timeout: float = _QUICK_S) -> None:
    """Undo `keep`; without effect when there is nothing of that name."""
    with _lock(path, timeout) as held:
        git(["update-ref", "-d", KEPT + valid_branch(name)], git_dir=path, timeout=timeout, held=[held])


def size(path: Path) -> int:
    """Bytes of the mirror's files; 0 when there is none."""
    return sum(os.lstat(os.path.join(folder, file)).st_size for folder, _, files in os.walk(path) for file in files)


def remove(path: Path, *, timeout: float = _QUICK_S) -> None:
    """Delete the mirror; twice is fine. The lock file stays: another process may be waiting for it."""
    with _lock(path, timeout):
        for folder in (path, _beside(path, "new"), _beside(path, "old")):
            if folder.exists():
                shutil.rmtree(folder)
        shipments.forget(path)
        trees.forget(path)


# --- making and updating, with the lock held --------------------------------------------------------------------


@dataclass(frozen=True)
class _Work:
    path: Path
    remote: Remote
    held: int  # the lock's descriptor: our git keeps it, so that the lock outlives us as long as git does
    gid: int | None = None
    progress: Progress | None = None

    def update(self, branch: str | None = None) -> None:
        if _looks_whole(self.path):
            try:
                self._update(branch)
            except GitFailed as error:
                if not error.tells_of_damage:
                    raise  # else our mirror is made anew, once; if it was the source that is damaged, that fails with the same words
            else:
                return
        self._make()
        if branch is not None:
            resolve(self.path, branch)

    def _update(self, branch: str | None) -> None:
        if branch is None:
            return self._fetch(self.path, _EVERYTHING, "--prune")
        try:
            self._fetch(self.path, [f"+refs/heads/{branch}:refs/heads/{branch}"])
        except GitFailed as error:
            # Gone, or in the way of another (`a` is now `a/b`): learn what there is and prune what is not.
            if not re.search(r"couldn't find remote ref|cannot lock ref", error.stderr):
                raise
            self._fetch(self.path, _EVERYTHING, "--prune")
            resolve(self.path, branch)

    def _fetch(self, path: Path, refspecs: Sequence[str], *options: str, unpack_limit: int = 100) -> None:
        quiet = "--quiet" if self.progress is None else "--progress"
        fixed = ("--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", quiet)
        args = ["-c", f"fetch.unpackLimit={unpack_limit}", "fetch", *fixed, *options, "--", self.remote.source.url, *refspecs]

        def attempt() -> None:
            meter = _Meter(self.progress) if self.progress is not None else None
            self.remote.git(args, git_dir=path, on_stderr=meter, held=[self.held])

        try:
            attempt()
        except GitFailed as error:
            if ".lock': File exists" not in error.stderr:
                raise
            _remove_locks(path)  # we hold the mirror's lock, so a killed git left these
            attempt()

    def _make(self) -> None:
        """A new mirror beside the path, moved there when it is complete."""
        new, old = _beside(self.path, "new"), _beside(self.path, "old")
        if new.exists():
            shutil.rmtree(new)
        heads = self.remote.heads()
        new.mkdir(mode=0o700)
        try:
            self._fill(new, heads.default, heads.object_format)
            if self.path.exists():
                self._carry_kept(new)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        if self.path.exists():
            if old.exists():
                shutil.rmtree(old)
            self.path.rename(old)
        new.rename(self.path)

    def _fill(self, new: Path, default: str, object_format: str) -> None:
        shared = []
        if self.gid is not None:
            os.chown(new, -1, self.gid)
            new.chmod(0o2750)  # what is made below inherits the group
            shared = ["--shared=0640"]
        fixed = ("init", "--quiet", "--bare", "--template=", f"--object-format={object_format}")
        self._git(new, *fixed, *shared, f"--initial-branch={default}", str(new))
        with (new / "config").open("a") as file:
            file.write(_CONFIG)
        # One pack, also of little: synced to the disk, and only packs come with progress.
        self._fetch(new, _EVERYTHING, unpack_limit=1)
        self._git(new, "pack-refs", "--all")  # a fetch makes a file for each ref

    def _carry_kept(self, new: Path) -> None:
        """Take over what was pinned, as far as the remote or the damaged mirror still has it whole."""
        borrowed = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{self.path / "objects"}"'}
        for ref, commit in _kept(self.path).items():
            try:
                lacking = self._git(new, "rev-list", "--objects", commit, "--not", "--all", env=borrowed)
                if lacking:
                    self._git(new, "pack-objects", "--quiet", str(new / "objects/pack/pack"), env=borrowed, input=lacking)
                self._git(new, "update-ref", ref, commit)
            except GitFailed:
                continue  # lost with the damage, and gone from the remote: a checkout of it says so

    def _git(self, git_dir: Path, *args: str, env: Mapping[str, str] | None = None, input: bytes = b"") -> bytes:
        return git(args, git_dir=git_dir, timeout=self.remote.seconds_left, env=env, input=input, held=[self.held])


def _kept(path: Path) -> dict[str, str]:
    """What is pinned (ref → commit id), read from the files themselves, since git may refuse a damaged mirror."""
    packed = path / "packed-refs"
    text = packed.read_text(errors="replace") if packed.is_file() else ""
    found = {ref: commit for commit, ref in re.findall(rf"(?m)^([0-9a-f]+) ({KEPT}\S+)$", text)}
    for file in [f for f in (path / KEPT).rglob("*") if f.is_file() and f.suffix != ".lock"]:
        found[file.relative_to(path).as_posix()] = file.read_text(errors="replace").strip()
    return {ref: commit for ref, commit in found.items() if _COMMIT_ID.fullmatch(commit)}


class _Meter:
    """git's progress lines on standard error, as percents of the whole; between two percents what has come is still said."""

    _PHASES = {"Counting": (0, 5), "Compressing": (5, 10), "Receiving": (10, 80), "Resolving": (80, 100)}
    _LINE = re.compile(rb"(?:remote: )?((Counting|Compressing|Receiving|Resolving) [a-z]+): +(\d{1,3})% \([\d/]+\)(?:, ([\d.]+ [KMGT]iB))?")
    _EVERY_S = 1.0

    def __init__(self, progress: Progress) -> None:
        self._progress, self._tail, self._last, self._said, self._said_at = progress, b"", 0, "", 0.0

    def __call__(self, chunk: bytes) -> None:
        *lines, self._tail = re.split(rb"[\r\n]", self._tail[-1000:] + chunk)
        for found in filter(None, map(self._LINE.match, lines)):
            low, high = self._PHASES[found[2].decode()]
            percent = max(self._last, low + (high - low) * min(int(found[3]), 100) // 100)
            said = b" \xc2\xb7 ".join(filter(None, (found[1], found[4]))).decode()
            now = time.monotonic()
            if percent > self._last or (said != self._said and now - self._said_at >= self._EVERY_S):
                self._last, self._said, self._said_at = percent, said, now
                self._progress(percent, said)


@contextmanager
def _lock(path: Path, timeout: float) -> Iterator[int]:
    """The mirror's lock across processes, as a descriptor; RepoUnavailable when others hold it for too long."""
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + timeout
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise RepoUnavailable("This repository is being fetched by others and not ready yet. Try again in a moment.") from None
                time.sleep(_POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def _remove_locks(path: Path) -> None:
    for lock in [*path.glob("*.lock"), *(path / "refs").rglob("*.lock"), *(path / "objects" / "info").rglob("*.lock")]:
        lock.unlink(missing_ok=True)


def _looks_whole(path: Path) -> bool:
    """Whether there is a mirror whose packs end as their indexes say: what a torn write or a full disk breaks."""
    if not (path / "HEAD").is_file():
        return False
    for index in path.glob("objects/pack/*.idx"):
        pack = index.with_suffix(".pack")
        if not pack.exists() or not _ends_as_indexed(pack, index):
            return False
    return True


def _ends_as_indexed(pack: Path, index: Path) -> bool:
    pack_end, index_end = _end(pack, 32), _end(index, 64)
    return pack_end[-20:] == index_end[-40:-20] or pack_end == index_end[-64:-32]  # SHA-1, SHA-256


def _end(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - count))
        return file.read(count)
