"""Patches by the API: their figures, and their very bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.api import patches
from tasks.models import Patch, Run, Turn
from tests.tasks.api.conftest import Program

pytestmark = pytest.mark.django_db
CONTENT = bytes(range(256)) * 40


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    run = make_run(status="succeeded")
    second = Turn.objects.create(run=run, number=2, prompt="more", status="succeeded")
    file = {"path": "a.py", "old_path": None, "state": "added", "additions": 1, "deletions": 0, "is_binary": False}
    left_out = [{"path": "big", "bytes": 10, "reason": "too large"}]
    common = {"run": run, "files": [file], "additions": 1, "left_out": left_out, "secrets_found": ["TOKEN"]}
    Patch.objects.create(turn=run.turns.get(number=1), kind="final", content=b"first", sha256="1" * 64, **common)
    Patch.objects.create(turn=second, kind="checkpoint", content=b"so far", sha256="2" * 64, **common)
    Patch.objects.create(turn=second, kind="final", content=CONTENT, sha256="3" * 64, **common)
    return run


def test_the_newest_patch_comes_as_it_is(alices: Program, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "_PIECE", 1000)
    answer = alices.get(f"/runs/{run.pk}/patch")
    assert (answer.status, answer.content) == (200, CONTENT)
    assert answer.headers["Content-Type"] == "text/x-diff"
    assert (answer.headers["Content-Length"], answer.headers["ETag"]) == (str(len(CONTENT)), f'"{"3" * 64}"')
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_patch_of_a_turn(alices: Program, run: Run) -> None:
    assert alices.get(f"/runs/{run.pk}/turns/1/patch").content == b"first"
    assert alices.get(f"/runs/{run.pk}/turns/3/patch").status == 404


def test_a_run_without_a_patch_has_none(alices: Program, make_run: Callable[..., Run]) -> None:
    run = make_run()
    assert alices.get(f"/runs/{run.pk}/patch").status == 404
    assert alices.get(f"/runs/{run.pk}/patches").body == {"items": []}


def test_patches_tell_their_files(alices: Program, run: Run) -> None:
    found = alices.get(f"/runs/{run.pk}/patches").body["items"]
    assert [(patch["turn"], patch["kind"], patch["sha256"][0]) for patch in found] == [
        (2, "final", "3"),
        (2, "checkpoint", "2"),
        (1, "final", "1"),
    ]
    assert found[0]["files"][0]["path"] == "a.py"
    assert found[0]["left_out"] == [{"path": "big", "bytes": 10, "reason": "too large"}]
    assert found[0]["secrets_found"] == ["TOKEN"]
