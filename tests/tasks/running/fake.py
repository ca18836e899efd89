"""A backend in memory that keeps the contract as far as rows can tell, and raises what it is told to."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from sandboxes.base import (
    Backend,
    Collected,
    Command,
    CommandName,
    Completed,
    Entry,
    EntryKind,
    FetchedPatch,
    Sandbox,
    SandboxInfo,
    SandboxSpec,
    TurnSpec,
)
from sandboxes.errors import FileMissing, PreparedGone, SandboxError, SandboxGone
from tasks.models import Run

_numbers = itertools.count(1)


class FakeBox(Sandbox):
    """`told` are the commands it got, `turns` the turns, `is_awake` whether it sleeps, `patches` what it has of patches,
    `workspace` its files by path, `collected` what it says was left, but for what it was told is `known`."""

    def __init__(self, backend: FakeBackend, key: str, spec: SandboxSpec) -> None:
        self.backend, self.key, self.spec = backend, key, spec
        self.ref = f"{backend.name}-{next(_numbers)}"
        self.is_awake = True
        self.told: list[CommandName] = []
        self.turns: list[TurnSpec] = []
        self.files: dict[str, bytes] = {}
        self.patches: dict[tuple[int, str], FetchedPatch] = {}
        self.workspace: dict[str, bytes] = {}
        self.collected = Collected([], [])
        self.known: dict[str, str] = {}

    @property
    def record(self) -> dict[str, Any]:
        return {"isolation": "memory"}

    def _check(self, deed: str) -> None:
        if self.ref not in self.backend.boxes:
            raise SandboxGone(f"{self.ref} is gone.")
        self.backend.fail(deed)

    async def put(self, path: str, data: bytes) -> None:
        self._check("put")
        self.files[path] = data

    async def get(self, path: str) -> bytes:
        self._check("get")
        if path not in self.files:
            raise FileMissing(path)
        return self.files[path]

    async def run(self, argv: Sequence[str], *, timeout: float) -> Completed:  # noqa: ASYNC109 - as the contract has it
        self._check("run")
        return Completed(0, b"", b"")

    async def turn(self, spec: TurnSpec) -> bool:
        self._check("turn")
        self.turns.append(spec)
        return True

    async def tell(self, command: Command) -> None:
        self._check("tell")
        self.told.append(command.name)

    async def patch(self, turn: int, kind: str) -> FetchedPatch:
        self._check("patch")
        if (turn, kind) not in self.patches:
            raise FileMissing(kind)
        return self.patches[turn, kind]

    async def look(self, path: str, *, first: int, most: int) -> tuple[list[Entry], int]:
        """Of `workspace`, in which there are files only."""
        self._check("look")
        prefix = f"{path}/" if path else ""
        names = sorted({name.removeprefix(prefix).partition("/")[0] for name in self.workspace if name.startswith(prefix)})
        if path and not names:
            raise FileMissing(path)
        found = [
            Entry(name, EntryKind.FILE, len(self.workspace[prefix + name]))
            if prefix + name in self.workspace
            else Entry(name, EntryKind.FOLDER)
            for name in names
        ]
        return found[first : first + most], len(found)

    async def read(self, path: str, *, most: int, offset: int = 0) -> tuple[bytes, int]:
        self._check("read")
        if path not in self.workspace:
            raise FileMissing(path)
        return self.workspace[path][offset : offset + most], len(self.workspace[path])

    async def collect(self, path: str, *, known: Mapping[str, str], most_files: int, most_file_bytes: int, most_bytes: int) -> Collected:
        self._check("collect")
        self.known = dict(known)
        return self.collected

    async def journal(self, offset: int) -> AsyncIterator[bytes]:
        self._check("journal")
        yield b""

    async def alive(self) -> bool:
        return self.ref in self.backend.boxes and self.is_awake

    async def pause(self) -> None:
        self._check("pause")
        self.is_awake = False

    async def resume(self, spec: SandboxSpec | None = None) -> None:
        self._check("resume")
        self.is_awake, self.spec = True, spec or self.spec

    async def keep(self) -> str:
        self._check("keep")
        ref = f"kept-{self.ref}"
        self.backend.kept_refs.append(ref)
        return ref

    async def destroy(self) -> None:
        self.backend.fail("destroy")
        self.backend.boxes.pop(self.ref, None)


class FakeBackend(Backend):
    """`boxes` are the sandboxes there are, by reference, `kept_refs` the prepared environments; `made` all sandboxes that there ever
    were; `errors` what the next call of a name raises, again and again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.boxes: dict[str, FakeBox] = {}
        self.made: list[FakeBox] = []
        self.kept_refs: list[str] = []
        self.errors: dict[str, SandboxError] = {}

    def fail(self, deed: str) -> None:
        if deed in self.errors:
            raise self.errors[deed]

    def make(self, key: str) -> FakeBox:
        box = FakeBox(self, key, SandboxSpec())
        self.boxes[box.ref] = box
        self.made.append(box)
        return box

    async def create(self, key: str, spec: SandboxSpec) -> Sandbox:
        self.fail("create")
        if spec.prepared and spec.prepared not in self.kept_refs:
            raise PreparedGone(f"{spec.prepared} is not there.")
        box = self.make(key)
        box.spec = spec
        return box

    async def connect(self, ref: str) -> Sandbox:
        self.fail("connect")
        if ref not in self.boxes:
            raise SandboxGone(f"{ref} is gone.")
        return self.boxes[ref]

    async def list(self) -> list[SandboxInfo]:
        self.fail("list")
        return [SandboxInfo(box.key, box.ref, box.is_awake) for box in self.boxes.values()]

    async def discard(self, prepared: str) -> None:
        self.fail("discard")
        if prepared in self.kept_refs:
            self.kept_refs.remove(prepared)

    async def kept(self, *, for_s: float) -> builtins.list[str]:
        return [*self.kept_refs]


def have_mirror(run: Run) -> None:
    """Folders where the mirror of the run's repository, with its base commit, and what is shipped of it would be."""
    mirror, commit = run.task.repo.mirror_path, run.task.base_commit
    for folder in (mirror / "refs/asynccode", mirror.with_name(f"{mirror.stem}.shipments") / f"{commit}.git"):
        folder.mkdir(parents=True, exist_ok=True)
    (mirror / "refs/asynccode" / f"commit-{commit}").touch()
