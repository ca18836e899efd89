"""What a run leaves in artifacts/ is kept at the end of its turns: bounded, once, and never in the way of the end."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from django.utils import timezone
from pytest_django import Settings

from sandboxes.base import ARTIFACTS, Collected
from sandboxes.errors import SandboxError, SandboxGone
from tasks.models import Artifact, Event, Mode, Run, RunStatus, Turn
from tasks.running import artifacts, jobs, specs
from tasks.running.redact import Redactor
from tests.tasks.review.conftest import Workshop
from tests.tasks.review.conftest import workshop as workshop
from tests.tasks.running.fake import FakeBackend, FakeBox

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]


@pytest.fixture
def box(local: FakeBackend) -> FakeBox:
    return local.make("x")


def over(run: Run, box: FakeBox, number: int = 1, **fields: object) -> Turn:
    """A turn of which the journal says that it is over."""
    outcome = {"step": "agent", "reason": "exit", "code": 0, "signal": None, "has_patch": False, "error": None}
    values = {"status": RunStatus.RUNNING, "outcome": outcome, "generation": 1, "started_at": timezone.now(), **fields}
    turn, _ = Turn.objects.update_or_create(run=run, number=number, defaults={"prompt": "x", **values})
    Run.objects.filter(pk=run.pk).update(status=RunStatus.RUNNING, stage="collect")
    run.sandboxes.update(ref=box.ref, status="live")
    return turn


def end(run: Run, box: FakeBox, number: int = 1, **fields: object) -> None:
    over(run, box, number, **fields)
    jobs.finish_turn(run.pk, 1)
    run.refresh_from_db()


def kept(run: Run) -> dict[str, tuple[int, bytes, str]]:
    rows = Artifact.objects.filter(run=run).select_related("turn")
    return {row.path: (row.turn.number, bytes(row.content), row.left_out) for row in rows}


def left(box: FakeBox, *left_out: tuple[str, int, str], **files: bytes) -> None:
    named = [{"path": path, "bytes": size, "reason": reason} for path, size, reason in left_out]
    box.collected = Collected(list(files.items()), named)


def test_they_are_kept_with_the_turn_and_told_in_the_log(make_run: MakeRun, box: FakeBox) -> None:
    run = make_run(sandbox=True, status=RunStatus.RUNNING)
    left(box, ("film.mp4", 10**9, "size"), report=b"<h1>", shot=b"png")
    end(run, box)
    assert run.status == RunStatus.SUCCEEDED
    assert kept(run) == {"report": (1, b"<h1>", ""), "shot": (1, b"png", ""), "film.mp4": (1, b"", "size")}
    told = Event.objects.get(run=run, data__has_key="artifacts").data
    assert told == {"artifacts": 2, "left_out": ["film.mp4"]}
    jobs.finish_turn(run.pk, 1)  # as reconcile does, again and again
    assert Event.objects.filter(run=run, data__has_key="artifacts").count() == 1


def test_a_later_turn_replaces_what_it_left_anew_and_only_that(make_run: MakeRun, box: FakeBox) -> None:
    run = make_run(sandbox=True, status=RunStatus.RUNNING)
    left(box, ("film", 9, "size"), report=b"one", shot=b"png", small=b"small")
    end(run, box)
    left(box, ("small", 10**9, "size"), report=b"two", shot=b"png")
    end(run, box, 2)
    assert box.known["shot"] == hashlib.sha256(b"png").hexdigest()
    assert "film" not in box.known
    assert kept(run) == {"report": (2, b"two", ""), "shot": (1, b"png", ""), "small": (1, b"small", "size")}
    left(box)
    end(run, box, 3)
    assert kept(run) == {"report": (2, b"two", ""), "shot": (1, b"png", ""), "small": (1, b"small", "")}


def test_the_bounds_are_those_of_the_run_whatever_the_sandbox_says(make_run: MakeRun, box: FakeBox, settings: Settings) -> None:
    settings.MAX_ARTIFACT_MB, settings.MAX_ARTIFACTS_MB, settings.MAX_ARTIFACTS = 1, 2, 3
    run = make_run(sandbox=True, status=RunStatus.RUNNING)
    mb = bytes(2**20)
    left(box, a=mb, b=mb[1:], c=mb + b"x")
    end(run, box)
    left(box, b=b"2", d=mb, e=b"e", f=b"f")
    end(run, box, 2)
    found = {path: (number, len(content), why) for path, (number, content, why) in kept(run).items()}
    assert found == {"a": (1, 2**20, ""), "b": (2, 1, ""), "d": (2, 0, "total"), "e": (2, 1, ""), "f": (2, 0, "count")}


@pytest.mark.parametrize("error", [SandboxGone("gone"), SandboxError("There is no such request.")])
def test_a_sandbox_that_does_not_say_holds_up_nothing(make_run: MakeRun, local: FakeBackend, box: FakeBox, error: SandboxError) -> None:
    run = make_run(sandbox=True, status=RunStatus.RUNNING)
    left(box, report=b"x")
    local.errors["collect"] = error
    end(run, box)
    assert run.status == RunStatus.SUCCEEDED
    assert kept(run) == {}


@pytest.mark.parametrize("path", [7, "\ud800", None])
def test_an_answer_that_makes_no_sense_holds_up_nothing(make_run: MakeRun, box: FakeBox, path: object) -> None:
    run = make_run(sandbox=True, status=RunStatus.RUNNING)
    box.collected = Collected([("a", b"x")], [{"path": path, "bytes": 1, "reason": "size"}])
    end(run, box)
    assert run.status == RunStatus.SUCCEEDED
    assert kept(run) == {}


def test_an_answer_without_end_is_cut(make_run: MakeRun, box: FakeBox, settings: Settings) -> None:
    settings.MAX_ARTIFACTS = 3
    run = make_run(sandbox=True, status=RunStatus.RUNNING)
    named = [{"path": f"lost {number}", "bytes": -(10**30) if number % 2 else 10**30, "reason": "\0" * 99} for number in range(500)]
    box.collected = Collected([(f"{number}", b"") for number in range(500)], named)
    end(run, box)
    assert run.status == RunStatus.SUCCEEDED
    assert len(kept(run)) == 3 + 101 + 101


def test_any_name_can_be_kept(make_run: MakeRun, box: FakeBox) -> None:
    run = make_run(sandbox=True, status=RunStatus.RUNNING)
    box.collected = Collected([("latin\udce9", b"1"), ("a\nb<i>\u202e", b"2"), ("\U0001f600" * 900, b"3"), ("n\0", b"4")], [])
    end(run, box)
    assert sorted(kept(run)) == sorted(["latin\ufffd", "a\nb<i>\u202e", "\U0001f600" * 500, "n\ufffd"])


@pytest.mark.parametrize("reason", ["stop", "exit"])
def test_those_of_a_turn_that_failed_are_kept_too(make_run: MakeRun, box: FakeBox, reason: str) -> None:
    run = make_run(sandbox=True, status=RunStatus.RUNNING)
    left(box, report=b"x")
    end(run, box, outcome={"step": "agent", "reason": reason, "code": 1, "signal": None, "has_patch": False, "error": None})
    assert run.status == RunStatus.FAILED
    assert list(kept(run)) == ["report"]


def test_a_plan_that_leaves_some_has_changed_nothing(make_run: MakeRun, box: FakeBox) -> None:
    run = make_run(sandbox=True, status=RunStatus.RUNNING)
    left(box, sketch=b"x")
    end(run, box, mode=Mode.PLAN, answer="1. Do it")
    assert run.status == RunStatus.WAITING
    assert list(kept(run)) == ["sketch"]


def test_those_of_a_run_that_no_list_shows_are_not_kept(make_run: MakeRun, make_task: Callable[..., object], box: FakeBox) -> None:
    run = make_run(make_task(is_trial=True), sandbox=True, status=RunStatus.RUNNING)
    left(box, report=b"x")
    end(run, box)
    assert kept(run) == {}


def test_a_folder_of_the_repositorys_own_is_none_of_ours(make_run: MakeRun, workshop: Workshop, box: FakeBox) -> None:
    run = make_run(workshop.base({"artifacts/of-the-repository": b"1"}), sandbox=True, status=RunStatus.RUNNING)
    left(box, new=b"x")
    end(run, box)
    assert kept(run) == {}


def test_a_secret_in_one_is_named(make_run: MakeRun) -> None:
    run = make_run(sandbox=True, status=RunStatus.RUNNING)
    artifacts.store(run.turns.get(), artifacts.Found({"log": b"key=hunter22"}, {}), Redactor({"KEY": "hunter22"}))
    assert Artifact.objects.get(run=run).secrets_found == ["KEY"]


def test_the_agent_is_told_where(make_run: MakeRun) -> None:
    run = make_run(sandbox=True, status=RunStatus.RUNNING)
    (step,) = specs.build(run, run.turns.get(), run.sandboxes.get(), restores_patch=False).steps
    assert step.env["ASYNCCODE_ARTIFACTS"] == f"/workspace/{ARTIFACTS}"
