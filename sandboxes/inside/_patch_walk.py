"""What is in a workspace, found without git's own walk.

git's walk turns nested repositories into gitlinks or leaves them out, and it opens files in them that may be pipes.
This one follows no link, steps over everything called `.git`, and asks about `.gitignore` only where git would.
"""

# ruff: noqa: B905 - zip has no `strict` in Python 3.8

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

ARTIFACTS = b"artifacts"  # the folder of the workspace that is no part of a patch, unless the base has files in it
_RULES = (b".gitignore", b".gitattributes")


class Found:
    """What `walk` saw; paths are relative to the workspace, bytes, with no slash at either end."""

    def __init__(self) -> None:
        self.kept: set[bytes] = set()  # paths of the base that are still a file or a symbolic link
        self.new: list[bytes] = []  # files and symbolic links that are not in the base and not ignored
        self.closed: list[bytes] = []  # folders that cannot be read: nothing is known of what is in them
        self.forbidden: list[bytes] = []  # names like .GIT, which git stores on no system
        self.blocked: list[bytes] = []  # files where a folder with a submodule of the base should be


def folders_of(paths: Iterable[bytes]) -> set[bytes]:
    """Every folder above any of the paths, the workspace itself (b"") left out."""
    folders: set[bytes] = set()
    for path in paths:
        folder = path.rpartition(b"/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition(b"/")[0]
    return folders


def walk(workspace: bytes, base: set[bytes], submodules: set[bytes], are_ignored: Callable[[Sequence[bytes]], Sequence[bool]]) -> Found:
    """Level by level, so that one question about ignoring serves a whole level and ignored folders are never entered.

    `base` are the files and links of the base. Submodules and what is in them are not looked at, nor is ARTIFACTS when the
    base has nothing in it: then it is a run's folder for what it leaves beside its change. Things that vanish meanwhile
    are not there. RuntimeError when a `.gitignore` or `.gitattributes` is a pipe, socket or device: git would wait for it
    for ever.
    """
    found = Found()
    folders = folders_of(base) | folders_of(submodules)
    around_submodules = folders_of(submodules)
    level = [b""]
    while level:
        deeper: list[bytes] = []
        unsure: list[tuple[bytes, bool]] = []
        for folder in level:
            for path, is_folder in _entries(workspace, folder, found):
                if path in submodules:
                    continue
                if is_folder:
                    if path in folders:
                        deeper.append(path)
                    elif path != ARTIFACTS or path in base:
                        unsure.append((path, True))
                elif path in base:
                    found.kept.add(path)
                else:
                    unsure.append((path, False))
        answers = are_ignored([path for path, _ in unsure]) if unsure else []
        for (path, is_folder), is_ignored in zip(unsure, answers):
            if is_ignored:
                continue
            if path.rpartition(b"/")[2].lower() == b".git":
                found.forbidden.append(path)
            elif is_folder:
                deeper.append(path)
            elif path in around_submodules:
                found.blocked.append(path)
            else:
                found.new.append(path)
        level = deeper
    return found


def _entries(workspace: bytes, folder: bytes, found: Found) -> list[tuple[bytes, bool]]:
    """The files, links and folders (True) in one folder; pipes, sockets and devices are no part of any tree."""
    entries: list[tuple[bytes, bool]] = []
    prefix = folder + b"/" if folder else b""
    try:
        with os.scandir(os.path.join(workspace, folder)) as listing:
            for entry in listing:
                name = entry.name
                if name == b".git":
                    continue
                if entry.is_file(follow_symlinks=False) or entry.is_symlink():
                    entries.append((prefix + name, False))
                elif entry.is_dir(follow_symlinks=False):
                    entries.append((prefix + name, True))
                elif name in _RULES:
                    raise RuntimeError(f"{os.fsdecode(prefix + name)!r} is a pipe, socket or device: git cannot read it, remove it.")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        found.closed.append(folder)
    return entries
