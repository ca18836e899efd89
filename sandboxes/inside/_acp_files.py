"""Files that an agent asks its client for. It shares the disk and could take them itself: what is kept here is that no
answer of ours leads out of the workspace."""

from __future__ import annotations

import os

from . import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

READ_MAX = 8 * 1024 * 1024
_INVALID = -32602
_INTERNAL = -32603


class RefusedError(Exception):
    """An error of JSON-RPC: what we answer, or what we were answered. `code` is None when it is of our own finding."""

    def __init__(self, code: Any, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data

    def as_json(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "data": self.data}


def read(workspace: str, params: dict[str, Any]) -> dict[str, Any]:
    """fs/read_text_file: {"path", "line": the first one (from 1), "limit": how many}."""
    path, line, limit = _inside(workspace, params), _number(params, "line"), _number(params, "limit")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
        with os.fdopen(fd, "rb") as file:
            if processes.require_regular(fd, path) > READ_MAX:
                raise RefusedError(_INVALID, f"{path} is over {READ_MAX // 2**20} MiB.")
            text = file.read(READ_MAX).decode("utf-8", "replace")
    except OSError as error:
        raise RefusedError(_INTERNAL, f"{processes.describe(error)}.") from error
    if line is not None or limit is not None:
        first = max(0, (line or 1) - 1)
        text = "".join(text.splitlines(keepends=True)[first : None if limit is None else first + limit])
    return {"content": text}


def write(workspace: str, params: dict[str, Any]) -> dict[str, Any]:
    """fs/write_text_file: {"path", "content"}. Folders are made as needed; a file that exists keeps its mode."""
    path, content = _inside(workspace, params), params.get("content")
    if not isinstance(content, str):
        raise RefusedError(_INVALID, "There is no text to write.")
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, 0o644)
        with os.fdopen(fd, "wb") as file:
            processes.require_regular(fd, path)
            file.truncate(0)
            file.write(content.encode("utf-8", "replace"))
    except OSError as error:
        raise RefusedError(_INTERNAL, f"{processes.describe(error)}.") from error
    return {}


def _inside(workspace: str, params: dict[str, Any]) -> str:
    """The true place of the path; RefusedError when that is not in the workspace."""
    path = params.get("path")
    if not isinstance(path, str) or not os.path.isabs(path) or "\0" in path:
        raise RefusedError(_INVALID, "A path is absolute.")
    root, place = os.path.realpath(workspace), os.path.realpath(path)
    if not place.startswith(root + os.sep):
        raise RefusedError(_INVALID, f"{path} is not in the workspace.")
    return place


def _number(params: dict[str, Any], name: str) -> Any:
    value = params.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise RefusedError(_INVALID, f"{name} is no number of lines.")
    return value
