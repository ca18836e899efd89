"""A task's page: a card for each run."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks.models import Patch, PatchKind, PullRequest, Run, RunStatus, Task, Turn

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
MakeTask = Callable[..., Task]
MakeRun = Callable[..., Run]


def test_a_card_tells_status_figures_and_error(as_alice: Client, make_run: Callable[..., Run]) -> None:
    run = make_run(status="errored", stage="setup", error="The setup script ended with exit code 2.")
    files = [{"path": "a"}, {"path": "b"}]
    Patch.objects.create(
        run=run, turn=run.turns.get(), kind=PatchKind.CHECKPOINT, content=b"x", sha256="0", files=files, additions=12, deletions=3
    )
    page = as_alice.get(run.task.get_absolute_url()).content.decode()
    for text in ("Shell script", "Errored", "Running the setup script:", "exit code 2", "+12", "−3", "Retry"):
        assert text in page


def test_a_restricted_task_says_so_and_where_it_was_asked_for(as_alice: Client, make_run: Callable[..., Run]) -> None:
    task = make_run().task
    assert "Restricted" not in as_alice.get(task.get_absolute_url()).content.decode()
    address = "https://github.com/acme/shop/issues/12#issuecomment-1"
    Task.objects.update(origin=address, is_restricted=True)
    page = as_alice.get(task.get_absolute_url()).content.decode()
    assert f'<a href="{address}" rel="noreferrer">acme/shop#12</a>' in page
    assert '<span class="label">Restricted</span>' in page
    assert "its runs get no secrets, no MCP servers" in page


def test_a_queued_run_tells_its_place(as_alice: Client, make_run: Callable[..., Run]) -> None:
    run = make_run()
    assert "Number 1 in the queue. Waits for a free place" in as_alice.get(run.task.get_absolute_url()).content.decode()


@pytest.mark.parametrize("path", ["", "stop", "archive", "retry", "restore", "follow-up"])
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


# --- the page's head ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "state", "title"),
    [
        (["running", "starting", "failed"], "running", "2 running · Do it"),
        (["queued"], "running", "1 queued · Do it"),
        (["waiting", "succeeded"], "waiting", "Waiting for you · Do it"),
        (["succeeded", "failed"], "done", "Do it"),
        (["failed", "canceled"], "failed", "Do it"),
        (["canceled"], "done", "Do it"),
    ],
)
def test_the_window_is_told_how_the_task_stands(
    as_alice: Client, make_task: MakeTask, make_run: MakeRun, statuses: list[str], state: str, title: str
) -> None:
    task = make_task()
    for status in statuses:
        make_run(task, status=status)
    page = as_alice.get(task.get_absolute_url()).content.decode()
    assert f'data-page-state="{state}"' in page
    assert f'data-page-title="{title}"' in page


def test_a_long_prompt_is_folded_and_a_short_one_is_not(as_alice: Client, make_task: MakeTask) -> None:
    short, long = make_task(prompt="Do it\nand that"), make_task(prompt="Do it " * 200)
    assert "Whole prompt" not in as_alice.get(short.get_absolute_url()).content.decode()
    assert "Whole prompt" in as_alice.get(long.get_absolute_url()).content.decode()


def test_a_card_tells_tokens_cost_turns_and_the_pull_request(as_alice: Client, make_run: MakeRun) -> None:
    run = make_run(status="running", input_tokens=41_200, output_tokens=6_900, cost_usd="0.62")
    PullRequest.objects.create(run=run, number=482, url="https://example.org/482", branch="b")
    Turn.objects.create(run=run, number=2, prompt="more")
    page = as_alice.get(run.task.get_absolute_url()).content.decode()
    for text in ("41k in · 6.9k out", "$0.62", "1 waiting", "PR #482 open"):
        assert text in page


def test_the_number_of_queries_does_not_depend_on_the_number_of_runs(as_alice: Client, make_task: MakeTask, make_run: MakeRun) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            as_alice.get(task.get_absolute_url())
        return len(captured)

    task = make_task()
    make_run(task)
    of_one = queries()
    for _ in range(19):
        make_run(task)
    assert queries() == of_one
    assert of_one <= 12


# --- what can be done ---------------------------------------------------------------------------------------------------


def test_failed_runs_are_retried_together(as_alice: Client, make_task: MakeTask, make_run: MakeRun) -> None:
    task = make_task()
    for status in ("failed", "errored", "succeeded"):
        make_run(task, status=status)
    assert "Retry failed (2)" in " ".join(as_alice.get(task.get_absolute_url()).content.decode().split())
    as_alice.post(f"{task.get_absolute_url()}retry")
    assert task.runs.filter(status=RunStatus.QUEUED).count() == 2
    assert "Retry failed" not in as_alice.get(task.get_absolute_url()).content.decode()


def test_an_archived_task_is_brought_back(as_alice: Client, make_run: MakeRun) -> None:
    task = make_run(status="failed").task
    Task.objects.update(archived_at=timezone.now())
    page = as_alice.get(task.get_absolute_url()).content.decode()
    assert "Bring back" in page
    assert "Retry" not in page
    assert 'id="follow-up"' not in page
    as_alice.post(f"{task.get_absolute_url()}restore")
    task.refresh_from_db()
    assert task.archived_at is None
    assert "The task is back." in as_alice.get(task.get_absolute_url()).content.decode()


def test_after_archiving_there_is_a_way_back(as_alice: Client, make_run: MakeRun) -> None:
    task = make_run(status="failed").task
    page = as_alice.post(f"{task.get_absolute_url()}archive", follow=True).content.decode()
    assert "The task is archived." in page
    assert f'action="/tasks/restore?task={task.pk}"' in page


# --- follow-ups ---------------------------------------------------------------------------------------------------------


def test_a_follow_up_goes_to_the_chosen_runs(as_alice: Client, make_task: MakeTask, make_run: MakeRun) -> None:
    task = make_task()
    first, _, third = (make_run(task, status="succeeded") for _ in range(3))
    response = as_alice.post(f"{task.get_absolute_url()}follow-up", {"prompt": "Add\r\ntests", "runs": [first.pk, third.pk]})
    assert (response.status_code, response.headers["Location"]) == (302, task.get_absolute_url())
    sent = Turn.objects.filter(number=2).order_by("run")
    assert [(turn.run_id, turn.prompt) for turn in sent] == [(first.pk, "Add\ntests"), (third.pk, "Add\ntests")]


def test_all_runs_that_can_take_one_are_chosen_before(as_alice: Client, make_task: MakeTask, make_run: MakeRun) -> None:
    task = make_task()
    make_run(task, status="succeeded")
    stopping = make_run(task, status="running", stop_requested_at=timezone.now())
    page = as_alice.get(task.get_absolute_url()).content.decode()
    boxes = [" ".join(box.split()) for box in re.findall(r'<input type="checkbox"\s+id="to-[^>]+>', page)]
    assert ["checked" in box for box in boxes] == [True, False]
    assert "disabled" in next(box for box in boxes if f"to-{stopping.pk}" in box)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [({"prompt": ""}, "The follow-up is empty."), ({"runs": []}, "Choose at least one run"), ({"runs": ["999999"]}, "not there any more")],
)
@pytest.mark.parametrize("headers", [{}, HTMX])
def test_what_is_wrong_with_a_follow_up_is_said_and_nothing_is_lost(
    as_alice: Client, make_task: MakeTask, make_run: MakeRun, wrong: dict[str, object], sentence: str, headers: dict[str, str]
) -> None:
    task = make_task()
    first, _ = make_run(task, status="succeeded"), make_run(task, status="succeeded")
    data = {"prompt": "Add tests", "runs": [first.pk]} | wrong
    response = as_alice.post(f"{task.get_absolute_url()}follow-up", data, headers=headers)
    page = response.content.decode()
    assert response.status_code == 422
    assert sentence in page
    assert ("<html" in page) == (not headers)
    if "prompt" not in wrong:
        assert "Add tests</textarea>" in page
    if "runs" not in wrong:
        assert re.findall(r'id="to-(\d+)"[^>]+checked', page) == [str(first.pk)]
    assert not Turn.objects.filter(number=2).exists()


def test_in_place_the_composer_empties_and_the_cards_look_for_news(as_alice: Client, make_run: MakeRun) -> None:
    run = make_run(status="succeeded")
    response = as_alice.post(f"{run.task.get_absolute_url()}follow-up", {"prompt": "Add tests", "runs": [run.pk]}, headers=HTMX)
    assert response.status_code == 200
    assert "Add tests" not in response.content.decode()
    assert '"target": "#cards"' in response.headers["HX-Trigger"]


def test_a_run_of_another_task_takes_no_follow_up_here(as_alice: Client, make_run: MakeRun) -> None:
    here, elsewhere = make_run(status="succeeded"), make_run(status="succeeded")
    response = as_alice.post(f"{here.task.get_absolute_url()}follow-up", {"prompt": "x", "runs": [elsewhere.pk]})
    assert response.status_code == 422
    assert not Turn.objects.filter(number=2).exists()
