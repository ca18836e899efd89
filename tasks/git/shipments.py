"""A commit with its recent history as a small repository of its own, for sandboxes that cannot borrow the mirror's objects."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from tasks.git.commands import git

DEPTH = 20  # commits that come along, so that there is something of a log to read
_KEPT_S = 24 * 3600.0
_PACK_S = 600.0


def ship(mirror: Path, commit: str) -> Path:
    """The folder of a bare, shallow repository that holds `commit` and the commits before it, DEPTH in all.

    It is made once and kept for a day after its last use, beside the mirror; several attempts at a task share it."""
    place = mirror.with_name(f"{mirror.stem}.shipments")
    place.mkdir(mode=0o700, exist_ok=True)
    _forget(place)
    folder = place / f"{commit}.git"
    try:
        os.utime(folder)
    except FileNotFoundError:
        made = Path(tempfile.mkdtemp(prefix=".new-", dir=place))
        try:
            _make(mirror, commit, made)
            made.rename(folder)
        except OSError:  # another process was faster; its folder is as good
            if not folder.exists():
                raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return folder


def _make(mirror: Path, commit: str, into: Path) -> None:
    for part in ("objects/info", "objects/pack", "refs/heads", "refs/tags"):
        (into / part).mkdir(parents=True)
    version, extensions = (1, "[extensions]\n\tobjectFormat = sha256\n") if len(commit) == 64 else (0, "")
    (into / "config").write_text(f"[core]\n\trepositoryformatversion = {version}\n\tbare = true\n{extensions}")
    (into / "HEAD").write_text("ref: refs/heads/base\n")
    (into / "refs/heads/base").write_text(f"{commit}\n")
    listing = git(["rev-list", "--parents", f"--max-count={DEPTH}", commit], git_dir=mirror, timeout=_PACK_S).decode().splitlines()
    history = {words[0]: words[1:] for words in map(str.split, listing)}
    shallow = mirror / "shallow"  # where the source's own history is cut, git names no parents
    cut = [made for made, parents in history.items() if not history.keys() >= set(parents)]
    cut += shallow.read_text().split() if shallow.exists() else []
    if cut:
        (into / "shallow").write_text("".join(f"{made}\n" for made in cut))
    objects = git(["rev-list", "--objects", "--no-walk", "--stdin"], git_dir=mirror, timeout=_PACK_S, input="\n".join(history).encode())
    git(["pack-objects", "-q", str(into / "objects/pack/pack")], git_dir=mirror, timeout=_PACK_S, input=objects)


def forget(mirror: Path) -> None:
    """Delete what was shipped of a mirror."""
    shutil.rmtree(mirror.with_name(f"{mirror.stem}.shipments"), ignore_errors=True)


def _forget(place: Path) -> None:
    for folder in place.iterdir():
        if time.time() - folder.stat().st_mtime > _KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)
