"""A backend that is remembered instead of made: what was asked of it, and what lies in it."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from sandboxes.base import Backend, Command, Completed, FetchedPatch, Sandbox, SandboxInfo, SandboxSpec, TurnSpec
from sandboxes.errors import FileMissing, PreparedGone, SandboxError, SandboxGone
from tasks.models import Run, SandboxStatus
from tasks.models import Sandbox as Row
from tasks.running import backends
from tests.tasks.running.fake import FakeBackend, FakeBox

_numbers = itertools.count(1)


class RememberedSandbox(Sandbox):
    def __init__(self, backend: RememberedBackend, key: str, spec: SandboxSpec) -> None:
        self.backend, self.key, self.spec, self.ref = backend, key, spec, f"box-{next(_numbers)}"
        self.turns: list[TurnSpec] = []

    @property
    def record(self) -> dict[str, Any]:
        return {}

    async def put(self, path: str, data: bytes) -> None: ...

    async def get(self, path: str) -> bytes:
        raise FileMissing(path)

    async def run(self, argv: Sequence[str], *, timeout: float) -> Completed:  # noqa: ASYNC109 - the contract's
        return Completed(0, b"", b"")

    async def turn(self, spec: TurnSpec) -> bool:
        self.turns.append(spec)
        return True

    async def tell(self, command: Command) -> None: ...

    async def patch(self, turn: int, kind: str) -> FetchedPatch:
        return FetchedPatch(b"", hashlib.sha256(b"").hexdigest(), [])

    async def journal(self, offset: int) -> AsyncIterator[bytes]:
        yield b""

    async def alive(self) -> bool:
        return True

    async def pause(self) -> None: ...

    async def resume(self, spec: SandboxSpec | None = None) -> None: ...

    async def keep(self) -> str:
        if self.backend.keeps_nothing:
            raise SandboxError("The disk is full.")
        ref = f"kept-{next(_numbers)}"
        self.backend.kept.add(ref)
        return ref

    async def destroy(self) -> None:
        self.backend.boxes.pop(self.ref, None)


class RememberedBackend(Backend):
    """`boxes` (by their references) and `kept` are what there is; `made` all that there ever was, in its order."""

    name = "local"
    keeps_nothing = False

    def __init__(self) -> None:
        self.boxes: dict[str, RememberedSandbox] = {}
        self.made: list[RememberedSandbox] = []
        self.kept: set[str] = set()

    async def create(self, key: str, spec: SandboxSpec) -> Sandbox:
        if spec.prepared and spec.prepared not in self.kept:
            raise PreparedGone(f"{spec.prepared} is not there.")
        box = RememberedSandbox(self, key, spec)
        self.boxes[box.ref] = box
        self.made.append(box)
        return box

    async def connect(self, ref: str) -> Sandbox:
        if ref not in self.boxes:
            raise SandboxGone(ref)
        return self.boxes[ref]

    async def list(self) -> list[SandboxInfo]:
        return [SandboxInfo(box.key, box.ref, is_alive=True) for box in self.boxes.values()]

    async def discard(self, prepared: str) -> None:
        self.kept.discard(prepared)


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> RememberedBackend:
    backend = RememberedBackend()
    monkeypatch.setattr(backends, "backend", lambda _name: backend)
    return backend


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path) -> dict[str, FakeBackend]:
    """Both backends, in memory; mirrors are made below `tmp_path`."""
    settings.DATA, settings.E2B_API_KEY = tmp_path, "e2b_test"
    found = {name: FakeBackend(name) for name in ("local", "e2b")}
    monkeypatch.setattr(backends, "backend", found.__getitem__)
    return found


@pytest.fixture
def cloud(places: dict[str, FakeBackend]) -> FakeBackend:
    return places["e2b"]


@pytest.fixture
def in_cloud(make_run: Callable[..., Run], cloud: FakeBackend) -> Callable[..., tuple[Run, Row, FakeBox]]:
    """A run of the backend e2b, its sandbox's row and the sandbox; fields of the row by `row`."""

    def make(*, row: dict[str, Any] | None = None, **fields: Any) -> tuple[Run, Row, FakeBox]:
        run = make_run(**{"backend": "e2b"} | fields)
        box = cloud.make(backends.key(run.pk, run.generation))
        values = {"status": SandboxStatus.LIVE} | (row or {})
        return run, Row.objects.create(run=run, generation=run.generation, backend="e2b", ref=box.ref, **values), box

    return make
