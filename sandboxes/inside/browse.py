"""Looking into the workspace: what is in a folder, what is in a file, and what a run left to be kept beside its patch.

Each is the work of a child that serves one request (`transfer`). Paths are relative to the workspace. No symbolic link is followed,
not even in the middle of a path: each part is opened below the one before, so that nothing that is moved meanwhile leads out.
Names that are no UTF-8 are text with surrogates, which the protocol's JSON carries.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat

from . import processes
from .transfer import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, Optional

    from .transfer import Connection

NAMES_MAX = 50_000  # of one folder; more are not even counted
_TARGET_MAX = 4096
_NAMED_MAX = 100  # files of which is said why they were left out
_SEEN_MAX = 10_000  # entries that are looked at to find what a run left
_DEEPEST = 32  # folders within each other
_CHUNK = 256 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def look(connection: Connection, workspace: str, path: str, first: int, most: int) -> None:
    """Reply with `entries` of a folder, folders first and by name, from number `first` (0 is the first one) on: {name, kind, size,
    target}, where kind is file, folder, link or other. `count` is how many there are in all."""
    with _folder(workspace, parts(path)) as fd:
        found = []
        with os.scandir(fd) as listing:
            for entry in listing:
                found.append((not entry.is_dir(follow_symlinks=False), os.fsencode(entry.name)))
                if len(found) == NAMES_MAX:
                    break
        found.sort()
        entries = [_entry(fd, name) for _, name in found[first : first + most]]
    connection.reply({"ok": True, "entries": entries, "count": len(found)})


def read(connection: Connection, workspace: str, path: str, offset: int, most: int) -> None:
    """Reply with at most `most` bytes of a regular file, and with its `whole` size."""
    *above, name = parts(path) or [b""]
    with _folder(workspace, above) as folder, _file(folder, name) as fd:
        whole = processes.require_regular(fd, path)
        content = _content(fd, most, offset)
    connection.reply({"ok": True, "whole": whole, "size": len(content)}, [content])


def collect(
    connection: Connection, workspace: str, path: str, known: Mapping[str, str], most_files: int, most_file_bytes: int, most_bytes: int
) -> None:
    """Reply with the regular files below a folder whose SHA-256 is not the one that is `known` for their path: `files` are
    {path, bytes} in the order of their bytes, `left_out` {path, bytes, reason} with the reason size, total, count or unreadable,
    and an entry for all that are too many to name. A folder that is not there has nothing; of what lies in it, _SEEN_MAX entries
    are looked at."""
    files: list[dict[str, Any]] = []
    contents: list[bytes] = []
    left_out: list[dict[str, Any]] = []
    total = unnamed = 0
    for place, folder, name in _below(workspace, parts(path)):
        shown = place.decode("utf-8", "surrogateescape")
        room = most_bytes - total if len(files) < most_files else -1
        size, reason, content = _taken(folder, name, most_file_bytes, room, known.get(shown))
        if content is not None:
            total += len(content)
            files.append({"path": shown, "bytes": len(content)})
            contents.append(content)
        elif reason and len(left_out) < _NAMED_MAX:
            left_out.append({"path": shown, "bytes": size, "reason": reason})
        elif reason:
            unnamed += 1
    if unnamed:
        left_out.append({"path": "…", "bytes": 0, "reason": f"and {unnamed} more"})
    connection.reply({"ok": True, "files": files, "left_out": left_out, "size": total}, contents)


def parts(path: str) -> list[bytes]:
    """The names that lead to it, none of which leads elsewhere; none for the workspace itself."""
    names = path.encode("utf-8", "surrogateescape").split(b"/") if path else []
    if any(name in (b"", b".", b"..") or b"\0" in name for name in names):
        raise RequestError("bad", "A path in the workspace is relative and has no empty part, no . and no ..")
    return names


@contextlib.contextmanager
def _folder(workspace: str, names: list[bytes]) -> Iterator[int]:
    fd = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            below = os.open(name, _FOLDER, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _file(folder: int, name: bytes) -> Iterator[int]:
    """A regular file; what is none is not even opened, unless it took a file's place this moment."""
    if not name or not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        raise RequestError("failed", "That is no regular file.")
    fd = os.open(name, _FILE, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)


def _taken(folder: int, name: bytes, most: int, room: int, known: Optional[str]) -> tuple[int, str, Optional[bytes]]:
    """Size and content of a file; without content the reason why, which is "" for what is known. `room` is bytes, -1 for none at
    all. What is known takes no room, so it is read to find out."""
    try:
        with _file(folder, name) as fd:
            size = os.fstat(fd).st_size
            if size > most:
                return size, "size", None
            if size > room and known is None:
                return size, "count" if room < 0 else "total", None
            content = _content(fd, size)
    except (OSError, RequestError):  # closed to us, or gone meanwhile
        return 0, "unreadable", None
    if known is not None and hashlib.sha256(content).hexdigest() == known:
        return size, "", None
    if size > room:
        return size, "count" if room < 0 else "total", None
    return size, "", content


def _content(fd: int, most: int, offset: int = 0) -> bytes:
    content = bytearray()
    while len(content) < most and (chunk := os.pread(fd, min(_CHUNK, most - len(content)), offset + len(content))):
        content += chunk
    return bytes(content)


def _entry(folder: int, name: bytes) -> dict[str, Any]:
    kind, size, target = "other", 0, ""
    with contextlib.suppress(OSError):  # it vanished meanwhile
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(info.st_mode):
            kind, size = "file", info.st_size
        elif stat.S_ISDIR(info.st_mode):
            kind = "folder"
        elif stat.S_ISLNK(info.st_mode):
            kind, target = "link", os.readlink(name, dir_fd=folder)[:_TARGET_MAX].decode("utf-8", "surrogateescape")
    return {"name": name.decode("utf-8", "surrogateescape"), "kind": kind, "size": size, "target": target}


def _below(workspace: str, names: list[bytes]) -> Iterator[tuple[bytes, int, bytes]]:
    """The regular files below a folder, in order: the path from that folder, and where to open it (a folder's descriptor, a name).
    A folder that cannot be read is given as one, since nothing can be opened there; nothing is said of what is too deep."""
    waiting, seen = [b""], 0
    while waiting and seen < _SEEN_MAX:
        path = waiting.pop()
        above = path.split(b"/") if path else []
        try:
            with _folder(workspace, names + above) as fd:
                below = []
                for name in sorted(map(os.fsencode, os.listdir(fd)))[: _SEEN_MAX - seen]:
                    seen += 1
                    place = path + b"/" + name if path else name
                    mode = 0
                    with contextlib.suppress(OSError):  # it vanished meanwhile
                        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
                    if stat.S_ISREG(mode):
                        yield place, fd, name
                    elif stat.S_ISDIR(mode) and len(above) < _DEEPEST:
                        below.append(place)
                waiting += reversed(below)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            yield path or b".", -1, b""
