"""Mirrors as operations: what a repository's row and an operation's row say, from real repositories over real HTTP."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tasks import environment, repositories
from tasks.models import Operation, OperationStatus, Repo, User
from tasks.running import jobs, operations

pytestmark = pytest.mark.django_db
LFS = "*.psd filter=lfs diff=lfs merge=lfs -text\n"


@pytest.fixture(autouse=True)
def data(settings: Any, tmp_path: Path) -> None:
    settings.DATA = tmp_path
    settings.LOCAL_REPO_ROOTS = [tmp_path]


@pytest.fixture
def over_http(settings: Any, server: Any, origin: Any, alice: User) -> Repo:
    """alice's repository, not yet mirrored, on the HTTP server."""
    settings.ALLOW_PRIVATE_HOSTS = frozenset({server.address})
    return repositories.add_repo(by=alice, source=f"http://{server.address}/shop/.git")


def work() -> Operation:
    operation = Operation.objects.latest("pk")
    jobs.run_operation(operation.pk)
    operation.refresh_from_db()
    return operation


def fresh(repo: Repo) -> Repo:
    return Repo.objects.get(pk=repo.pk)


def test_the_operation_finds_lfs_and_submodules(origin: Any, alice: User) -> None:
    (origin.folder / ".gitmodules").write_text("")
    origin.commit(LFS, name=".gitattributes")
    repo = repositories.add_repo(by=alice, source=str(origin.folder))
    assert work().status == OperationStatus.SUCCEEDED
    assert (fresh(repo).has_lfs, fresh(repo).has_submodules) == (True, True)
    origin.git("rm", "-q", ".gitattributes", ".gitmodules")
    origin.commit("without")
    repositories.fetch_repo(repo=repo, by=alice)
    work()
    assert (fresh(repo).has_lfs, fresh(repo).has_submodules) == (False, False)


def test_a_task_says_when_it_fetched_and_has_it_looked_at_later(origin: Any, alice: User) -> None:
    repo = repositories.add_repo(by=alice, source=str(origin.folder))
    work()
    long_ago = timezone.now() - timedelta(hours=2)
    Repo.objects.filter(pk=repo.pk).update(mirrored_at=long_ago)
    commit = origin.commit(LFS, name=".gitattributes")
    assert operations.pin(fresh(repo), "main") == commit
    assert fresh(repo).mirrored_at > long_ago
    assert not fresh(repo).has_lfs
    jobs.look_at_repo(repo.pk)
    assert fresh(repo).has_lfs


def test_what_cannot_be_looked_at_stays_as_it_was_known(origin: Any, alice: User) -> None:
    repo = repositories.add_repo(by=alice, source=str(origin.folder))
    work()
    Repo.objects.filter(pk=repo.pk).update(has_lfs=True, default_branch="gone")
    jobs.look_at_repo(repo.pk)
    jobs.look_at_repo(0)
    assert fresh(repo).has_lfs


@pytest.mark.parametrize(("name", "said"), [("empty", "is empty"), ("nowhere", "no such repository")])
def test_a_fetch_that_fails_says_why_and_can_be_tried_again(
    over_http: Repo, server: Any, make_origin: Callable[..., Any], alice: User, name: str, said: str
) -> None:
    if name == "empty":
        make_origin("empty")
    repo = repositories.add_repo(by=alice, source=f"http://{server.address}/{name}/.git")
    operation = work()
    assert operation.status == OperationStatus.FAILED
    assert said in operation.error
    again = repositories.fetch_repo(repo=repo, by=alice)
    assert (again.status, again.pk) == (OperationStatus.QUEUED, operation.pk + 1)


class Gate:
    """A rule of the server that sends the pack's first half, and the rest once it is opened."""

    def __init__(self) -> None:
        self.is_reached, self.is_open = threading.Event(), threading.Event()

    def __call__(self, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
        if handler.command != "POST" or b"command=fetch" not in body:
            return False
        send = handler.wfile.write

        def write(data: bytes) -> int:
            if len(data) < 100_000:
                return send(data)
            half = len(data) // 2
            send(data[:half])
            self.is_reached.set()
            self.is_open.wait(20)
            return send(data[half:])

        handler.wfile.write = write  # type: ignore[method-assign]
        return False


@pytest.fixture
def gate(server: Any, origin: Any) -> Iterator[Gate]:
    """A gate in the way of a pack of some megabytes."""
    for number in range(40):
        (origin.folder / f"{number}.bin").write_bytes(secrets.token_bytes(100_000))
    origin.commit("big")
    gate = Gate()
    server.rules["/shop"] = gate
    yield gate
    gate.is_open.set()


@pytest.fixture
def worker(over_http: Repo) -> Iterator[threading.Thread]:
    """A thread that does the operation, as a worker would."""

    def target() -> None:
        try:
            jobs.run_operation(Operation.objects.get().pk)
        finally:
            connection.close()

    thread = threading.Thread(target=target)
    yield thread
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.django_db(transaction=True)
def test_a_big_repository_shows_how_far_it_is(
    over_http: Repo, gate: Gate, worker: threading.Thread, wait_for: Callable[..., None], client: Any, alice: User
) -> None:
    client.force_login(alice)
    worker.start()
    assert gate.is_reached.wait(20)
    wait_for(lambda: Operation.objects.get().percent > 20)
    page = client.get("/repos/").content.decode()
    assert "Fetching" in page
    assert "receiving objects" in page
    assert "data-poll" in page
    assert "they wait until the repository is here" in client.get(f"/repos/{over_http.pk}/").content.decode()
    gate.is_open.set()
    wait_for(lambda: Operation.objects.get().status == OperationStatus.SUCCEEDED)
    page = client.get("/repos/").content.decode()
    assert "Kept up to date" in page
    assert "data-poll" not in page


@pytest.mark.django_db(transaction=True)
def test_removing_a_repository_ends_its_fetch(
    over_http: Repo, gate: Gate, worker: threading.Thread, wait_for: Callable[..., None], alice: User
) -> None:
    worker.start()
    assert gate.is_reached.wait(20)
    wait_for(lambda: Operation.objects.get().percent > 20)
    threading.Timer(0.5, gate.is_open.set).start()  # the next sign of progress is where it ends
    environment.remove_repo(repo=over_http, by=alice)
    worker.join(20)
    assert not Repo.objects.exists()
    assert not over_http.mirror_path.exists()
    assert not over_http.mirror_path.with_name(f"{over_http.pk}.git.new").exists()


def test_an_operation_of_a_removed_repository_does_nothing(origin: Any, alice: User) -> None:
    repo = repositories.add_repo(by=alice, source=str(origin.folder))
    Repo.objects.filter(pk=repo.pk).update(removed_at=timezone.now())
    assert work().status == OperationStatus.SUCCEEDED
    assert not repo.mirror_path.exists()


@pytest.mark.django_db(transaction=True)
def test_added_twice_at_once_it_is_one(origin: Any, alice: User) -> None:
    added: list[Repo] = []
    barrier = threading.Barrier(4)

    def add() -> None:
        try:
            barrier.wait()
            added.append(repositories.add_repo(by=alice, source=str(origin.folder)))
        finally:
            connection.close()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({repo.pk for repo in added}) == 1
    assert Operation.objects.count() == 1
