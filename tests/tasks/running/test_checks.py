"""Checks: when one is made, what it is worth once the base's own is known, and that it gives way to everything else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.conf import settings as configured
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from tasks import environment, services, trials, turns
from tasks.errors import Conflict
from tasks.models import (
    Check,
    CheckStatus,
    EventKind,
    Mode,
    Patch,
    PatchKind,
    Repo,
    Run,
    RunStatus,
    SandboxStatus,
    Task,
    Turn,
    User,
    Variable,
    Verdict,
)
from tasks.review.checks import check_again, checks_of
from tasks.running import checks, events, jobs, lifecycle, nudge, patches, reconcile, scheduler, specs
from tasks.running.redact import Redactor
from tests.tasks.conftest import MakeRun
from tests.tasks.running.fake import FakeBackend
from tests.tasks.running.test_turn_ends import PATCH, fetched

pytestmark = pytest.mark.django_db
MORE = PATCH.replace(b"hello", b"goodbye")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of workers about checks is done when the transaction is over."""

    def enqueue_now(queue: str, job: str, *args: int) -> None:
        if job == "tend_check":
            jobs.tend_check(*args)

    monkeypatch.setattr(nudge, "enqueue_now", enqueue_now)
    monkeypatch.setattr(nudge, "enqueue", lambda *args: connection.on_commit(lambda: enqueue_now(*args)))


@pytest.fixture
def make(make_run: MakeRun, make_task: Callable[..., Task]) -> MakeRun:
    """A run at work, in a repository with a check command."""

    def make(task: Task | None = None, **fields: object) -> Run:
        task = task or make_task(**fields)
        Repo.objects.filter(pk=task.repo_id).update(check_command="make test")
        return make_run(Task.objects.get(pk=task.pk), status=RunStatus.RUNNING, sandbox=True, stage="collect")

    return make


@pytest.fixture
def end(local: FakeBackend, django_capture_on_commit_callbacks: Callable[..., AbstractContextManager[Any]]) -> Callable[..., Run]:
    """End the turn that a run is at, with this patch."""

    def end(run: Run, content: bytes = PATCH, *, code: int = 0, reason: str = "exit", **turn: Any) -> Run:
        row = run.sandboxes.get(generation=run.generation)
        local.boxes.setdefault(row.ref, local.make(row.ref)).ref = row.ref
        at_work = run.turns.get(status=RunStatus.RUNNING)
        local.boxes[row.ref].patches[at_work.number, "final"] = fetched(content)
        outcome = {"step": "agent", "reason": reason, "code": code, "signal": None, "has_patch": True, "error": None}
        run.turns.filter(pk=at_work.pk).update(outcome=outcome, started_at=timezone.now(), **turn)
        with django_capture_on_commit_callbacks(execute=True):
            jobs.finish_turn(run.pk, run.generation)
        run.refresh_from_db()
        return run

    return end


@pytest.fixture
def follow_up(alice: User, end: Callable[..., Run]) -> Callable[..., Run]:
    def follow_up(run: Run, content: bytes = MORE, **fields: object) -> Run:
        services.send_follow_up(run=run, by=alice, prompt="more")
        lifecycle.move(run.pk, source=[RunStatus.QUEUED], to=RunStatus.STARTING)
        lifecycle.move(run.pk, source=[RunStatus.STARTING], to=RunStatus.RUNNING)
        return end(run, content, **fields)

    return follow_up


End = Callable[..., Run]


def check_of(run: Run) -> Check:
    return Check.objects.select_related("base__run", "run", "patch").filter(patch__run=run).latest("pk")


def come(check: Check | None, *, code: int | None = 0, **said: object) -> None:
    """Let the run of a check end so."""
    assert check is not None
    run = Run.objects.get(checks=check)
    lifecycle.move(run.pk, source=[RunStatus.QUEUED], to=RunStatus.STARTING)
    lifecycle.move(run.pk, source=[RunStatus.STARTING], to=RunStatus.RUNNING)
    run.sandboxes.create(generation=1, backend="local", host=configured.HOST_NAME, ref=f"ref-{run.pk}", status=SandboxStatus.LIVE)
    events.append(run.pk, EventKind.LOG, {"stream": "stdout", "text": "deps\n", "step": "setup"})
    events.append(run.pk, EventKind.LOG, {"stream": "stdout", "text": f"exit {code}\n"})
    events.append(run.pk, EventKind.STATUS, {"step": "agent", "ended": {"reason": "exit", "code": code, "seconds": 4.2}})
    outcome = {"step": "agent", "reason": "exit", "code": code, "signal": None, "has_patch": True, "error": None}
    Turn.objects.filter(run=run).update(outcome=outcome | said)
    jobs.finish_turn(run.pk, 1)


