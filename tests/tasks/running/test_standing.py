"""What a page says of how many runs are on their way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple

import pytest

from tasks.models import Check, Run, RunStatus, Task, User
from tasks.running.standing import MOST_WAITING, Standing

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]


def make_check(run: Run) -> None:
    task = run.task
    Check.objects.create(repo=task.repo, base_commit=task.base_commit, command=str(run.pk), backend="local", run=run)


def test_runs_are_counted_by_whose_they_are_and_what_they_are_for(alice: User, bob: User, make_run: MakeRun) -> None:
    for status in ("starting", "running", "running", "queued", "waiting", "waiting", "succeeded"):
        make_run(owner=alice, status=status)
    for status in ("running", "queued", "waiting"):
        make_run(owner=bob, status=status)
        trial = make_run(owner=alice, status=status)
        Task.objects.filter(pk=trial.task_id).update(is_trial=True)
        make_check(make_run(owner=alice, status=status))
    assert astuple(Standing.of(alice)) == (6, 5, 4, 4, 2, 3)
    assert astuple(Standing.of(bob)) == (6, 1, 1, 1, 1, 1)


def test_what_waits_is_counted_to_where_it_makes_no_difference(alice: User, make_run: MakeRun) -> None:
    run = make_run(status="waiting")
    copies = [Run(task=run.task, agent=run.agent, branch="b", backend="local", attempt=n, status=RunStatus.WAITING) for n in range(2, 130)]
    Run.objects.bulk_create(copies[: MOST_WAITING - 2])
    assert Standing.of(alice).waiting_text == str(MOST_WAITING - 1)
    Run.objects.bulk_create(copies[MOST_WAITING - 2 :])
    assert Standing.of(alice).waiting_text == f"{MOST_WAITING - 1}+"
