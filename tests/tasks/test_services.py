"""The verbs: what users may do, what is refused, and that nothing is half done."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings

from tasks import repositories, services
from tasks.errors import BranchMissing, Conflict, InvalidInput, NotAllowed, SourceRefused
from tasks.models import Operation, Repo, Run, RunStatus, Task, Turn, User
from tasks.running import jobs, scheduler
from tasks.services import AgentChoice

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
SHELL = [AgentChoice("shell")]


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
    """alice's repository, mirrored."""
    repo = repositories.add_repo(by=alice, source=str(source))
    jobs.run_operation(Operation.objects.get(subject=f"repo:{repo.pk}").pk)
    repo.refresh_from_db()
    return repo


def head(source: Path) -> str:
    return subprocess.run(["git", "-C", source, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


# --- repositories ---


def test_a_repository_is_added_once_and_its_mirror_begins(alice: User, source: Path) -> None:
    first = repositories.add_repo(by=alice, source=str(source))
    second = repositories.add_repo(by=alice, source=f"{source}/")
    assert first == second
    assert Operation.objects.count() == 1


def test_the_mirror_operation_finds_the_default_branch(repo: Repo) -> None:
    assert repo.default_branch == "main"
    assert repo.mirrored_at is not None
    operation = repositories.mirror_operation(repo)
    assert operation is not None
    assert (operation.status, operation.percent) == ("succeeded", 100)


def test_only_operators_add_local_paths(bob: User, source: Path) -> None:
    with pytest.raises(SourceRefused):
        repositories.add_repo(by=bob, source=str(source))


def test_a_path_of_somebody_who_is_no_operator_any_more_is_not_read(repo: Repo, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=False)
    with pytest.raises(SourceRefused):
        services.create_task(by=alice, repo=Repo.objects.get(pk=repo.pk), prompt="true", agents=SHELL)


def test_an_empty_repository_is_said_by_its_operation(alice: User) -> None:
    with tempfile.TemporaryDirectory(dir=settings.LOCAL_REPO_ROOTS[0]) as folder:
        subprocess.run(["git", "init", "-q", folder], check=True)
        repo = repositories.add_repo(by=alice, source=folder)
        task = services.create_task(by=alice, repo=repo, prompt="true", agents=SHELL)
        jobs.run_operation(Operation.objects.get().pk)
    operation = repositories.mirror_operation(repo)
    assert operation is not None
    assert (operation.status, "empty" in operation.error or "no commit" in operation.error) == ("failed", True)
    run = task.runs.get()
    assert (run.status, run.stage, run.error) == (RunStatus.ERRORED, "mirror", operation.error)


# --- tasks ---


def test_a_task_pins_the_commit_that_its_branch_stands_at_now(repo: Repo, alice: User, source: Path) -> None:
    git = ["git", "-C", str(source), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "newer"], check=True)
    task = services.create_task(by=alice, repo=repo, prompt="true", agents=SHELL)
    assert (task.base_branch, task.base_commit) == ("main", head(source))


def test_every_agent_model_and_attempt_is_a_run_with_its_first_turn(repo: Repo, alice: User) -> None:
    task = services.create_task(by=alice, repo=repo, prompt="true", agents=[AgentChoice("shell", attempts=3)])
    runs = list(task.runs.all())
    assert [(run.attempt, run.status) for run in runs] == [(n, RunStatus.QUEUED) for n in (1, 2, 3)]
    assert len({run.branch for run in runs}) == 3
    assert Turn.objects.filter(run__in=runs, number=1, prompt="true", author=alice).count() == 3


def test_before_the_first_mirror_a_task_waits_and_is_pinned_by_it(alice: User, source: Path) -> None:
    repo = repositories.add_repo(by=alice, source=str(source))
    task = services.create_task(by=alice, repo=repo, prompt="true", agents=SHELL)
    assert task.base_commit == ""
    jobs.run_operation(Operation.objects.get().pk)
    task.refresh_from_db()
    assert task.base_commit == head(source)
    assert scheduler.dispatch() == 1


def test_a_missing_branch_is_said_before_anything_is_made(repo: Repo, alice: User) -> None:
    with pytest.raises(BranchMissing):
        services.create_task(by=alice, repo=repo, prompt="true", agents=SHELL, branch="nope")
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": " \n"}, "empty"),
        ({"prompt": "x" * 200_001}, "200,001"),
        ({"prompt": "a\0b"}, "NUL"),
        ({"agents": []}, "at least one"),
        ({"agents": [AgentChoice("nobody")]}, "no agent"),
        ({"agents": [AgentChoice("shell", "gpt")]}, "no model 'gpt'. It takes none"),
        ({"agents": [AgentChoice("claude", "opus")]}, "no model 'opus'. There are: claude-opus-"),
        ({"agents": [AgentChoice("shell"), AgentChoice("shell")]}, "twice"),
        ({"agents": [AgentChoice("shell", attempts=0)]}, "1 to"),
        ({"agents": [AgentChoice("shell", attempts=21)]}, "1 to"),
        ({"mode": "plan"}, "cannot do"),
        ({"backend": "moon"}, "no sandbox backend"),
        ({"branch": "--upload-pack=x"}, "branch"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(repo: Repo, alice: User, changes: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        services.create_task(**{"by": alice, "repo": repo, "prompt": "true", "agents": SHELL} | changes)  # type: ignore[arg-type]
    assert not Task.objects.exists()


def test_nobody_uses_the_repository_of_somebody_else(repo: Repo, bob: User) -> None:
    with pytest.raises(NotAllowed):
        services.create_task(by=bob, repo=repo, prompt="true", agents=SHELL)


def test_the_title_is_the_first_line_that_says_something() -> None:
    assert services.title_of("#!/bin/bash\n\n# Rename foo to bar\nsed …") == "Rename foo to bar"
    assert services.title_of("x" * 300) == "x" * 119 + "…"


# --- runs ---


@pytest.mark.parametrize("status", [RunStatus.QUEUED, RunStatus.STARTING, RunStatus.WAITING])
def test_cancel_ends_at_once_what_has_not_begun(make_run: MakeRun, alice: User, status: RunStatus) -> None:
    run = make_run(status=status)
    assert services.cancel_run(run=run, by=alice)
    run.refresh_from_db()
    assert (run.status, run.turns.get().status) == (RunStatus.CANCELED, RunStatus.CANCELED)


def test_cancel_asks_a_running_turn_to_stop_and_drops_what_waits(make_run: MakeRun, alice: User) -> None:
    run = make_run(status=RunStatus.RUNNING, sandbox=True)
    services.send_follow_up(run=run, by=alice, prompt="more")
    assert services.cancel_run(run=run, by=alice)
    run.refresh_from_db()
    assert run.stop_requested_at is not None
    assert [turn.status for turn in run.turns.all()] == [RunStatus.RUNNING, RunStatus.CANCELED]
    assert not services.cancel_run(run=run, by=alice)


def test_cancel_of_a_run_that_is_over_changes_nothing(make_run: MakeRun, alice: User) -> None:
    run = make_run(status=RunStatus.SUCCEEDED)
    assert not services.cancel_run(run=run, by=alice)


def test_a_follow_up_puts_a_finished_run_back_into_the_queue(make_run: MakeRun, alice: User) -> None:
    run = make_run(status=RunStatus.SUCCEEDED)
    turn = services.send_follow_up(run=run, by=alice, prompt="more")
    run.refresh_from_db()
    assert (run.status, turn.number) == (RunStatus.QUEUED, 2)
    scheduler.dispatch()
    turn.refresh_from_db()
    assert turn.status == RunStatus.STARTING


def test_a_follow_up_waits_while_a_turn_is_at_work(make_run: MakeRun, alice: User) -> None:
    run = make_run(status=RunStatus.RUNNING)
    turn = services.send_follow_up(run=run, by=alice, prompt="more")
    run.refresh_from_db()
    assert (run.status, turn.status) == (RunStatus.RUNNING, RunStatus.QUEUED)


def test_an_archived_task_takes_no_follow_up(make_run: MakeRun, alice: User) -> None:
    run = make_run(status=RunStatus.SUCCEEDED)
    services.archive_task(task=run.task, by=alice)
    run.task.refresh_from_db()
    with pytest.raises(Conflict):
        services.send_follow_up(run=run, by=alice, prompt="more")


def test_retry_is_a_new_attempt(make_run: MakeRun, alice: User) -> None:
    run = make_run(status=RunStatus.FAILED)
    new = services.retry_run(run=run, by=alice)
    assert (new.task, new.agent, new.attempt, new.status) == (run.task, run.agent, 2, RunStatus.QUEUED)
    assert new.turns.get().prompt == run.task.prompt
    with pytest.raises(Conflict):
        services.retry_run(run=new, by=alice)
