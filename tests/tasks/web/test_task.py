"""A task's page: a card for each run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from tasks.models import Patch, PatchKind, Run, RunStatus, Task

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


def test_a_card_tells_status_figures_and_error(as_alice: Client, make_run: Callable[..., Run]) -> None:
    run = make_run(status="errored", stage="setup", error="The setup script ended with exit code 2.")
    files = [{"path": "a"}, {"path": "b"}]
    Patch.objects.create(
        run=run, turn=run.turns.get(), kind=PatchKind.CHECKPOINT, content=b"x", sha256="0", files=files, additions=12, deletions=3
    )
    page = as_alice.get(run.task.get_absolute_url()).content.decode()
    for text in ("Shell script", "Errored", "Running the setup script:", "exit code 2", "+12", "−3", "Retry"):
        assert text in page


def test_a_queued_run_tells_its_place(as_alice: Client, make_run: Callable[..., Run]) -> None:
    run = make_run()
    assert "Number 1 in the queue. Waits for a free place" in as_alice.get(run.task.get_absolute_url()).content.decode()


@pytest.mark.parametrize("path", ["", "stop", "archive"])
def test_another_users_task_is_not_there(as_bob: Client, make_run: Callable[..., Run], path: str) -> None:
    run = make_run()
    address = run.task.get_absolute_url() + path
    assert (as_bob.post if path else as_bob.get)(address).status_code == 404
    run.refresh_from_db()
    assert run.status == RunStatus.QUEUED


def test_stopping_a_task_stops_its_runs(as_alice: Client, make_run: Callable[..., Run]) -> None:
    run = make_run()
    response = as_alice.post(f"{run.task.get_absolute_url()}stop")
    run.refresh_from_db()
    assert (response.status_code, run.status) == (302, RunStatus.CANCELED)


def test_archiving_asks_first(as_alice: Client, make_run: Callable[..., Run]) -> None:
    task = make_run().task
    address = f"{task.get_absolute_url()}archive"
    assert "Archive this task?" in as_alice.get(address).content.decode()
    assert "<html" not in as_alice.get(address, headers=HTMX).content.decode()  # the dialog's part
    task.refresh_from_db()
    assert task.archived_at is None
    as_alice.post(address)
    task.refresh_from_db()
    assert task.archived_at is not None
    assert "Archived" in as_alice.get(task.get_absolute_url()).content.decode()


def test_for_news_only_the_cards_are_sent(as_alice: Client, make_task: Callable[..., Task], make_run: Callable[..., Run]) -> None:
    run = make_run()
    part = as_alice.get(run.task.get_absolute_url(), headers=HTMX).content.decode()
    assert run.get_absolute_url() in part
    assert "<html" not in part
