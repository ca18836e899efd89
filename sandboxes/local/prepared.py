"""What is kept of sandboxes, and how others begin with it.

    .prepared/<ref>/             workspace and home of a sandbox that is no more; nobody writes below it
    .prepared/<ref>.discarded/   the same, for sandboxes that still stand on it; deleted with the last of them

Workspace and home of a sandbox are overlays where this kernel and disk have them, which share the environment and cost
nothing; else a copy is made before the first start. In an overlay, renaming a folder that the environment brought gives
EXDEV, as in the images of containers; programs move such folders by copying them.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandboxes.errors import PreparedGone, SandboxError, SandboxGone
from sandboxes.local import bare
from sandboxes.local.accounts import Account
from sandboxes.local.folder import Folder, delete, moving, refs

OVERLAY, COPY = "overlay", "copy"
_FOLDER = ".prepared"
_REF = re.compile(r"[0-9a-f]{32}")
_DISCARDED = ".discarded"
_PLACES = ("workspace", "home")
_SOURCE = "/run/prepared"
_COPY_S = 1800.0
_TRIAL_S = 30.0
_TRIAL = f"cd {_SOURCE} && echo more >> file && rm folder/gone && mv file other && test ! -e folder/gone && mkdir made && mv made moved"
# Also over what a copy cut short left there; then the disk space it takes, in MiB.
_COPY_SCRIPT = f"""
for name in workspace:/workspace home:/home/agent; do
    to=${{name#*:}}
    chmod -R u+rwX "$to" && find "$to" -mindepth 1 -delete || exit 1
    cp -a --reflink=auto {_SOURCE}/"${{name%%:*}}"/. "$to"/ && chmod u+rwx "$to" || exit 1
done
du -sm --total /workspace /home/agent | tail -n 1 | cut -f 1
"""


@dataclass(frozen=True)
class Store:
    """The prepared environments beside the sandboxes in `root`; `program` is bwrap. What lies in them was written by
    sandboxes, so all work in them is done under their account, or in a sandbox."""

    root: Path
    account: Account | None
    program: Path

    def keep(self, folder: Folder, how: str) -> str:
        """Keep what lies in the workspace and home of a sandbox that does not run any more, and stands on a prepared
        environment by `how` ("" for none). It is whole or not there."""
        made = moving(self.root) / f"new-{secrets.token_hex(8)}"
        made.mkdir()
        made.chmod(0o711)
        if how == OVERLAY:
            for name in _PLACES:
                (made / name).mkdir(mode=0o700)
                self._give(made / name)
            self._copy(folder, to=made, over=folder)
        else:
            folder.take_out(made)
        if not self._all.exists():
            self._all.mkdir(exist_ok=True)
            self._all.chmod(0o711)
        ref = secrets.token_hex(16)
        made.rename(self._all / ref)
        return ref

    @contextmanager
    def held(self, ref: str) -> Iterator[None]:
        """It is not discarded meanwhile. PreparedGone when it is not there."""
        with self._locked(ref, fcntl.LOCK_SH):
            yield

    def begin(self, folder: Folder, *, can_overlay: bool) -> tuple[str, int]:
        """Give a new sandbox its prepared environment; says how, and how many MiB of it are the sandbox's own now.
        A second time is fine, until something has run in it."""
        if can_overlay:
            return OVERLAY, 0
        return COPY, self._copy(folder, to=folder.path, over=None)

    def lower(self, ref: str) -> Path:
        """Where it lies, for a sandbox that was made on it. PreparedGone when it is not there."""
        for path in (self._all / ref, self._all / (ref + _DISCARDED)):
            if _REF.fullmatch(ref) and path.is_dir():
                return path
        raise PreparedGone("The prepared environment of this sandbox does not exist any more.")

    def discard(self, ref: str) -> None:
        """No new sandbox gets it from now on. It is deleted when no sandbox stands on it any more, running or paused."""
        try:
            with self._locked(ref, fcntl.LOCK_EX):
                (self._all / ref).rename(self._all / (ref + _DISCARDED))
        except PreparedGone:
            pass
        self.sweep()

    def kept(self, for_s: float) -> list[str]:
        """What was kept at least so many seconds ago and is not discarded."""
        return [path.name for path in self._all.glob("*") if _REF.fullmatch(path.name) and time.time() - path.lstat().st_ctime >= for_s]

    def sweep(self) -> None:
        """Delete what was discarded and is not needed any more."""
        discarded = [path.name for path in self._all.glob(f"*{_DISCARDED}")]
        needed = set(self._needed()) if discarded else set()
        for name in discarded:
            if name.removesuffix(_DISCARDED) not in needed:
                gone = moving(self.root) / f"gone-{secrets.token_hex(8)}"
                try:
                    (self._all / name).rename(gone)
                except FileNotFoundError:  # another process was faster
                    continue
                delete(gone, self.account)

    def can_overlay(self) -> bool:
        """Whether sandboxes here can have overlays, found out by really using one."""
        with tempfile.TemporaryDirectory(prefix="trial-", dir=moving(self.root), ignore_cleanup_errors=True) as name:
            trial = Path(name)
            trial.chmod(0o711)
            for place in ("lower", "lower/folder", "upper", "work"):
                (trial / place).mkdir()
            for file in ("lower/file", "lower/folder/gone"):
                (trial / file).write_text("x\n")
            for path in trial.rglob("*"):
                self._give(path)
            return self._run(_TRIAL, _overlay(trial / "lower", trial / "upper", trial / "work", _SOURCE), _TRIAL_S)[0]

    def _copy(self, folder: Folder, *, to: Path, over: Folder | None) -> int:
        """Copy what a sandbox was given (and what it made of that, `over` it) into workspace and home in `to`; their size
        in MiB."""
        lower = self.lower(folder.prepared)
        if over is None:
            extra = ["--ro-bind", str(lower), _SOURCE]
        else:
            extra = [
                word
                for name in _PLACES
                for word in _overlay(lower / name, over.path / name, over.path / "overlay" / name, f"{_SOURCE}/{name}")
            ]
        is_done, said = self._run(_COPY_SCRIPT, extra, _COPY_S, own=to)
        if not is_done:
            raise SandboxError(f"The prepared environment could not be copied: {said}")
        return int(said)

    def _run(self, script: str, extra: list[str], seconds: float, own: Path | None = None) -> tuple[bool, str]:
        """Whether a script succeeded, and what it printed or the last line of its complaint."""
        command = ["/bin/sh", "-c", script]
        done = bare.run(command, program=self.program, root=self.root, account=self.account, own=own, extra=extra, timeout=seconds)
        if done.returncode == 0:
            return True, done.stdout.strip()
        return False, done.stderr.strip().rpartition("\n")[2]

    def _give(self, path: Path) -> None:
        if self.account:
            os.chown(path, self.account.uid, self.account.gid)

    @property
    def _all(self) -> Path:
        return self.root / _FOLDER

    @contextmanager
    def _locked(self, ref: str, how: int) -> Iterator[None]:
        gone = PreparedGone("The prepared environment does not exist any more; it has to be prepared again.")
        path = self._all / ref
        if not _REF.fullmatch(ref):
            raise gone
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise gone from None
        try:
            fcntl.flock(descriptor, how)
            if not path.exists():
                raise gone
            yield
        finally:
            os.close(descriptor)

    def _needed(self) -> Iterator[str]:
        for ref in refs(self.root):
            folder = Folder(self.root, ref)
            try:
                yield folder.prepared
            except SandboxGone:  # destroyed while we look
                continue


def _overlay(lower: Path, upper: Path, work: Path, where: str) -> list[str]:
    return ["--overlay-src", str(lower), "--overlay", str(upper), str(work), where]
