"""A pull request is told in one chip wherever its run is shown, and news of it reaches the pages that show it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import Client
from django.utils import timezone

from tasks.github import sightings
from tasks.github.sightings import Sighting
from tasks.models import PullRequest, Run, Task, User
from tasks.web.pull_chips import PullChip, chip_of
from tests.tasks.web.test_consumers import connected, take

MakeRun = Callable[..., Run]
MakeTask = Callable[..., Task]


def pull_of(run: Run, **fields: Any) -> PullRequest:
    defaults = {"repository": "acme/api", "number": run.pk, "url": f"https://github.com/acme/api/pull/{run.pk}", "branch": "b"}
    return PullRequest.objects.create(run=run, **defaults | fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "PR #7 open"),
        ({"checks": "success", "review": "approved", "mergeable": "clean"}, "PR #7 open, checks pass, approved"),
        (
            {"state": "draft", "checks": "failure", "review": "changes_requested", "mergeable": "conflicts"},
            "PR #7 draft, checks fail, changes are requested, conflicts with the base branch",
        ),
        ({"checks": "pending", "mergeable": "blocked"}, "PR #7 open, checks are under way, may not be merged yet"),
        ({"state": "merged", "checks": "failure", "mergeable": "conflicts"}, "Merged #7"),
        ({"checks": "something new", "mergeable": "something new"}, "PR #7 open"),
    ],
)
def test_a_chip_says_all_that_is_known_in_words(fields: dict[str, str], words: str) -> None:
    assert PullChip(PullRequest(number=7, **fields)).title == words


def test_of_several_the_most_telling_is_told() -> None:
    calm = PullRequest(pk=1, number=1)
    failing = PullRequest(pk=2, number=2, checks="failure")
    draft = PullRequest(pk=3, number=3, state="draft")
    merged = PullRequest(pk=4, number=4, state="merged")
    closed = PullRequest(pk=5, number=5, state="closed", checks="failure")
    assert chip_of([]) is None
    assert chip_of([closed, draft, calm, failing]) == PullChip(failing, others=3)
    assert chip_of([failing, merged]) == PullChip(merged, others=1)
    assert chip_of([calm]) == PullChip(calm)


@pytest.mark.django_db
@pytest.mark.parametrize("is_archived", [False, True])
def test_the_list_the_task_and_the_run_show_it(as_alice: Client, make_task: MakeTask, make_run: MakeRun, is_archived: bool) -> None:
    task = make_task(archived_at=timezone.now() if is_archived else None)
    run = make_run(task, status="succeeded")
    pull_of(run, checks="failure")
    pull_of(make_run(task, status="succeeded"), state="closed")
    home = "/?show=archived" if is_archived else "/"
    for page in (home, task.get_absolute_url(), run.get_absolute_url()):
        shown = as_alice.get(page).content.decode()
        assert f'href="https://github.com/acme/api/pull/{run.pk}"' in shown
        assert '<span class="hidden">, checks fail</span>' in shown
        assert (">+1</span>" in shown) == (page == home)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("closed_connections")
@pytest.mark.parametrize("news", [{"checks": "failure"}, {"review": "approved"}, {"mergeable": "conflicts"}, {"state": "merged"}])
async def test_pages_are_told_of_news_of_a_pull_request(alice: User, make_run: MakeRun, news: dict[str, Any]) -> None:
    run = await sync_to_async(make_run)(status="succeeded")
    row = await sync_to_async(pull_of)(run)
    see = sync_to_async(lambda: sightings.see(row.pk, Sighting(at=timezone.now(), **news)))
    async with (
        connected(alice, f"/ws/runs/{run.pk}/") as one,
        connected(alice, f"/ws/tasks/{run.task_id}/") as two,
        connected(alice, "/ws/user/") as three,
    ):
        for socket in (one, two, three):
            await take(socket)
        await see()
        assert (await take(one))["is_news"]
        assert (await take(two))["news"]
        assert (await take(three))["news"]
