"""The file half of envd: its filesystem service and the plain /files. Runs inside the sandbox."""

from __future__ import annotations

import asyncio
import grp
import json
import os
import pwd
import shutil
import stat
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b.envd.filesystem.filesystem_pb import (
    EntryInfo,
    FileType,
    ListDirRequest,
    ListDirResponse,
    MakeDirRequest,
    MakeDirResponse,
    MoveRequest,
    MoveResponse,
    RemoveRequest,
    RemoveResponse,
    StatRequest,
    StatResponse,
)
from protobuf.wkt import Timestamp

from tests.e2bcloud.processes import resolve, user

_PIECE = 256 * 1024


class Filesystem:
    """Implements e2b.envd.filesystem.filesystem_connect.Filesystem, but for the watchers."""

    async def stat(self, request: StatRequest, ctx: Any) -> StatResponse:
        return StatResponse(entry=_entry(resolve(request.path, user(ctx.request_headers))))

    async def make_dir(self, request: MakeDirRequest, ctx: Any) -> MakeDirResponse:
        path = Path(resolve(request.path, user(ctx.request_headers)))
        if path.is_dir():
            raise ConnectError(Code.ALREADY_EXISTS, f"directory already exists: {path}")
        if path.exists():
            raise ConnectError(Code.INVALID_ARGUMENT, f"path already exists but it is not a directory: {path}")
        with _Said():
            path.mkdir(parents=True)
        return MakeDirResponse(entry=_entry(str(path)))

    async def move(self, request: MoveRequest, ctx: Any) -> MoveResponse:
        who = user(ctx.request_headers)
        source, target = resolve(request.source, who), resolve(request.destination, who)
        with _Said():
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.rename(source, target)
        return MoveResponse(entry=_entry(target))

    async def remove(self, request: RemoveRequest, ctx: Any) -> RemoveResponse:
        path = Path(resolve(request.path, user(ctx.request_headers)))
        with _Said():  # what is not there is as good as removed
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return RemoveResponse()

    async def list_dir(self, request: ListDirRequest, ctx: Any) -> ListDirResponse:
        path = resolve(request.path, user(ctx.request_headers))
        if not os.path.exists(path):
            raise ConnectError(Code.NOT_FOUND, f"directory not found: {path}")
        if not os.path.isdir(path):
            raise ConnectError(Code.INVALID_ARGUMENT, f"path is not a directory: {path}")
        found: list[EntryInfo] = []
        _walk(path, request.depth or 1, found)
        return ListDirResponse(entries=found)

    async def _no_watchers(self, request: Any, ctx: Any) -> Any:
        raise ConnectError(Code.UNIMPLEMENTED, "There are no watchers here.")

    async def watch_dir(self, request: Any, ctx: Any) -> AsyncIterator[Any]:
        raise ConnectError(Code.UNIMPLEMENTED, "There are no watchers here.")
        yield

    create_watcher = get_watcher_events = remove_watcher = _no_watchers


