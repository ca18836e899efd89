"""The git checkout that a command is given in."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from asynccode.client.failures import Failure

_QUIET = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
_APPLY = ("apply", "--index", "--whitespace=nowarn", "--allow-empty")


class Conflict(Failure):
    """The patch does not fit what is checked out; nothing was changed."""


class Checkout:
    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def here(cls) -> Checkout | None:
        """That of the current folder, if it is in one."""
        try:
            found = _run(["rev-parse", "--show-toplevel"])
        except FileNotFoundError as error:
            raise Failure("git was not found. Install it first.") from error
        return cls(Path(found.stdout.removesuffix("\n"))) if found.returncode == 0 and found.stdout.strip() else None

    @property
    def origin(self) -> str:
        """The address of the remote `origin`; "" when there is none."""
        return self._git("remote", "get-url", "origin").stdout.strip()

    @property
    def changed(self) -> list[str]:
        """Tracked files that differ from the last commit."""
        status = self._must("status", "--porcelain", "-z", "--untracked-files=no", "--no-renames")
        return [entry[3:] for entry in status.split("\0") if entry]

    def has_commit(self, commit: str) -> bool:
        return self._git("cat-file", "-e", f"{commit}^{{commit}}").returncode == 0

    def apply(self, patch: bytes) -> None:
        """Put a patch on what is checked out and into the index, all of it or, with a Conflict, nothing."""
        with tempfile.TemporaryDirectory(prefix="asynccode-") as folder:
            file = Path(folder) / "patch"
            file.write_bytes(patch)
            if self._git(*_APPLY, "--check", str(file)).returncode == 0:
                self._must(*_APPLY, str(file))
                return
            self._try_merge(file, Path(folder) / "index")
            self._must(*_APPLY, "--3way", str(file))

    def _try_merge(self, patch: Path, index: Path) -> None:
        """Conflict unless the patch merges, tried in a copy of the index: `--check` does not tell of conflicts in a merge."""
        ours = self.root / self._must("rev-parse", "--git-path", "index").removesuffix("\n")
        if ours.exists():
            shutil.copyfile(ours, index)
        aside = {"GIT_INDEX_FILE": str(index)}
        tried = self._git("apply", "--cached", "--3way", "--whitespace=nowarn", "--allow-empty", str(patch), environment=aside)
        paths = self._git("diff", "--name-only", "--diff-filter=U", "-z", environment=aside).stdout.split("\0")
        if conflicts := [path for path in paths if path]:
            raise Conflict(f"The changes conflict with yours in {', '.join(conflicts)}. Nothing was changed here.")
        if tried.returncode != 0:
            raise Conflict(f"The changes do not fit what is checked out. Nothing was changed here.\n{_words(tried.stderr)}")

    def apply_on_branch(self, patch: bytes, name: str, base: str) -> None:
        """Make a branch at the commit `base`, check it out and put the patch on it; all as it was when that fails."""
        if self._git("check-ref-format", "--branch", name).returncode != 0:
            raise Failure(f"{name} cannot be a branch's name.")
        if self._git("rev-parse", "--quiet", "--verify", f"refs/heads/{name}").returncode == 0:
            raise Failure(f"There is a branch {name} already. Choose another name.")
        before = self._git("symbolic-ref", "--quiet", "--short", "HEAD").stdout.strip()
        back = ["switch", "--quiet", before] if before else ["switch", "--quiet", "--detach", self._must("rev-parse", "HEAD").strip()]
        self._must("switch", "--quiet", "--no-track", "--create", name, base)
        try:
            self.apply(patch)
        except BaseException:
            self._must(*back)
            self._must("branch", "--quiet", "-D", name)
            raise

    def _must(self, *words: str) -> str:
        done = self._git(*words)
        if done.returncode != 0:
            raise Failure(f"git {words[0]} failed:\n{_words(done.stderr)}")
        return done.stdout

    def _git(self, *words: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return _run(words, self.root, environment or {})


def _run(words: Sequence[str], folder: Path | None = None, environment: Mapping[str, str] = _QUIET) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *words],
        cwd=folder,
        env={**os.environ, **_QUIET, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def _words(stderr: str) -> str:
    return stderr.strip()[-2000:]
