"""Artifacts by the API: what an agent left, as bytes that do nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.models import Artifact, Run
from tests.tasks.api.conftest import Program

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    return make_run(status="succeeded")


def left(run: Run, path: str, content: bytes = b"", **more: object) -> Artifact:
    sha256 = "1" * 64 if content else ""
    return Artifact.objects.create(run=run, turn=run.turns.get(), path=path, content=content, size=len(content), sha256=sha256, **more)


def test_they_are_listed_by_path_with_what_was_left_out(alices: Program, run: Run) -> None:
    report = left(run, "report/index.html", b"<p>", secrets_found=["TOKEN"])
    left(run, "huge.bin", left_out="size")
    huge, shown = alices.get(f"/runs/{run.pk}/artifacts").body["items"]
    assert (huge["path"], huge["sha256"], huge["left_out"]) == ("huge.bin", "", "size")
    assert (shown["id"], shown["path"], shown["turn"], shown["size"]) == (report.pk, "report/index.html", 1, 3)
    assert shown["secrets_found"] == ["TOKEN"]


def test_one_comes_as_bytes_that_do_nothing(alices: Program, run: Run) -> None:
    found = left(run, 'deep/"quoted";\u202e.html', b"<script>alert(1)</script>")
    answer = alices.get(f"/runs/{run.pk}/artifacts/{found.pk}/content")
    assert (answer.status, answer.content) == (200, b"<script>alert(1)</script>")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert "deep" not in answer.headers["Content-Disposition"]
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["ETag"] == f'"{"1" * 64}"'


def test_what_is_not_kept_and_what_another_run_left_is_not_there(alices: Program, run: Run, make_run: Callable[..., Run]) -> None:
    lost, other = left(run, "huge.bin", left_out="size"), left(make_run(), "a.txt", b"a")
    for artifact in (lost, other):
        assert alices.get(f"/runs/{run.pk}/artifacts/{artifact.pk}/content").status == 404