# --- when one is made ---


def test_a_finished_patch_and_its_base_are_checked_in_hidden_runs(make: MakeRun, end: End) -> None:
    run = end(make())
    check = check_of(run)
    assert (check.command, check.status, check.verdict) == ("make test", CheckStatus.UNDER_WAY, Verdict.QUEUED)
    assert check.run is not None
    assert check.base is not None
    assert check.base.run is not None
    on_patch, on_base = check.run, check.base.run
    for hidden in (on_patch, on_base):
        assert (hidden.task.is_trial, hidden.task.prompt, hidden.task.base_commit) == (True, "make test", run.task.base_commit)
        assert hidden.task.archived_at is not None
    begins_with = patches.newest(on_patch)
    assert begins_with is not None
    assert begins_with == run.patches.get()
    assert patches.newest(on_base) is None


@pytest.mark.parametrize(
    ("content", "fields", "turn"),
    [
        (b"", {}, {}),
        (PATCH, {"archived_at": timezone.now()}, {}),
        (PATCH, {}, {"mode": Mode.ASK}),
    ],
    ids=["nothing changed", "archived", "no code"],
)
def test_what_is_not_checked(make: MakeRun, end: End, content: bytes, fields: dict[str, object], turn: dict[str, object]) -> None:
    end(make(**fields), content, **turn)
    assert not Check.objects.exists()


def test_without_a_command_or_when_it_was_stopped_nothing_is_checked(make: MakeRun, end: End) -> None:
    run = make()
    Repo.objects.update(check_command="")
    end(run)
    stopped = make()
    Run.objects.filter(pk=stopped.pk).update(stop_requested_at=timezone.now())
    assert end(stopped, reason="stop").status == RunStatus.CANCELED
    assert not Check.objects.exists()


def test_one_that_failed_is_checked_too(make: MakeRun, end: End) -> None:
    assert end(make(), code=1).status == RunStatus.FAILED
    assert Check.objects.count() == 2


def test_a_follow_up_that_waits_is_checked_instead(make: MakeRun, end: End, alice: User) -> None:
    run = make()
    services.send_follow_up(run=run, by=alice, prompt="more")
    end(run)
    assert not Check.objects.exists()


def test_runs_from_the_same_commit_share_the_base(make: MakeRun, end: End) -> None:
    first = end(make())
    second = end(make(first.task))
    assert check_of(first).base == check_of(second).base
    assert Check.objects.count() == 3
    restricted = make()
    Task.objects.filter(pk=restricted.task_id).update(repo=first.task.repo, is_restricted=True)
    end(Run.objects.get(pk=restricted.pk))
    assert check_of(restricted).base != check_of(first).base
    assert all(Task.objects.get(runs__checks=check).is_restricted for check in (check_of(restricted), check_of(restricted).base))


@pytest.mark.django_db(transaction=True)
def test_wanted_and_begun_by_many_at_the_same_time_it_is_one(make: MakeRun) -> None:
    run = make()
    turn = run.turns.get()
    patch = patches.store(turn, PatchKind.FINAL, fetched(PATCH), Redactor({}))
    barrier = threading.Barrier(4)

    def want() -> None:
        try:
            mine = Patch.objects.get(pk=patch.pk)
            barrier.wait()
            assert checks.want(mine) is not None
        finally:
            connection.close()

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Check.objects.count() == 2
    assert Task.objects.filter(is_trial=True).count() == 2


