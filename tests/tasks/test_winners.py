"""Choosing one of a task's runs, and letting an agent make one of several."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from tasks import combining, services, winners
from tasks.attachments import MOST_BYTES
from tasks.choices import COMBINES, AgentChoice
from tasks.errors import Conflict, InvalidInput
from tasks.models import Attachment, Patch, Run, RunStatus, Sandbox, Task, User
from tasks.presets import agents_of
from tasks.running import nudge, reconcile

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
DIFF = b"diff --git a/%s b/%s\n--- /dev/null\n+++ b/%s\n@@ -0,0 +1 @@\n+%s\n"


def patched(run: Run, content: bytes = DIFF % (b"f", b"f", b"f", b"x"), **fields: object) -> Patch:
    files = [{"path": "f"}]
    made = {"run": run, "turn": run.turns.get(), "kind": "final", "content": content, "sha256": "0" * 64, "files": files, "additions": 1}
    return Patch.objects.create(**made | fields)


@pytest.fixture
def runs(make_task: Callable[..., Task], make_run: MakeRun) -> list[Run]:
    """Two runs that are over and have a patch, and one at work."""
    task = make_task()
    made = [make_run(task, status=status, sandbox=True) for status in ("succeeded", "failed", "running")]
    for run in made[:2]:
        patched(run)
    return made


def of(runs: list[Run]) -> list[tuple[bool, bool]]:
    return [(run.chosen_at is not None, run.set_aside_at is not None) for run in Run.objects.filter(pk__in=[r.pk for r in runs])]


def test_one_run_is_chosen_and_the_others_stay(runs: list[Run], alice: User) -> None:
    winners.choose_run(run=runs[0], by=alice)
    winners.choose_run(run=runs[1], by=alice)
    assert of(runs) == [(False, False), (True, False), (False, False)]
    assert Run.objects.get(pk=runs[2].pk).stop_requested_at is None
    with pytest.raises(IntegrityError), transaction.atomic():
        Run.objects.filter(pk=runs[0].pk).update(chosen_at=timezone.now())


def test_the_others_are_stopped_and_give_their_sandboxes_back(runs: list[Run], alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    winners.choose_run(run=runs[0], by=alice, sets_others_aside=True)
    assert of(runs) == [(True, False), (False, True), (False, True)]
    assert Run.objects.get(pk=runs[2].pk).stop_requested_at is not None
    asked: list[int] = []
    monkeypatch.setattr(nudge, "enqueue_now", lambda queue, job, *args: asked.append(args[0]))
    reconcile.destroy_unneeded()
    assert asked == [Sandbox.objects.get(run=runs[1]).pk]  # the one at work is stopped first
    services.send_follow_up(run=Run.objects.get(pk=runs[1].pk), by=alice, prompt="more")
    assert of(runs) == [(True, False), (False, False), (False, True)]
    winners.unchoose(task=runs[0].task, by=alice)
    assert of(runs) == [(False, False)] * 3


def test_what_is_at_work_or_has_left_nothing_is_not_chosen(runs: list[Run], make_run: MakeRun, alice: User) -> None:
    with pytest.raises(Conflict, match="still at work"):
        winners.choose_run(run=runs[2], by=alice)
    with pytest.raises(Conflict, match="left nothing"):
        winners.choose_run(run=make_run(runs[0].task, status="failed"), by=alice)


def test_a_run_that_combines_gets_the_patches_as_files(runs: list[Run], alice: User) -> None:
    patches = list(Patch.objects.select_related("run").order_by("pk"))
    task = runs[0].task
    prompt = combining.draft(task, patches)
    assert "- 1-shell.patch: shell, 1 file, +1 −0" in prompt
    assert "> true" in prompt
    before = agents_of(task)
    new = combining.combine_runs(task=task, by=alice, patches=patches, prompt=f"{prompt}!", agent=AgentChoice("shell"))
    assert (new.status, new.attempt, new.options) == (RunStatus.QUEUED, 4, {COMBINES: [runs[0].pk, runs[1].pk]})
    turn = new.turns.get()
    assert turn.prompt == f"{prompt}!"
    given = turn.attachments.order_by("pk")
    assert [(file.name, bytes(file.content)) for file in given] == [
        ("1-shell.patch", bytes(patches[0].content)),
        ("2-shell.patch", bytes(patches[1].content)),
    ]
    assert agents_of(task) == before
    Run.objects.filter(pk=new.pk).update(status=RunStatus.FAILED)
    again = services.retry_run(run=Run.objects.get(pk=new.pk), by=alice)
    assert again.turns.get().prompt == f"{prompt}!"


def test_what_must_not_be_handed_on_is_not(runs: list[Run], alice: User) -> None:
    Patch.objects.filter(run=runs[0]).update(secrets_found=["TOKEN"])
    patches = list(Patch.objects.select_related("run").order_by("pk"))
    with pytest.raises(InvalidInput, match="contains the value of TOKEN"):
        combining.combine_runs(task=runs[0].task, by=alice, patches=patches, prompt="x", agent=AgentChoice("shell"))
    with pytest.raises(InvalidInput, match="From 2 to"):
        combining.combine_runs(task=runs[0].task, by=alice, patches=patches[1:], prompt="x", agent=AgentChoice("shell"))
    assert not Attachment.objects.exists()


def test_a_patch_that_is_too_large_is_cut_between_files() -> None:
    small, large = DIFF % (b"s", b"s", b"s", b"x"), DIFF % (b"l", b"l", b"l", b"x" * MOST_BYTES)
    found = combining.cut(small + large + small, MOST_BYTES)
    assert found == small + small + b"\n# 1 of its 3 files were too large and are left out.\n"
    assert combining.cut(small, MOST_BYTES) == small
