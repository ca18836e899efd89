"""Checks on pages: a chip on the run's card, a panel beside its changes, live, and done again by a button."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tasks.management.report import task_json
from tasks.models import Check, Patch, Repo, Run, RunStatus, Task, User
from tasks.review.checks import checks_of
from tasks.web.activity import Endings, activity_of
from tasks.web.consumers import RunConsumer, TaskConsumer
from tests.tasks.conftest import MakeRun

pytestmark = pytest.mark.django_db
FILES = [{"path": "f", "state": "modified", "additions": 1, "deletions": 1}]
MakeCheck = Callable[..., Check]


@pytest.fixture
def make_check(make_run: MakeRun, make_task: Callable[..., Task]) -> MakeCheck:
    """A check of the only patch of a run that is over; `base` is how the base's came out, `run` the status of its own run."""

    def make(status: str = "passed", base: str = "passed", *, run: str = "", **fields: Any) -> Check:
        checked = make_run(status=RunStatus.SUCCEEDED)
        Repo.objects.filter(pk=checked.task.repo_id).update(check_command="make test")
        patch = Patch.objects.create(
            run=checked, turn=checked.turns.get(), kind="final", content=b"x", sha256="0", files=FILES, additions=1, deletions=1
        )
        alike = {"repo": checked.task.repo, "base_commit": "a" * 40, "backend": "local", "command": "make test"}
        hidden = make_run(make_task(repo=checked.task.repo, is_trial=True), status=run or RunStatus.SUCCEEDED)
        below = Check.objects.create(status=base, run=make_run(make_task(repo=checked.task.repo, is_trial=True)), **alike)
        return Check.objects.create(patch=patch, base=below, status=status, run=hidden, **alike | fields)

    return make


def run_of(check: Check) -> Run:
    assert check.patch is not None
    return check.patch.run


@pytest.mark.parametrize(
    ("status", "base", "words"),
    [
        ("passed", "passed", "Check passed"),
        ("passed", "failed", "Check fixed"),
        ("failed", "passed", "Check failed"),
        ("failed", "failed", "Check was already failing"),
        ("errored", "passed", "Check could not run"),
        ("canceled", "failed", "Check stopped"),
        ("under_way", "under_way", "Checking"),
    ],
)
def test_a_verdict_is_on_the_card_and_beside_the_changes(
    as_alice: Client, make_check: MakeCheck, status: str, base: str, words: str
) -> None:
    check = make_check(status, base, run="running" if status == "under_way" else "")
    run = run_of(check)
    for address in (run.task.get_absolute_url(), run.get_absolute_url()):
        assert words in as_alice.get(address).content.decode()
    assert task_json(run.task, [run])["runs"][0]["check"] == check.verdict


def test_the_panel_has_the_end_of_the_output_as_the_log_shows_it_and_links_to_both_logs(as_alice: Client, make_check: MakeCheck) -> None:
    check = make_check("failed", exit_code=2, seconds=4.0, output="\x1b[31m<script>alert(1)</script>\x1b[m\u202e\n")
    page = as_alice.get(run_of(check).get_absolute_url()).content.decode()
    assert "exit code 2" in page
    assert "<script>alert" not in page
    assert '<span class="ink-1">&lt;script&gt;' in page
    assert "U+202E" in page
    assert check.run is not None
    assert check.base is not None
    assert check.base.run is not None
    assert f'href="{check.run.get_absolute_url()}"' in page
    assert f'href="{check.base.run.get_absolute_url()}"' in page


def test_the_log_of_a_check_is_its_owner_s(as_alice: Client, as_bob: Client, make_check: MakeCheck) -> None:
    check = make_check()
    assert check.run is not None
    assert "A check of" in as_alice.get(check.run.get_absolute_url()).content.decode()
    assert as_bob.get(check.run.get_absolute_url()).status_code == 404
    assert as_bob.post(reverse("run-check", args=[run_of(check).pk])).status_code == 404


def test_checks_are_no_runs_of_a_user_s_that_are_counted_or_told_of(make_check: MakeCheck, alice: User) -> None:
    endings = Endings()
    endings.look(alice)
    check = make_check("under_way", "passed", run="running")
    assert activity_of(alice) == {"running": 0, "queued": 0}
    Run.objects.filter(checks=check).update(status=RunStatus.FAILED, finished_at=timezone.now())
    assert endings.look(alice) == []