def test_what_a_lost_nudge_left_undone_reconcile_does(make: MakeRun, end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as lost:
        lost.setattr(nudge, "enqueue", lambda *args: None)
        run = end(make())
    assert check_of(run).run is None
    reconcile.reconcile()
    check = check_of(run)
    assert check.run is not None
    lifecycle.finish(check.run.pk, source=[RunStatus(check.run.status)], to=RunStatus.CANCELED)
    reconcile.reconcile()
    assert check_of(run).status == CheckStatus.CANCELED


# --- what comes of it ---


@pytest.mark.parametrize(
    ("on_base", "on_patch", "verdict"),
    [(0, 0, "passed"), (0, 2, "failed"), (2, 0, "fixed"), (2, 1, "was_failing")],
)
def test_the_verdict_takes_the_base_into_account(make: MakeRun, end: End, on_base: int, on_patch: int, verdict: str) -> None:
    run = end(make())
    come(check_of(run), code=on_patch)
    check = check_of(run)
    assert check.verdict == ("failed" if on_patch else "passed")
    assert check.is_base_unknown
    come(check.base, code=on_base)
    check = checks_of([run])[run.pk]
    assert (check.verdict, check.is_base_unknown) == (verdict, False)
    assert (check.exit_code, check.seconds) == (on_patch, 4.2)
    assert Check.objects.get(pk=check.pk).output == f"exit {on_patch}\n"


def test_its_sandbox_is_destroyed_and_what_it_changed_is_not_kept(make: MakeRun, end: End, local: FakeBackend) -> None:
    run = end(make())
    come(check_of(run))
    hidden = check_of(run).run
    assert hidden is not None
    assert hidden.sandboxes.get().status == SandboxStatus.DESTROYED
    assert not hidden.patches.exists()


def test_what_came_before_the_command_is_no_judgement(make: MakeRun, end: End) -> None:
    run = end(make())
    come(check_of(run), code=3, step="setup")
    check = check_of(run)
    assert (check.verdict, check.exit_code) == (Verdict.ERRORED, None)
    assert "setup script ended with exit code 3" in check.error
    assert check.output == "deps\n"


def test_one_that_takes_too_long_has_failed(make: MakeRun, end: End) -> None:
    run = end(make())
    come(check_of(run), code=None, reason="total")
    check = check_of(run)
    assert (check.verdict, check.exit_code) == (Verdict.FAILED, None)
    assert check.error


# --- stopping, and again ---


def test_a_newer_patch_has_a_check_of_its_own_and_stops_the_old_one(make: MakeRun, end: End, follow_up: End) -> None:
    run = end(make())
    old = check_of(run)
    follow_up(run)
    new = check_of(run)
    assert new.patch != old.patch
    assert new.base == old.base
    old.refresh_from_db()
    assert old.status == CheckStatus.CANCELED
    assert old.run is not None
    old.run.refresh_from_db()
    assert old.run.status == RunStatus.CANCELED
    assert new.base is not None
    assert new.base.status == CheckStatus.UNDER_WAY
    assert checks_of([run]) == {run.pk: new}


def test_what_is_said_of_an_earlier_patch_is_not_said_of_a_newer_one(make: MakeRun, end: End, follow_up: End) -> None:
    run = end(make())
    come(check_of(run))
    follow_up(run, b"")
    assert checks_of([run]) == {}
    assert not Check.objects.filter(patch__turn__number=2).exists()


@pytest.mark.parametrize("how", ["archive", "stop"])
def test_archive_and_stop_of_the_task_stop_its_checks(
    make: MakeRun, end: End, alice: User, how: str, django_capture_on_commit_callbacks: Callable[..., AbstractContextManager[Any]]
) -> None:
    run = end(make())
    other = end(make(run.task))
    with django_capture_on_commit_callbacks(execute=True):
        if how == "archive":
            services.archive_task(task=run.task, by=alice)
        else:
            services.cancel_run(run=run, by=alice)
            assert check_of(other).base is not None
            assert check_of(other).base.status == CheckStatus.UNDER_WAY  # type: ignore[union-attr]
            services.cancel_run(run=other, by=alice)
    assert {check.status for check in Check.objects.all()} == {CheckStatus.CANCELED}
    assert {hidden.status for hidden in Run.objects.filter(checks__isnull=False)} == {RunStatus.CANCELED}


def test_again_begins_anew_and_a_base_that_came_to_nothing_too(
    make: MakeRun, end: End, alice: User, django_capture_on_commit_callbacks: Callable[..., AbstractContextManager[Any]]
) -> None:
    run = end(make())
    come(check_of(run), code=1)
    come(check_of(run).base, code=3, step="setup")
    before = check_of(run)
    with django_capture_on_commit_callbacks(execute=True):
        assert check_again(run=run, by=alice) == before
    assert check_again(run=run, by=alice) == before  # the button was pressed twice
    check = check_of(run)
    assert (check.status, check.output, check.exit_code) == (CheckStatus.UNDER_WAY, "", None)
    assert check.run != before.run
    assert check.base is not None
    assert check.base.status == CheckStatus.UNDER_WAY
    assert Task.objects.filter(is_trial=True).count() == 2  # what was said before is gone


def test_again_with_another_command_is_another_check(make: MakeRun, end: End, alice: User) -> None:
    run = end(make())
    Repo.objects.update(check_command="make all")
    check_again(run=run, by=alice)
    assert check_of(run).command == "make all"
    assert Check.objects.count() == 4


def test_what_cannot_be_checked_again_says_why(make: MakeRun, end: End, alice: User) -> None:
    run = make()
    with pytest.raises(Conflict, match="not over yet"):
        check_again(run=run, by=alice)
    end(run, b"")
    with pytest.raises(Conflict, match="no changes"):
        check_again(run=run, by=alice)
    Repo.objects.update(check_command="")
    with pytest.raises(Conflict, match="no check command"):
        check_again(run=run, by=alice)


def test_going_back_checks_what_it_goes_back_to(make: MakeRun, end: End, follow_up: End, alice: User) -> None:
    run = follow_up(end(make()))
    turns.revert_run(run=run, by=alice, to=1)
    assert check_of(run).patch == run.patches.get(turn__number=3)


# --- among the others ---


def test_checks_wait_for_all_that_people_asked_for_and_are_few_at_once(
    make: MakeRun, end: End, make_run: MakeRun, settings: Settings
) -> None:
    settings.MAX_ACTIVE_RUNS, settings.MAX_ACTIVE_CHECKS = 3, 1
    end(make())
    theirs = make_run()
    places = scheduler.places(list(Run.objects.filter(status=RunStatus.QUEUED).values_list("pk", flat=True)))
    assert places[theirs.pk].position == 1
    assert scheduler.dispatch() == 2
    theirs.refresh_from_db()
    assert theirs.status == RunStatus.STARTING
    [waits] = Run.objects.filter(status=RunStatus.QUEUED)
    assert scheduler.places([waits.pk])[waits.pk].reason == "Of all checks, 1 may be at work at once."


def test_a_check_is_no_trial_and_does_not_keep_a_repository(make: MakeRun, end: End, alice: User) -> None:
    run = end(make())
    assert trials.newest_trial(run.task.repo) is None
    environment.remove_repo(repo=run.task.repo, by=alice)
    assert not Task.objects.filter(is_trial=True).exists()
    reconcile.reconcile()
    assert {check.status for check in Check.objects.all()} == {CheckStatus.ERRORED}


def test_a_setup_script_does_not_meet_what_an_agent_wrote(make: MakeRun, end: End) -> None:
    run = end(make())
    Repo.objects.update(setup_script="make deps")
    token = Variable(repo=run.task.repo, name="TOKEN", is_secret=True, phase="setup")
    token.value = "s3cr3t"
    token.save()
    hidden = Run.objects.select_related("task__repo").get(checks=check_of(run))
    row = hidden.sandboxes.model(run=hidden, generation=1)
    spec = specs.build(hidden, hidden.turns.get(), row, restores_patch=True)
    assert [step.name for step in spec.steps] == ["setup", "patch", "agent"]
    assert ["TOKEN" in step.env for step in spec.steps] == [True, False, False]
    assert spec.checkout.patch is None
    Task.objects.filter(pk=hidden.task_id).update(is_restricted=True)
    hidden = Run.objects.select_related("task__repo").get(pk=hidden.pk)
    spec = specs.build(hidden, hidden.turns.get(), row, restores_patch=True)
    assert not any("TOKEN" in step.env for step in spec.steps)
    Repo.objects.update(setup_script="")
    hidden = Run.objects.select_related("task__repo").get(pk=hidden.pk)
    assert specs.build(hidden, hidden.turns.get(), row, restores_patch=True).checkout.patch == specs.RESTORED_PATCH


def test_the_setup_script_of_a_new_sandbox_does_not_either_where_there_are_secrets(make: MakeRun, end: End) -> None:
    run = end(make())
    Repo.objects.update(setup_script="make deps")
    row = run.sandboxes.model(run=run, generation=2)

    def order() -> list[str]:
        fresh = Run.objects.select_related("task__repo").get(pk=run.pk)
        spec = specs.build(fresh, fresh.turns.get(), row, restores_patch=True)
        return [*(["restore"] if spec.checkout.patch else []), *(step.name for step in spec.steps)]

    assert order() == ["restore", "setup", "agent"]  # what the changes need is then installed
    token = Variable(repo=run.task.repo, name="TOKEN", is_secret=True, phase="setup")
    token.value = "s3cr3t"
    token.save()
    assert order() == ["setup", "patch", "agent"]
