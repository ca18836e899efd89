"""The list of tasks: what a row tells, which rows an address asks for, and archiving several at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks.models import Patch, PatchKind, PullRequest, Run, Sandbox, SandboxStatus, Task, User
from tasks.web.listing import PAGE

pytestmark = pytest.mark.django_db
HOME = "/"
HTMX = {"HX-Request": "true"}
NEWS = HTMX | {"HX-Trigger": "tasks", "HX-Target": "tasks"}
MakeTask = Callable[..., Task]
MakeRun = Callable[..., Run]


@pytest.fixture
def read(as_alice: Client) -> Callable[..., str]:
    """The text of the list (without the composer above it), tags and superfluous spaces taken out."""

    def read(**asked: Any) -> str:
        html = as_alice.get(HOME, asked).content.decode()
        text = re.sub(r"<[^>]+>", " ", html[html.index('id="tasks"') :])
        return " ".join(text.split())

    return read


def change(run: Run, added: int, removed: int, *, files: int = 1) -> None:
    Patch.objects.create(
        run=run,
        turn=run.turns.get(),
        kind=PatchKind.FINAL,
        content=b"x",
        sha256="0",
        files=[{"path": f"f{number}"} for number in range(files)],
        additions=added,
        deletions=removed,
    )


# --- rows ---------------------------------------------------------------------------------------------------------------


def test_the_list_has_ones_own_tasks_with_their_runs(as_alice: Client, bob: User, make_run: MakeRun) -> None:
    mine, theirs = make_run(status="failed"), make_run(owner=bob)
    page = as_alice.get(HOME).content.decode()
    assert mine.get_absolute_url() in page
    assert "failed" in page
    assert theirs.get_absolute_url() not in page


def test_titles_are_shown_and_never_work(as_alice: Client, make_task: MakeTask) -> None:
    make_task(title="<img src=x onerror=alert(1)>\u202eevil")
    page = as_alice.get(HOME).content.decode()
    assert "<img" not in page
    assert "\u202e" not in page


def test_trials_of_an_environment_are_no_tasks_of_the_list(read: Callable[..., str], make_task: MakeTask) -> None:
    make_task(title="a trial", is_trial=True)
    assert "No tasks yet" in read()


def test_attempts_that_stand_alike_are_one_chip(read: Callable[..., str], make_task: MakeTask, make_run: MakeRun) -> None:
    task = make_task()
    for status in ("succeeded", "succeeded", "failed"):
        make_run(task, status=status)
    assert "Shell script ×2 : succeeded Shell script · failed" in read()


def test_figures_stand_once_where_all_patches_agree(read: Callable[..., str], make_task: MakeTask, make_run: MakeRun) -> None:
    task = make_task()
    for _ in range(2):
        change(make_run(task, status="succeeded"), 142, 31)
    assert read().count("+142 −31") == 1


def test_where_patches_differ_the_chips_tell_from_the_least_to_the_most(
    read: Callable[..., str], make_task: MakeTask, make_run: MakeRun
) -> None:
    task = make_task()
    for added in (12, 88):
        change(make_run(task, status="succeeded"), added, 3)
    change(make_run(task, status="canceled"), 1, 0)
    text = read()
    assert "×2 : succeeded +12–88 −3" in text
    assert "canceled +1 −0" in text


def test_the_chosen_run_speaks_for_the_task(read: Callable[..., str], make_task: MakeTask, make_run: MakeRun) -> None:
    task = make_task()
    change(make_run(task, status="succeeded"), 12, 3)
    change(make_run(task, status="succeeded", chosen_at=timezone.now()), 88, 4)
    assert "+88 −4" in read()
    assert "+12" not in read()


def test_a_run_without_changes_says_so(read: Callable[..., str], make_run: MakeRun) -> None:
    change(make_run(status="succeeded"), 0, 0, files=0)
    assert "No changes" in read()


def test_a_question_has_an_answer(read: Callable[..., str], make_task: MakeTask, make_run: MakeRun) -> None:
    make_run(make_task(mode="ask"), status="succeeded")
    assert "Answer" in read()


def test_a_queued_run_tells_how_many_are_ahead(read: Callable[..., str], make_task: MakeTask, make_run: MakeRun) -> None:
    task = make_task()
    make_run(task)
    make_run(make_task())
    assert "waits: 1 ahead" in read()
    assert "waits: next" in read()


@pytest.mark.parametrize(
    ("state", "words"), [("open", "PR #482 open"), ("merged", "Merged #482"), ("draft", "PR #482 draft"), ("closed", "PR #482 closed")]
)
def test_pull_requests_are_told_and_linked(as_alice: Client, make_run: MakeRun, state: str, words: str) -> None:
    url = "https://github.com/acme/api/pull/482"
    PullRequest.objects.create(run=make_run(status="succeeded"), number=482, url=url, branch="b", state=state)
    page = as_alice.get(HOME).content.decode()
    assert words in page
    assert f'href="{url}"' in page


def test_a_pull_requests_address_is_no_script(as_alice: Client, make_run: MakeRun) -> None:
    PullRequest.objects.create(run=make_run(), number=1, url="javascript:alert(1)", branch="b")
    page = as_alice.get(HOME).content.decode()
    assert "PR #1 open" in page
    assert "javascript:" not in page


def test_the_window_is_told_how_many_run(as_alice: Client, make_run: MakeRun) -> None:
    assert "data-page-state" not in as_alice.get(HOME).content.decode()
    make_run(status="waiting")
    assert 'data-page-state="waiting"' in as_alice.get(HOME).content.decode()
    make_run(status="running")
    assert 'data-page-title="1 running"' in as_alice.get(HOME).content.decode()


def test_the_number_of_queries_does_not_depend_on_the_number_of_rows(as_alice: Client, make_task: MakeTask, make_run: MakeRun) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            as_alice.get(HOME)
        return len(captured)

    def fill(number: int) -> None:
        for _ in range(number):
            task = make_task()
            run = make_run(task, status="succeeded")
            make_run(task)
            change(run, 1, 1)
            PullRequest.objects.create(run=run, number=1, url="https://example.org/1", branch="b")

    fill(1)
    of_one = queries()
    fill(29)
    assert queries() == of_one
    assert of_one < 25


# --- which rows ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def every_state(make_task: MakeTask, make_run: MakeRun) -> None:
    """A task for each way that runs can stand."""
    for statuses in ("queued", "starting", "running", "waiting", "succeeded", "failed", "errored", "interrupted", "canceled"):
        make_run(make_task(title=f"is {statuses}"), status=statuses)
    mixed = make_task(title="is mixed")
    make_run(mixed, status="succeeded")
    make_run(mixed, status="failed")
    make_task(title="is archived", archived_at=timezone.now())


@pytest.mark.usefixtures("every_state")
@pytest.mark.parametrize(
    ("show", "titles"),
    [
        ("working", "queued starting running"),
        ("waiting", "waiting"),
        ("done", "succeeded mixed"),
        ("failed", "failed errored interrupted mixed"),
        ("archived", "archived"),
        ("", "queued starting running waiting succeeded failed errored interrupted canceled mixed"),
        ("nonsense", "queued starting running waiting succeeded failed errored interrupted canceled mixed"),
    ],
)
def test_filters(as_alice: Client, show: str, titles: str) -> None:
    page = as_alice.get(HOME, {"show": show}).content.decode()
    assert set(re.findall(r">is (\w+)</a>", page)) == set(titles.split())


@pytest.mark.usefixtures("every_state")
def test_the_filter_that_holds_is_marked(as_alice: Client) -> None:
    page = as_alice.get(HOME, {"show": "failed"}).content.decode()
    assert re.findall(r'aria-current="page">([^<]+)</a>', page[page.index('id="filters"') :]) == ["Failed"]


def test_filters_and_search_are_combined(as_alice: Client, make_task: MakeTask, make_run: MakeRun) -> None:
    wanted = make_task(title="upload one")
    make_run(wanted, status="failed")
    make_run(make_task(title="upload two"), status="failed")
    make_run(make_task(title="download", repo=wanted.repo), status="failed")
    make_run(make_task(title="upload three", repo=wanted.repo), status="succeeded")
    address = f"/?show=failed&in={wanted.repo_id}&agent=shell&q=upl"
    page = as_alice.get(address).content.decode()
    assert re.findall(r"(upload \w+|download)</a>", page) == ["upload one"]
    assert f"/?show=done&amp;in={wanted.repo_id}&amp;agent=shell&amp;q=upl" in page  # another filter keeps the rest


def test_a_repository_of_somebody_else_finds_nothing(as_alice: Client, bob: User, make_task: MakeTask) -> None:
    theirs = make_task(owner=bob, title="secret plan")
    page = as_alice.get(HOME, {"in": theirs.repo_id}).content.decode()
    assert "Nothing found" in page
    assert theirs.title not in page
    assert theirs.repo.name not in page


@pytest.mark.parametrize(
    "asked", [{"q": "'\"\\ & | !"}, {"in": "9" * 30}, {"before": "x"}, {"to": "-1"}, {"agent": "nobody"}, {"before": "9" * 30}]
)
def test_odd_addresses_do_no_harm(as_alice: Client, make_task: MakeTask, asked: dict[str, str]) -> None:
    make_task()
    assert as_alice.get(HOME, asked).status_code == 200


def test_nothing_found_is_not_no_tasks(as_alice: Client, make_task: MakeTask) -> None:
    assert "No tasks yet" in as_alice.get(HOME).content.decode()
    make_task()
    page = as_alice.get(HOME, {"q": "<b>zebra", "show": "done"}).content.decode()
    assert "Nothing found" in page
    assert "Clear search" in page
    assert 'href="/?show=done"' in page
    assert "<b>zebra" not in page
    assert "No tasks yet" not in page


def test_older_tasks_are_on_the_next_page_and_filters_stay(as_alice: Client, make_task: MakeTask) -> None:
    repo = make_task(title="oldest").repo
    tasks = [make_task(repo=repo, title=f"number {number}") for number in range(PAGE)]
    asked = {"in": repo.pk, "q": "r"}
    first = as_alice.get(HOME, asked).content.decode()
    assert "oldest" not in first
    assert f'href="/?in={repo.pk}&amp;q=r&amp;before={tasks[0].pk}"' in first
    second = as_alice.get(HOME, asked | {"before": tasks[0].pk}).content.decode()
    assert "oldest" in second
    assert tasks[0].title not in second


def test_the_next_rows_come_alone_to_be_appended(as_alice: Client, make_task: MakeTask) -> None:
    repo = make_task(title="oldest").repo
    tasks = [make_task(repo=repo) for _ in range(PAGE)]
    part = as_alice.get(HOME, {"before": tasks[0].pk}, headers=HTMX | {"HX-Target": "older"}).content.decode()
    assert part.lstrip().startswith("<li")
    assert "oldest" in part


def test_news_bring_all_rows_that_were_shown(as_alice: Client, make_task: MakeTask) -> None:
    oldest = make_task(title="oldest")
    for _ in range(PAGE):
        make_task(repo=oldest.repo)
    assert "oldest" not in as_alice.get(HOME, headers=NEWS).content.decode()
    part = as_alice.get(HOME, {"to": oldest.pk}, headers=NEWS).content.decode()
    assert part.count('class="task row"') == PAGE + 1
    assert "oldest" in part


def test_for_news_only_the_rows_are_sent(as_alice: Client, make_task: MakeTask) -> None:
    make_task(title="fresh")
    response = as_alice.get(HOME, headers=NEWS)
    part = response.content.decode()
    assert "fresh" in part
    assert "<html" not in part
    assert 'id="filters"' not in part
    assert "HX-Push-Url" not in response.headers


def test_another_list_comes_with_its_filters_and_its_address(as_alice: Client, make_task: MakeTask) -> None:
    make_task(title="fresh")
    response = as_alice.get(HOME, {"q": "fresh", "show": ""}, headers=HTMX | {"HX-Trigger": "search", "HX-Target": "tasks"})
    assert 'id="filters" hx-swap-oob="true"' in response.content.decode()
    assert response.headers["HX-Push-Url"] == "/?q=fresh"


# --- several at once ----------------------------------------------------------------------------------------------------

ARCHIVE, RESTORE = "/tasks/archive", "/tasks/restore"


def archived(*tasks: Task) -> list[bool]:
    found = dict(Task.objects.filter(pk__in=[task.pk for task in tasks]).values_list("pk", "archived_at"))
    return [found[task.pk] is not None for task in tasks]


def test_several_are_archived_and_brought_back_by_undo(as_alice: Client, make_run: MakeRun) -> None:
    tasks = [make_run(status="succeeded").task for _ in range(3)]
    response = as_alice.post(f"{ARCHIVE}?show=done", {"task": [task.pk for task in tasks[:2]]})
    assert (response.status_code, response.headers["Location"]) == (302, "/?show=done")
    assert archived(*tasks) == [True, True, False]
    page = as_alice.get(HOME).content.decode()
    assert "2 tasks are archived." in page
    undo = re.search(r'action="(/tasks/restore\?[^"]+)"', page)
    assert undo
    as_alice.post(undo[1].replace("&amp;", "&"))
    assert archived(*tasks) == [False, False, False]
    assert "2 tasks are back." in as_alice.get(HOME).content.decode()


def test_what_still_works_is_asked_about_first(as_alice: Client, make_run: MakeRun) -> None:
    working, over = make_run(status="running"), make_run(status="succeeded")
    chosen = {"task": [working.task_id, over.task_id]}
    question = as_alice.post(ARCHIVE, chosen).content.decode()
    assert "1 of 2 still works and will be stopped." in " ".join(question.split())
    assert archived(working.task, over.task) == [False, False]
    as_alice.post(ARCHIVE, chosen | {"confirmed": "yes"})
    assert archived(working.task, over.task) == [True, True]
    working.refresh_from_db()
    assert working.stop_requested_at is not None


def test_the_question_comes_as_a_dialog(as_alice: Client, make_run: MakeRun) -> None:
    response = as_alice.post(ARCHIVE, {"task": make_run().task_id}, headers=HTMX)
    assert response.headers["HX-Retarget"] == "#dialog"
    assert "<html" not in response.content.decode()


def test_in_place_the_list_is_told_and_the_page_says_what_was_done(as_alice: Client, make_run: MakeRun) -> None:
    response = as_alice.post(ARCHIVE, {"task": make_run(status="failed").task_id}, headers=HTMX)
    assert '"target": "#tasks"' in response.headers["HX-Trigger"]
    assert "The task is archived." in response.content.decode()


def test_sandboxes_that_are_gone_are_told_of(as_alice: Client, make_run: MakeRun) -> None:
    run = make_run(status="succeeded", sandbox=True)
    Task.objects.update(archived_at=timezone.now())
    Sandbox.objects.update(status=SandboxStatus.DESTROYED)
    as_alice.post(RESTORE, {"task": run.task_id})
    assert "The sandbox of one run is gone; a follow-up starts in a new one" in as_alice.get(HOME).content.decode().replace("&#x27;", "'")


@pytest.mark.parametrize("where", [ARCHIVE, RESTORE])
def test_nobody_elses_tasks_are_touched(as_bob: Client, make_run: MakeRun, where: str) -> None:
    tasks = [make_run(status="succeeded").task, make_run(status="succeeded").task]
    Task.objects.filter(pk=tasks[0].pk).update(archived_at=timezone.now())
    as_bob.post(where, {"task": [task.pk for task in tasks], "confirmed": "yes"})
    assert archived(*tasks) == [True, False]
    assert "first." in as_bob.get(HOME).content.decode()


@pytest.mark.parametrize("where", [ARCHIVE, RESTORE])
def test_a_link_archives_nothing(as_alice: Client, make_task: MakeTask, where: str) -> None:
    assert as_alice.get(where, {"task": make_task().pk}).status_code == 405


def test_the_archive_offers_to_bring_back(as_alice: Client, make_task: MakeTask) -> None:
    make_task(archived_at=timezone.now())
    page = as_alice.get(HOME, {"show": "archived"}).content.decode()
    assert "Bring back" in page
    assert f'action="{RESTORE}?show=archived"' in page
