"""Backends in memory, and runs in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from tasks.models import Run, SandboxStatus
from tasks.models import Sandbox as Row
from tasks.running import backends
from tests.tasks.running.fake import FakeBackend, FakeBox


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> FakeBackend:
    """The local backend, in memory; mirrors are made where they always are."""
    backend = FakeBackend("local")
    monkeypatch.setattr(backends, "backend", {"local": backend}.__getitem__)
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
