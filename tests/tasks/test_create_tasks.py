"""Several tasks at once: one fetch, one transaction, and the same form never twice."""

from __future__ import annotations

import subprocess
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from tasks import repositories, services
from tasks.errors import BranchMissing, InvalidInput, NotAllowed
from tasks.git import mirrors
from tasks.models import Attachment, Operation, Repo, Run, RunStatus, Task, Turn, User
from tasks.running import jobs
from tasks.services import AgentChoice

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
SHELL = [AgentChoice("shell")]


@pytest.fixture
def unready(alice: User) -> Repo:
    """A repository whose first mirror is still under way, so that nothing is fetched."""
    return Repo.objects.create(owner=alice, source="https://example.org/repo", name="repo")


@pytest.fixture
def mirrored(alice: User) -> Iterator[Repo]:
    with tempfile.TemporaryDirectory(dir=settings.LOCAL_REPO_ROOTS[0]) as folder:
        git = ["git", "-C", folder, "-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "base"], check=True)
        repo = repositories.add_repo(by=alice, source=folder)
        jobs.run_operation(Operation.objects.get(subject=f"repo:{repo.pk}").pk)
        repo.refresh_from_db()
        yield repo


def attached(owner: User, name: str = "shot.png") -> Attachment:
    return Attachment.objects.create(owner=owner, name=name, content_type="image/png", content=b"x", size=1)


def test_each_prompt_is_a_task_with_all_its_runs(unready: Repo, alice: User) -> None:
    tasks = services.create_tasks(by=alice, repo=unready, prompts=["one", "two", "three"], agents=[AgentChoice("shell", attempts=2)])
    assert [(task.prompt, task.title, task.runs.count()) for task in tasks] == [(word, word, 2) for word in ("one", "two", "three")]
    assert list(Turn.objects.order_by("pk").values_list("prompt", flat=True)) == ["one", "one", "two", "two", "three", "three"]
    assert Run.objects.filter(status=RunStatus.QUEUED).values("branch").distinct().count() == 6


def test_all_stand_on_one_commit_that_stays(mirrored: Repo, alice: User) -> None:
    tasks = services.create_tasks(by=alice, repo=mirrored, prompts=["one", "two"], agents=SHELL)
    head = mirrors.resolve(mirrored.mirror_path, "main")
    assert {(task.base_branch, task.base_commit) for task in tasks} == {("main", head)}
    assert (Path(mirrored.mirror_path) / "refs/asynccode" / f"commit-{head}").read_text().strip() == head


def test_of_what_cannot_be_started_together_nothing_is(mirrored: Repo, alice: User) -> None:
    def start(prompts: list[str], agents: list[AgentChoice], **more: str) -> None:
        services.create_tasks(by=alice, repo=mirrored, prompts=prompts, agents=agents, **more)

    with pytest.raises(InvalidInput, match="empty"):
        start(["one", " "], SHELL)
    with pytest.raises(InvalidInput, match="51 tasks; from 1 to 50"):
        start(51 * ["one"], SHELL)
    with pytest.raises(InvalidInput, match="0 tasks"):
        start([], SHELL)
    with pytest.raises(InvalidInput, match="102 runs; 100 are the most"):
        start(6 * ["one"], [AgentChoice("shell", attempts=17)])
    with pytest.raises(BranchMissing):
        start(["one", "two"], SHELL, branch="nope")
    assert not Task.objects.exists()


def test_attachments_go_with_every_first_turn(unready: Repo, alice: User) -> None:
    files = [attached(alice, "a.png"), attached(alice, "b.txt")]
    services.create_tasks(by=alice, repo=unready, prompts=["one", "two"], agents=[AgentChoice("shell", attempts=2)], attachments=files)
    assert [list(turn.attachments.values_list("name", flat=True)) for turn in Turn.objects.all()] == 4 * [["a.png", "b.txt"]]


def test_somebody_elses_attachment_goes_nowhere(unready: Repo, alice: User, bob: User) -> None:
    with pytest.raises(NotAllowed, match="belongs to somebody else"):
        services.create_task(by=alice, repo=unready, prompt="x", agents=SHELL, attachments=[attached(bob)])
    assert not Task.objects.exists()


def test_a_retry_has_the_attachments_of_the_first_turn(make_run: MakeRun, alice: User) -> None:
    run = make_run(status=RunStatus.FAILED)
    first = attached(alice)
    run.turns.get().attachments.set([first])
    later = Turn.objects.create(run=run, number=2, prompt="more", author=alice, status=RunStatus.FAILED)
    later.attachments.set([attached(alice, "later.png")])
    assert list(services.retry_run(run=run, by=alice).turns.get().attachments.all()) == [first]


def test_the_same_form_sent_twice_gives_the_tasks_of_the_first_time(unready: Repo, alice: User) -> None:
    key = uuid.uuid4()
    first, second = (services.create_tasks(by=alice, repo=unready, prompts=["one", "two"], agents=SHELL, submission=key) for _ in range(2))
    assert first == second
    assert (Task.objects.count(), Run.objects.count()) == (2, 2)


def test_a_form_of_somebody_else_is_another_one(unready: Repo, alice: User, bob: User) -> None:
    key = uuid.uuid4()
    theirs = Repo.objects.create(owner=bob, source=unready.source, name="repo")
    mine = services.create_task(by=alice, repo=unready, prompt="x", agents=SHELL, submission=key)
    other = services.create_task(by=bob, repo=theirs, prompt="x", agents=SHELL, submission=key)
    assert mine != other


@pytest.mark.django_db(transaction=True)
def test_the_same_form_sent_at_the_same_time_starts_once(unready: Repo, alice: User) -> None:
    key = uuid.uuid4()
    at_once = threading.Barrier(4)
    made: list[list[int]] = []

    def send() -> None:
        at_once.wait(10)
        tasks = services.create_tasks(by=alice, repo=unready, prompts=["one", "two"], agents=SHELL, submission=key)
        made.append([task.pk for task in tasks])
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(made) == 4
    assert len({tuple(keys) for keys in made}) == 1
    assert (Task.objects.count(), Run.objects.count()) == (2, 2)


def test_a_task_without_a_form_is_always_a_new_one(unready: Repo, alice: User) -> None:
    assert services.create_task(by=alice, repo=unready, prompt="x", agents=SHELL) != services.create_task(
        by=alice, repo=unready, prompt="x", agents=SHELL
    )


def test_the_number_of_queries_does_not_grow_with_the_number_of_tasks(
    unready: Repo, alice: User, django_assert_max_num_queries: Callable[[int], object]
) -> None:
    with django_assert_max_num_queries(18):  # type: ignore[attr-defined]
        services.create_tasks(
            by=alice, repo=unready, prompts=10 * ["x"], agents=[AgentChoice("shell", attempts=5)], attachments=[attached(alice)]
        )