class _Said:
    """What the system refuses, in the codes of Connect."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, FileNotFoundError):
            raise ConnectError(Code.NOT_FOUND, f"path not found: {error.filename}") from error
        if isinstance(error, OSError):
            raise ConnectError(Code.INTERNAL, str(error)) from error


def _walk(folder: str, depth: int, found: list[EntryInfo]) -> None:
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        found.append(_entry(path))
        if depth > 1 and os.path.isdir(path) and not os.path.islink(path):
            _walk(path, depth - 1, found)


def _entry(path: str) -> EntryInfo:
    try:
        about = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise ConnectError(Code.NOT_FOUND, f"file not found: {path}") from None
    is_link = stat.S_ISLNK(about.st_mode)
    kind = FileType.DIRECTORY if os.path.isdir(path) else FileType.FILE if os.path.isfile(path) else FileType.UNSPECIFIED
    return EntryInfo(
        name=os.path.basename(path),
        type=kind,
        path=path,
        size=about.st_size,
        mode=stat.S_IMODE(about.st_mode),
        permissions=stat.filemode(about.st_mode),
        owner=_name(pwd.getpwuid, about.st_uid),
        group=_name(grp.getgrgid, about.st_gid),
        modified_time=Timestamp(seconds=int(about.st_mtime), nanos=about.st_mtime_ns % 10**9),
        symlink_target=os.path.realpath(path) if is_link else None,
        is_symlink=is_link,
    )


def _name(ask: Any, number: int) -> str:
    try:
        return str(ask(number)[0])
    except KeyError:
        return str(number)


class Files:
    """An ASGI application for /files: GET (with Range) gives a file, POST writes one or, as multipart, several."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            who = pwd.getpwnam(query.get("username") or "user")
        except KeyError:
            await error(send, 401, f"invalid username: '{query.get('username')}'")
            return
        try:
            if scope["method"] == "GET":
                await self._give(resolve(query.get("path", ""), who), headers, send)
            else:
                await self._take(query.get("path"), who, headers, receive, send)
        except OSError as refused:
            await error(send, 507 if refused.errno == 28 else 500, str(refused))

    async def _give(self, path: str, headers: dict[str, str], send: Any) -> None:
        if not os.path.exists(path):
            await error(send, 404, f"path '{path}' does not exist")
            return
        if not os.path.isfile(path):
            await error(send, 400, f"path '{path}' is not a file")
            return
        with Path(path).open("rb") as file:  # noqa: ASYNC230 - nobody else is kept waiting that matters
            size = os.fstat(file.fileno()).st_size
            start, end = 0, size
            if wanted := headers.get("range", "").removeprefix("bytes="):
                first, _, last = wanted.partition("-")
                start, end = (int(first), min(int(last) + 1, size) if last else size) if first else (max(0, size - int(last)), size)
                if start >= size:
                    await error(send, 416, "invalid range: failed to overlap", ((b"content-range", f"bytes */{size}".encode()),))
                    return
            said = [(b"content-length", str(end - start).encode()), (b"content-type", b"application/octet-stream")]
            if wanted:
                said.append((b"content-range", f"bytes {start}-{end - 1}/{size}".encode()))
            await send({"type": "http.response.start", "status": 206 if wanted else 200, "headers": said})
            file.seek(start)
            while start < end and (data := file.read(min(_PIECE, end - start))):
                start += len(data)
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _take(self, path: str | None, who: pwd.struct_passwd, headers: dict[str, str], receive: Any, send: Any) -> None:
        body = _unpacked(_body(receive)) if headers.get("content-encoding") == "gzip" else _body(receive)
        content_type = headers.get("content-type", "")
        written: list[str] = []
        if content_type.startswith("multipart/form-data"):
            parts = _parts(body, content_type.partition("boundary=")[2].strip('"').encode())
        elif path is not None:
            parts = _whole(body)
        else:
            await error(send, 400, "path is required for this upload")
            return
        file = None
        try:
            async for name, data in parts:
                if name is not None:
                    if file is not None:
                        file.close()
                    target = resolve(path or name, who)
                    if os.path.isdir(target):
                        await error(send, 400, f"path is a directory: {target}")
                        return
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    file = Path(target).open("wb")  # noqa: ASYNC230, SIM115 - as above; it outlives this step
                    written.append(target)
                if data and file is not None:
                    file.write(data)
                    await asyncio.sleep(0)
        finally:
            if file is not None:
                file.close()
        await reply(send, 200, [{"name": os.path.basename(one), "type": "file", "path": one} for one in written])


async def reply(send: Any, status: int, body: Any, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    content = json.dumps(body).encode()
    said = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": said})
    await send({"type": "http.response.body", "body": content})


async def error(send: Any, status: int, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    await reply(send, status, {"code": status, "message": message}, headers)


async def _body(receive: Any) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        yield message["body"]
        if not message["more_body"]:
            return


async def _unpacked(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    unpack = zlib.decompressobj(31)
    async for data in body:
        yield unpack.decompress(data)


async def _whole(body: AsyncIterator[bytes]) -> AsyncIterator[tuple[str | None, bytes]]:
    yield "", b""
    async for data in body:
        yield None, data


async def _parts(body: AsyncIterator[bytes], boundary: bytes) -> AsyncIterator[tuple[str | None, bytes]]:
    """The files of a multipart body as (name, b"") where one begins, and (None, data) for what is in it."""
    end = b"\r\n--" + boundary
    buffer, in_head = bytearray(b"\r\n"), False
    skipping = True  # up to the first boundary, and parts that are no files
    async for data in body:
        buffer += data
        while True:
            if in_head:
                if (at := buffer.find(b"\r\n\r\n")) < 0:
                    break
                name = _file_name(bytes(buffer[:at]).decode())
                del buffer[: at + 4]
                in_head, skipping = False, name is None
                if name is not None:
                    yield name, b""
            if (at := buffer.find(end)) >= 0:
                if not skipping:
                    yield None, bytes(buffer[:at])
                if len(buffer) < at + len(end) + 2:
                    del buffer[:at]
                    break
                if buffer[at + len(end) : at + len(end) + 2] == b"--":
                    del buffer[:]
                    skipping = True
                    break
                del buffer[: at + len(end)]
                in_head = True
                continue
            if (safe := len(buffer) - len(end)) > 0:
                if not skipping:
                    yield None, bytes(buffer[:safe])
                del buffer[:safe]
            break


def _file_name(head: str) -> str | None:
    for line in head.split("\r\n"):
        if line.lower().startswith("content-disposition:") and 'filename="' in line:
            return line.partition('filename="')[2].partition('"')[0].replace("%22", '"')
    return None