def test_a_button_does_it_again(as_alice: Client, make_check: MakeCheck) -> None:
    check = make_check("failed", output="no\n", exit_code=1)
    run = run_of(check)
    assert "Run again" in as_alice.get(run.get_absolute_url()).content.decode()
    assert as_alice.post(reverse("run-check", args=[run.pk])).status_code == 302
    check.refresh_from_db()
    assert (check.status, check.output) == ("under_way", "")
    page = as_alice.get(run.get_absolute_url()).content.decode()
    assert "Check queued" in page
    assert "Run again" not in page


def test_a_card_s_button_does_it_again_and_leads_back_to_the_task(as_alice: Client, make_check: MakeCheck) -> None:
    check = make_check("failed")
    run, button = run_of(check), f'id="check-again-{run_of(check).pk}"'
    assert button in as_alice.get(run.task.get_absolute_url()).content.decode()
    again = {"path": reverse("run-check", args=[run.pk]), "data": {"to": "task"}}
    assert as_alice.post(**again).headers["Location"] == run.task.get_absolute_url()
    assert button not in as_alice.get(run.task.get_absolute_url()).content.decode()  # it is under way
    Check.objects.filter(pk=check.pk).update(status="passed")
    Repo.objects.update(check_command="")
    assert button not in as_alice.get(run.task.get_absolute_url()).content.decode()


def test_the_list_says_what_checks_say_of_a_task_or_of_each_run_where_they_differ(as_alice: Client, make_check: MakeCheck) -> None:
    check, other = make_check("failed", "failed"), make_check("passed")
    chip = '<span class="check-chip"'
    page = as_alice.get("/").content.decode()
    assert page.count(chip) == 2
    assert "Check was already failing" in page
    Run.objects.filter(pk=run_of(other).pk).update(task=run_of(check).task, attempt=2)
    page = as_alice.get("/").content.decode()
    assert [f'<span class="hidden">{words}' in page for words in ("Check was already failing", "Check passed")] == [True, True]
    Run.objects.filter(pk=run_of(other).pk).update(chosen_at=timezone.now())
    page = as_alice.get("/").content.decode()
    assert page.count(chip) == 1
    assert "<span >Check passed" in page


def test_checks_of_runs_are_those_of_their_newest_patches(make_check: MakeCheck, django_assert_num_queries: Any) -> None:
    check, other = make_check("failed", "failed"), make_check("passed")
    run = run_of(other)
    turn = run.turns.create(number=2, prompt="more", author=run.task.owner, status="succeeded")
    Patch.objects.create(run=run, turn=turn, kind="final", content=b"y", sha256="1", files=FILES, additions=1, deletions=1)
    with django_assert_num_queries(1):
        found = checks_of([run_of(check), run])
        assert {pk: each.verdict for pk, each in found.items()} == {run_of(check).pk: "was_failing"}


def test_a_patch_from_before_there_was_a_command_can_be_checked(as_alice: Client, make_check: MakeCheck) -> None:
    run = run_of(make_check())
    Check.objects.all().delete()
    assert "Run the check" in as_alice.get(run.get_absolute_url()).content.decode()
    as_alice.post(reverse("run-check", args=[run.pk]))
    assert Check.objects.count() == 2


def test_where_nothing_can_be_checked_nothing_is_said(as_alice: Client, make_check: MakeCheck) -> None:
    run = run_of(make_check())
    Check.objects.all().delete()
    Repo.objects.update(check_command="")
    assert 'id="check"' not in as_alice.get(run.get_absolute_url()).content.decode()
    response = as_alice.post(reverse("run-check", args=[run.pk]), follow=True)
    assert "has no check command" in response.content.decode()


def test_open_pages_are_told(make_check: MakeCheck, alice: User) -> None:
    check = make_check("under_way", "under_way", run="queued")
    run = run_of(check)
    for consumer, pk in ((TaskConsumer(), run.task_id), (RunConsumer(), run.pk)):
        consumer.user, consumer.scope = alice, {"url_route": {"kwargs": {"pk": pk}}}
        consumer._seq = 0
        assert f"user.{alice.pk}" in consumer.groups_to_watch()
        Run.objects.filter(checks=check).update(status=RunStatus.QUEUED)
        assert consumer.news() is not None
        assert consumer.news() is None
        Run.objects.filter(checks=check).update(status=RunStatus.RUNNING)
        assert consumer.news() is not None
        assert consumer.news() is None
        Check.objects.filter(dependents=check).update(status="failed")
        assert consumer.news() is not None
        Check.objects.filter(dependents=check).update(status="under_way")
