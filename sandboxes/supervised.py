"""What all sandboxes have in common that a supervisor of ours runs in: requests of its control protocol (`sandboxes.inside`).

A backend says how one request gets there and its reply back; what is asked, and what a reply means, is the same everywhere.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from sandboxes.base import (
    HOME,
    WORKSPACE,
    Collected,
    Command,
    CommandName,
    Completed,
    Entry,
    EntryKind,
    FetchedPatch,
    Sandbox,
    TurnSpec,
)
from sandboxes.errors import FileMissing, SandboxError, SandboxGone
from sandboxes.inside import strip

ANSWER_S = 30.0
FILE_S = 300.0
CHECKPOINT_S = 120.0  # a shutdown waits for the turn's checkpoint
_STRIP_S = 900.0
_MIB = 1024 * 1024
_CONTENT_MAX = 512 * _MIB  # an agent's file may be of any size; our memory is not


class SupervisedSandbox(Sandbox):
    @abstractmethod
    async def _ask(self, what: str, timeout_s: float, payload: bytes = b"", /, **message: Any) -> tuple[dict[str, Any], bytes]:
        """One request: the reply, which is as `checked` has it, and its bytes. SandboxGone when no supervisor answers in time."""

    async def put(self, path: str, data: bytes) -> None:
        await self._ask("put", FILE_S, data, path=path, mode=0o644)

    async def get(self, path: str) -> bytes:
        return (await self._ask("get", FILE_S, path=path))[1]

    async def run(self, argv: Sequence[str], *, timeout: float) -> Completed:  # noqa: ASYNC109 - it ends the command, not us
        reply, output = await self._ask("run", timeout + ANSWER_S, argv=list(argv), timeout=timeout, env={})
        border = reply["stdout"]
        return Completed(reply["code"], output[:border], output[border:], reply["is_timed_out"])

    async def turn(self, spec: TurnSpec) -> bool:
        reply, _ = await self._ask("turn", ANSWER_S, spec=spec.as_json())
        return bool(reply["is_new"])

    async def tell(self, command: Command) -> None:
        message = {"text": command.text} if command.name is CommandName.MESSAGE else {}
        await self._ask(command.name.value, CHECKPOINT_S, **message)

    async def patch(self, turn: int, kind: str) -> FetchedPatch:
        reply, content = await self._ask("patch", FILE_S, turn=turn, kind=kind)
        return FetchedPatch(content, reply["sha256"], reply["left_out"])

    async def look(self, path: str, *, first: int, most: int) -> tuple[list[Entry], int]:
        reply, _ = await self._ask("look", ANSWER_S, path=path, first=first, most=most)
        found = [Entry(each["name"], EntryKind(each["kind"]), each["size"], each["target"]) for each in reply["entries"]]
        return found, reply["count"]

    async def read(self, path: str, *, most: int, offset: int = 0) -> tuple[bytes, int]:
        reply, content = await self._ask("read", FILE_S, path=path, offset=offset, most=most)
        return content, reply["whole"]

    async def collect(self, path: str, *, known: Mapping[str, str], most_files: int, most_file_bytes: int, most_bytes: int) -> Collected:
        bounds = {"most_files": most_files, "most_file_bytes": most_file_bytes, "most_bytes": most_bytes}
        reply, content = await self._ask("collect", FILE_S, path=path, known=dict(known), **bounds)
        files, at = [], 0
        for told in reply["files"]:
            files.append((told["path"], content[at : at + told["bytes"]]))
            at += told["bytes"]
        return Collected(files, reply["left_out"])

    async def _shutdown(self) -> tuple[dict[str, Any], bytes]:
        """Let the supervisor end by itself: what it says of its turn's checkpoint, if it made one, and that patch."""
        return await self._ask("shutdown", CHECKPOINT_S)

    async def _tidy(self, python: str = "python3") -> None:
        """Leave in workspace and home what a prepared environment keeps. SandboxError while a turn is running."""
        if (await self._ask("ping", ANSWER_S))[0]["turn"] is not None:
            raise SandboxError("The environment cannot be kept while a turn is running.")
        done = await self.run(strip.argv(WORKSPACE, HOME, python), timeout=_STRIP_S)
        if done.code:
            said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise SandboxError(f"The environment cannot be kept: {said or 'tidying it up took too long.'}")


def checked(what: str, reply: dict[str, Any]) -> dict[str, Any]:
    """A reply that grants what was asked. Raises what another one means: SandboxGone, FileMissing or SandboxError."""
    if reply.get("ok") is True:
        return reply
    if reply.get("error") == "gone":
        raise SandboxGone(f"The sandbox is not running: {reply.get('message')}")
    refusal = FileMissing if reply.get("error") == "missing" else SandboxError
    raise refusal(f"The sandbox refused “{what}”: {reply.get('message') or reply.get('error') or 'no reason given'}")


def within(size: int, most: int = _CONTENT_MAX) -> int:
    """A size in bytes that the sandbox has named; SandboxError when it is more than is taken at once."""
    if size > most:
        raise SandboxError(f"The sandbox wants to give {size // _MIB} MiB at once; at most {most // _MIB} MiB are taken.")
    return size
