"""Makes way for a checkout in a workspace that holds other files. Whoever left them may mean harm: no link is followed."""

from __future__ import annotations

import os
import stat
import subprocess
from contextlib import contextmanager, suppress

from ._patch_walk import folders_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Optional

_SUBMODULE = b"160000"
_NEVER = {b"", b".", b"..", b".git"}  # git refuses a tree that has such a name
_ATTRIBUTES = b".gitattributes"
_ASIDE = b".gitattributes.asynccode-aside"


def clear_the_way(workspace: bytes, entries: Iterable[tuple[bytes, bytes]]) -> None:
    """Remove what stands where a file, link or submodule (mode and path) will be, or a folder above one.

    Afterwards each such folder is a real one in which we may write, or missing, and each such path is free; a
    submodule's folder may stay. RuntimeError with a sentence when something cannot be removed.
    """
    folders: dict[bytes, bool] = {b"": True}
    for mode, path in entries:
        if not _NEVER.isdisjoint(path.split(b"/")) or not _is_folder(workspace, path.rpartition(b"/")[0], folders):
            continue
        full = os.path.join(workspace, path)
        kind = _kind(full)
        if kind is not None and not (mode == _SUBMODULE and stat.S_ISDIR(kind)):
            delete(os.fsdecode(full))


def _is_folder(workspace: bytes, folder: bytes, known: dict[bytes, bool]) -> bool:
    """Whether it is a real folder, as all above it are; what is there instead is removed."""
    if folder not in known:
        known[folder] = False
        if _is_folder(workspace, folder.rpartition(b"/")[0], known):
            full = os.path.join(workspace, folder)
            kind = _kind(full)
            if kind is not None and stat.S_ISDIR(kind):
                known[folder] = True
                if kind & 0o700 != 0o700:
                    os.chmod(full, stat.S_IMODE(kind) | 0o700)
            elif kind is not None:
                delete(os.fsdecode(full))
    return known[folder]


@contextmanager
def attributes_aside(workspace: bytes, tracked: set[bytes]) -> Iterator[None]:
    """Hide `.gitattributes` that are not the base's, as git heeds them when it writes files. The way must be clear.
    Those that a checkout cut short left hidden come back too."""
    places = [os.path.join(workspace, folder) for folder in (b"", *sorted(folders_of(tracked)))]
    ours = {os.path.join(workspace, path) for path in tracked}

    def put_back() -> None:
        for place in places:
            if _kind(os.path.join(place, _ASIDE)) is None:
                continue
            if _kind(os.path.join(place, _ATTRIBUTES)) is None:
                os.rename(os.path.join(place, _ASIDE), os.path.join(place, _ATTRIBUTES))
            else:
                delete(os.fsdecode(os.path.join(place, _ASIDE)))

    put_back()
    for place in places:
        attributes = os.path.join(place, _ATTRIBUTES)
        if attributes not in ours:
            with suppress(FileNotFoundError):
                os.rename(attributes, os.path.join(place, _ASIDE))
    try:
        yield
    finally:
        put_back()


def delete(path: str) -> None:
    """Delete a file, a link or a whole folder, whatever modes forbid it. Missing is fine."""
    for script in ('rm -rf -- "$1"', 'chmod -R u+rwX -- "$1"; rm -rf -- "$1"'):
        kind = _kind(os.fsencode(path))
        if kind is None:
            return
        if not stat.S_ISDIR(kind):
            with suppress(FileNotFoundError):
                os.unlink(path)
            return
        subprocess.run(["sh", "-c", script, "sh", path], check=False, stdin=subprocess.DEVNULL, capture_output=True)
    if os.path.lexists(path):
        raise RuntimeError(f"{path} stands in the way of the checkout and cannot be removed.")


def _kind(path: bytes) -> Optional[int]:
    """The mode of what is there, a link's own; None when nothing is."""
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
