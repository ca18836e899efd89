"""The first use of an agent: the run waits in the queue until its program is on this host, and says so."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django_rq
import pytest
from django.utils import timezone

from agents.packages import PACKAGES, Package
from tasks.models import Operation, OperationStatus, Run, RunStatus, SandboxStatus, Turn
from tasks.running import backends, installs, jobs, operations, scheduler, starting
from tests.installed import bring_node
from tests.npm_registry import PROGRAM, Registry

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]


@pytest.fixture(autouse=True)
def data(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A host without agents, where claude is a package of our own registry."""
    folder = Path(tempfile.mkdtemp(prefix="asynccode-tests-", dir="/var/tmp"))
    folder.chmod(0o711)
    settings.DATA, settings.HOST_NAME = folder, "here"
    (folder / "agents").mkdir(0o755)
    bring_node(folder / "agents")
    monkeypatch.setitem(PACKAGES, "claude", Package("claude", "demo-agent", "1.2.3", "demo", 1))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    registry = Registry()
    registry.add("demo-agent", "1.2.3", {"cli.js": PROGRAM}, bin={"demo": "cli.js"})
    monkeypatch.setenv("npm_config_registry", registry.url)
    yield registry
    registry.close()


@pytest.fixture
def waiting(make_run: MakeRun) -> Run:
    """A run that was chosen to start here, and waits now."""
    run = make_run(status=RunStatus.STARTING, agent="claude")
    jobs.start_turn(run.pk, run.generation)
    return fresh(run)


def fresh(run: Run) -> Run:
    return Run.objects.get(pk=run.pk)


def work() -> Operation:
    operation = Operation.objects.get(kind="install")
    jobs.run_operation(operation.pk)
    operation.refresh_from_db()
    return operation


def test_a_run_whose_agent_is_not_installed_goes_back_into_the_queue(waiting: Run) -> None:
    assert waiting.status == RunStatus.QUEUED
    assert Turn.objects.get(run=waiting).status == RunStatus.QUEUED
    assert not waiting.sandboxes.exists()
    operation = Operation.objects.get()
    assert (operation.kind, operation.subject, operation.status) == ("install", "claude@here", OperationStatus.QUEUED)
    assert scheduler.dispatch() == 0
    assert scheduler.places([waiting.pk])[waiting.pk].reason == "Waits for Claude Code to be installed (0 %)."


def test_it_says_how_far_the_installation_is(waiting: Run) -> None:
    Operation.objects.update(status=OperationStatus.RUNNING, percent=42)
    assert scheduler.places([waiting.pk])[waiting.pk].reason == "Waits for Claude Code to be installed (42 %)."


def test_it_takes_no_place_from_others_meanwhile(waiting: Run, make_run: MakeRun, settings: Any) -> None:
    settings.MAX_ACTIVE_RUNS = settings.MAX_ACTIVE_RUNS_PER_USER = 1
    other = make_run()
    assert scheduler.dispatch() == 1
    assert fresh(other).status == RunStatus.STARTING


def test_runs_of_one_agent_wait_for_one_installation(waiting: Run, make_run: MakeRun) -> None:
    other = make_run(status=RunStatus.STARTING, agent="claude")
    jobs.start_turn(other.pk, other.generation)
    assert fresh(other).status == RunStatus.QUEUED
    assert Operation.objects.count() == 1


def test_once_it_is_installed_they_start(waiting: Run, registry: Registry) -> None:
    assert work().status == OperationStatus.SUCCEEDED
    assert installs.missing(waiting) is None
    assert fresh(waiting).not_before is None
    assert scheduler.dispatch() == 1


def test_a_failed_installation_ends_them_with_its_reason(waiting: Run, registry: Registry) -> None:
    registry.damage = True
    assert work().status == OperationStatus.FAILED
    run = fresh(waiting)
    assert run.status == RunStatus.ERRORED
    assert run.error.startswith("Claude Code could not be installed. What the npm registry sent as demo-agent@1.2.3 is damaged")


def test_the_next_run_tries_anew(waiting: Run, registry: Registry, make_run: MakeRun) -> None:
    registry.damage = True
    work()
    Operation.objects.update(kind="tried")
    registry.damage = False
    run = make_run(status=RunStatus.STARTING, agent="claude")
    jobs.start_turn(run.pk, run.generation)
    assert work().status == OperationStatus.SUCCEEDED
    assert scheduler.dispatch() == 1


def test_who_waits_to_try_again_after_an_error_of_a_model_goes_on_waiting(waiting: Run, registry: Registry, make_run: MakeRun) -> None:
    run = make_run(agent="claude", not_before=timezone.now() + timezone.timedelta(hours=1))
    run.turns.update(retries=1)
    work()
    assert fresh(run).not_before is not None
    assert scheduler.places([run.pk])[run.pk].reason.startswith("Tries again in")


def test_a_run_that_came_just_too_late_does_not_wait(make_run: MakeRun, registry: Registry) -> None:
    """The installation ended between the look for the program and the waiting."""
    run = make_run(status=RunStatus.STARTING, agent="claude")
    package = installs.missing(run)
    assert package is not None
    installs.put(package, lambda percent, text: None)
    operations.await_install(run, package, starting.held(run.generation, ""))
    assert scheduler.dispatch() == 1


def test_a_run_that_was_canceled_meanwhile_does_not_wait(make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.CANCELED, agent="claude")
    operations.await_install(run, PACKAGES["claude"], starting.held(run.generation, ""))
    assert fresh(run).status == RunStatus.CANCELED
    assert not Operation.objects.exists()


def test_another_hosts_installation_is_left_to_it(waiting: Run, settings: Any, django_capture_on_commit_callbacks: Any) -> None:
    queue = django_rq.get_queue(settings.QUEUE_HOST_OPERATIONS)
    queue.empty()
    settings.HOST_NAME = "there"
    with django_capture_on_commit_callbacks(execute=True):
        operations.start_again()
    assert queue.count == 0
    settings.HOST_NAME = "here"
    with django_capture_on_commit_callbacks(execute=True):
        operations.start_again()
    assert queue.count == 1
    queue.empty()


def test_what_needs_no_program_is_not_held_up(make_run: MakeRun) -> None:
    assert installs.missing(make_run(agent="shell")) is None
    assert installs.missing(make_run(agent="retired")) is None
    assert installs.missing(make_run(agent="claude", backend="e2b")) is None


def test_a_sandbox_sees_the_agents_if_its_own_needs_them(make_run: MakeRun, data: Path) -> None:
    assert backends.spec(make_run(agent="claude")).agents == data / "agents"
    assert backends.spec(make_run(agent="shell")).agents is None


def test_an_old_version_stays_while_a_sandbox_may_run_it(make_run: MakeRun, data: Path) -> None:
    old = data / "agents/claude/1.0.0"
    old.mkdir(parents=True)
    run = make_run(agent="claude", sandbox=True)
    run.sandboxes.update(status=SandboxStatus.PAUSED)
    assert installs.remove_old() == []
    run.sandboxes.update(status=SandboxStatus.DESTROYED)
    assert installs.remove_old() == [old]
    assert not os.path.lexists(old)
