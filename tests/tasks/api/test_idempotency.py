"""A request with an Idempotency-Key counts once: sent twice, at the same time, or again after a crash."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from tasks import services
from tasks.api import idempotency
from tasks.models import IdempotencyKey, Repo, Run, Task, Turn, User
from tasks.running import answers, operations
from tests.tasks.api.conftest import Answer, Program

pytestmark = pytest.mark.django_db


@pytest.fixture
def task(alice: User, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A task that can be sent; its repository is at a commit without being asked."""
    monkeypatch.setattr(operations, "pin", lambda repo, branch: "a" * 40)
    repo = Repo.objects.create(owner=alice, source="https://example.org/a", name="a", default_branch="main", mirrored_at=timezone.now())
    return {"repo": repo.pk, "prompt": "true", "agents": [{"agent": "shell"}]}


def test_sent_twice_it_is_done_once_and_answered_the_same(alices: Program, task: dict[str, Any]) -> None:
    first, second = (alices.post("/tasks", task, key="one") for _ in range(2))
    assert (first.status, first.content) == (second.status, second.content) == (201, first.content)
    assert ("Idempotent-Replayed" in first.headers, second.headers["Idempotent-Replayed"]) == (False, "true")
    assert Task.objects.count() == 1


def test_without_a_key_or_with_another_it_is_done_again(alices: Program, task: dict[str, Any]) -> None:
    for key in ("", "", "one", "two"):
        assert alices.post("/tasks", task, key=key).status == 201
    assert Task.objects.count() == 4


def test_a_key_is_its_users_own(alices: Program, bobs: Program, task: dict[str, Any]) -> None:
    assert alices.post("/tasks", task, key="one").status == 201
    assert bobs.post("/tasks", task, key="one").status == 404


def test_another_request_with_the_same_key_is_refused(alices: Program, task: dict[str, Any], make_run: Callable[..., Run]) -> None:
    assert alices.post("/tasks", task, key="one").status == 201
    for answer in (
        alices.post("/tasks", task | {"prompt": "false"}, key="one"),
        alices.post(f"/runs/{make_run().pk}/stop", key="one"),
    ):
        assert (answer.status, answer.body["code"]) == (422, "idempotency_key_reused")
    assert Task.objects.filter(prompt="false").count() == 0


def test_an_error_frees_the_key(alices: Program, make_run: Callable[..., Run]) -> None:
    run = make_run()
    assert alices.post(f"/runs/{run.pk}/retry", key="one").status == 409  # not over yet
    Run.objects.filter(pk=run.pk).update(status="failed")
    assert alices.post(f"/runs/{run.pk}/retry", key="one").status == 201


@pytest.mark.parametrize("key", ["a b", "ä", "x" * 201])
def test_a_key_that_is_none(alices: Program, task: dict[str, Any], key: str) -> None:
    answer = alices.post("/tasks", task, key=key)
    assert (answer.status, answer.body["errors"][0]["field"]) == (422, "Idempotency-Key")


def test_answers_are_kept_for_a_day(alices: Program, task: dict[str, Any]) -> None:
    alices.post("/tasks", task, key="one")
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=23))
    answers.forget_old()
    assert IdempotencyKey.objects.count() == 1
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
    answers.forget_old()
    assert IdempotencyKey.objects.count() == 0


# --- crashes ----------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What nobody catches."""


def killed(alices: Program, monkeypatch: pytest.MonkeyPatch, path: str, body: Any) -> None:
    """Send it to a process that dies when all is done but the answer, and wait until it is known to be dead."""

    def die(*args: Any) -> str:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(idempotency, "_rendered", die)
        patch.setattr(IdempotencyKey.objects.all().__class__, "delete", lambda rows: None)  # nor does it clean up
        with pytest.raises(Killed):
            alices.post(path, body, key="one")
    assert alices.post(path, body, key="one").status == 409
    IdempotencyKey.objects.update(begun_at=timezone.now() - idempotency.TAKEN_OVER - timedelta(seconds=1))


def test_a_task_that_was_made_before_a_crash_is_the_one_that_is_given(
    alices: Program, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(alices, monkeypatch, "/tasks", task)
    made = Task.objects.get()
    answer = alices.post("/tasks", task, key="one")
    assert (answer.status, answer.body["id"]) == (201, made.pk)
    assert Task.objects.count() == 1


def test_a_follow_up_is_sent_with_its_answer_or_not_at_all(
    alices: Program, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(status="succeeded")
    killed(alices, monkeypatch, f"/runs/{run.pk}/turns", {"prompt": "more"})
    assert Turn.objects.filter(prompt="more").count() == 0
    assert alices.post(f"/runs/{run.pk}/turns", {"prompt": "more"}, key="one").status == 201
    assert Turn.objects.filter(prompt="more").count() == 1


def test_one_that_was_taken_over_meanwhile_leaves_nothing(
    alices: Program, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(status="succeeded")
    send = services.send_follow_up

    def slowly(**asked: Any) -> Turn:
        IdempotencyKey.objects.update(begun_at=timezone.now())  # by another, who held this one for dead
        return send(**asked)

    monkeypatch.setattr(services, "send_follow_up", slowly)
    assert alices.post(f"/runs/{run.pk}/turns", {"prompt": "more"}, key="one").status == 409
    assert Turn.objects.filter(prompt="more").count() == 0


# --- at the same time -------------------------------------------------------------------------------------------------------


def at_once(ask: Callable[[], Answer], times: int) -> list[Answer]:
    barrier = threading.Barrier(times)

    def one(_: int) -> Answer:
        try:
            barrier.wait(timeout=10)
            return ask()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))


@pytest.mark.django_db(transaction=True)
def test_of_many_at_the_same_time_one_is_done(alice: User, alices: Program, make_run: Callable[..., Run]) -> None:
    run = make_run(status="succeeded")

    def ask() -> Answer:
        return Program(alices.secret).post(f"/runs/{run.pk}/turns", {"prompt": "more"}, key="one")

    found = at_once(ask, 6)
    assert Turn.objects.filter(prompt="more").count() == 1
    assert {answer.status for answer in found} <= {201, 409}
    assert all(answer.headers["Retry-After"] for answer in found if answer.status == 409)
    assert len({answer.content for answer in found if answer.status == 201}) == 1
    assert ask().status == 201
    assert Turn.objects.filter(prompt="more").count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_tasks_at_the_same_time_one_is_made(alices: Program, task: dict[str, Any]) -> None:
    found = at_once(lambda: Program(alices.secret).post("/tasks", task, key="one"), 6)
    assert Task.objects.count() == 1
    assert {answer.status for answer in found} <= {201, 409}
