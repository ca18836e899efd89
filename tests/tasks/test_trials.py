"""Trials of a repository's environment: one at a time, run as tasks are, and forgotten when they are old."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from tasks import environment, repositories, services, trials
from tasks.errors import Conflict, NotAllowed, SourceRefused
from tasks.models import Event, Operation, Repo, Run, RunStatus, Sandbox, SandboxStatus, Task, User
from tasks.running import events, jobs, lifecycle, specs

pytestmark = pytest.mark.django_db


@pytest.fixture
def source() -> Iterator[Path]:
    """A local repository with one commit on main, within LOCAL_REPO_ROOTS."""
    with tempfile.TemporaryDirectory(dir=settings.LOCAL_REPO_ROOTS[0]) as folder:
        git = ["git", "-C", folder, "-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "base"], check=True)
        yield Path(folder)


@pytest.fixture
def repo(alice: User, source: Path) -> Repo:
    """alice's repository, mirrored, with a check command."""
    repo = repositories.add_repo(by=alice, source=str(source))
    jobs.run_operation(Operation.objects.get(subject=f"repo:{repo.pk}").pk)
    Repo.objects.filter(pk=repo.pk).update(check_command="make test", setup_script="make deps", name="shop")
    repo.refresh_from_db()
    return repo


def end(run: Run, to: RunStatus = RunStatus.SUCCEEDED) -> None:
    lifecycle.move(run.pk, source=[RunStatus.QUEUED], to=RunStatus.STARTING)
    Sandbox.objects.create(run=run, generation=1, backend="local", ref=f"ref-{run.pk}", host=settings.HOST_NAME, status=SandboxStatus.LIVE)
    lifecycle.move(run.pk, source=[RunStatus.STARTING], to=RunStatus.RUNNING)
    events.append(run.pk, "log", {"stream": "stdout", "text": "hello\n"})
    lifecycle.finish(run.pk, source=[RunStatus.RUNNING], to=to)


def test_a_trial_runs_the_setup_script_and_the_check_command_as_tasks_do(repo: Repo, alice: User) -> None:
    environment.set_variable(repo=repo, by=alice, name="TOKEN", value="s3cr3t", is_secret=True)
    run = trials.start_trial(repo=repo, by=alice)
    task = run.task
    assert (task.title, task.is_trial, task.prompt, task.base_branch) == ("Setup of shop", True, "make test", "main")
    assert len(task.base_commit) == 40
    sandbox = Sandbox(run=run, generation=1)
    setup, check = specs.build(run, run.turns.get(), sandbox, restores_patch=False).steps
    assert list(setup.files.values()) == ["make deps"]
    assert setup.env["TOKEN"] == "s3cr3t"
    assert list(check.files.values()) == ["make test"]
    assert "TOKEN" not in check.env


def test_without_a_check_command_it_says_so(repo: Repo, alice: User) -> None:
    Repo.objects.filter(pk=repo.pk).update(check_command="")
    assert trials.start_trial(repo=repo, by=alice).task.prompt == trials.NO_CHECK


def test_one_runs_at_a_time(repo: Repo, alice: User) -> None:
    first = trials.start_trial(repo=repo, by=alice)
    assert trials.start_trial(repo=repo, by=alice) == first
    end(first)
    assert trials.start_trial(repo=repo, by=alice) != first


@pytest.mark.django_db(transaction=True)
def test_two_that_begin_at_the_same_time_are_one(repo: Repo, alice: User) -> None:
    started: list[Run] = []
    barrier = threading.Barrier(4)

    def start() -> None:
        try:
            barrier.wait()
            started.append(trials.start_trial(repo=repo, by=alice))
        finally:
            connection.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(started) == 4
    assert len({run.pk for run in started}) == 1
    assert Run.objects.count() == 1


def test_one_that_begins_before_the_mirror_is_there_waits_for_it(alice: User, source: Path) -> None:
    repo = repositories.add_repo(by=alice, source=str(source))
    run = trials.start_trial(repo=repo, by=alice)
    assert (run.status, run.task.base_commit) == (RunStatus.QUEUED, "")
    jobs.run_operation(Operation.objects.get().pk)
    run.task.refresh_from_db()
    assert (len(run.task.base_commit), run.task.base_branch) == (40, "main")


def test_it_takes_no_follow_up(repo: Repo, alice: User) -> None:
    run = trials.start_trial(repo=repo, by=alice)
    end(run)
    with pytest.raises(Conflict, match="archived"):
        services.send_follow_up(run=Run.objects.get(pk=run.pk), by=alice, prompt="more")


def test_only_the_newest_three_are_kept_with_their_events(repo: Repo, alice: User) -> None:
    runs = []
    for _ in range(5):
        runs.append(trials.start_trial(repo=repo, by=alice))
        end(runs[-1])
    assert Task.objects.count() == 5  # their sandboxes are not gone yet
    Sandbox.objects.filter(run=runs[0]).update(status=SandboxStatus.DESTROYED)
    trials.forget_old(repo)
    assert list(Run.objects.order_by("pk")) == runs[1:]
    assert not Event.objects.filter(run_id=runs[0].pk).exists()
    Sandbox.objects.update(status=SandboxStatus.DESTROYED)
    trials.forget_old(repo)
    assert list(Run.objects.order_by("pk")) == runs[2:]
    assert trials.newest_trial(repo) == runs[-1]


def test_what_is_refused(repo: Repo, alice: User, bob: User, source: Path) -> None:
    with pytest.raises(NotAllowed):
        trials.start_trial(repo=repo, by=bob)
    source.rename(f"{source}-gone")
    try:
        with pytest.raises(SourceRefused):
            trials.start_trial(repo=repo, by=alice)
    finally:
        Path(f"{source}-gone").rename(source)
    repo.removed_at = timezone.now()
    with pytest.raises(Conflict, match="was removed"):
        trials.start_trial(repo=repo, by=alice)
    assert not Task.objects.exists()
