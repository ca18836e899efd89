"""Every page of a run says where it is or was, why it is not where it was asked for, and in full what it waits for."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from tasks.models import CreationBucket, Run, Sandbox, SandboxStatus, Task
from tasks.running import capacity
from tasks.web.cards import cards_of
from tasks.web.where import Where

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
REFUSED = "E2B refused the account (401: the key is revoked), so this run is on this machine."


def words(page: str) -> str:
    """The text of a page, with single spaces."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def pages(client: Client, run: Run) -> list[str]:
    """The words of a run's page and of its task's."""
    return [words(client.get(found.get_absolute_url()).content.decode()) for found in (run, run.task)]


def sandbox(run: Run, **fields: Any) -> Sandbox:
    given = {"generation": 1, "backend": run.backend, "ref": f"s-{run.pk}", "status": SandboxStatus.LIVE}
    return Sandbox.objects.create(run=run, **given | fields)


# --- in few words ---


def test_a_run_is_with_e2b_on_this_machine_or_on_a_named_one(make_run: MakeRun, settings: Settings) -> None:
    settings.HOST_NAME = "one"
    remote, here, there, waiting = make_run(backend="e2b"), make_run(), make_run(), make_run()
    for run, host in ((remote, ""), (here, "one"), (there, "two")):
        sandbox(run, host=host)
    labels = {card.run.pk: card.where.label for card in cards_of([remote, here, there, waiting])}
    assert labels == {remote.pk: "E2B", here.pk: "This machine", there.pk: "Machine two", waiting.pk: "This machine"}


def test_the_newest_sandbox_counts(make_run: MakeRun, settings: Settings) -> None:
    run = make_run(generation=2)
    sandbox(run, generation=2, host=settings.HOST_NAME, ref="b")
    sandbox(run, host="two", ref="a", status=SandboxStatus.LOST)
    assert cards_of([run])[0].where == Where("This machine")


@pytest.mark.parametrize(("backend", "label"), [("e2b", "E2B"), ("local", "This machine")])
def test_a_run_its_card_and_its_row_in_the_list_say_where(as_alice: Client, make_run: MakeRun, backend: str, label: str) -> None:
    run = make_run(backend=backend, status="succeeded")
    on_run, on_task = pages(as_alice, run)
    assert f"Succeeded {label}" in on_run
    assert f"Sandbox {label}" in on_task
    assert f"ago · {label} Shell script" in words(as_alice.get("/").content.decode()).replace("\xa0", " ")


def test_a_row_whose_runs_are_in_several_places_names_each_once(
    as_alice: Client, make_task: Callable[..., Task], make_run: MakeRun
) -> None:
    task = make_task()
    for backend in ("e2b", "local", "e2b"):
        make_run(task, backend=backend, status="succeeded")
    assert "· E2B and This machine" in words(as_alice.get("/").content.decode())


# --- fallback ---


def test_a_run_that_fell_back_says_so_for_good(as_alice: Client, make_run: MakeRun, settings: Settings) -> None:
    run = make_run(status="running", generation=2)
    sandbox(run, host=settings.HOST_NAME, notice=REFUSED, ref="a", status=SandboxStatus.DESTROYED)
    sandbox(run, host=settings.HOST_NAME, generation=2, ref="b")
    for page in pages(as_alice, run):
        assert REFUSED in page


def test_what_is_to_be_known_of_a_sandbox_of_e2b_is_said_with_the_sandbox(as_alice: Client, make_run: MakeRun) -> None:
    run = make_run(status="running", backend="e2b")
    sandbox(run, notice="E2B does not record what a sandbox tries to reach.")
    for page in pages(as_alice, run):
        assert "does not record" not in page
    assert "does not record" in words(as_alice.get(f"{run.get_absolute_url()}?tab=sandbox").content.decode())


# --- what a run waits for ---


def rate(run: Run, make_run: MakeRun) -> str:
    return "Number 1 in the queue. E2B makes one sandbox a second here; yours is next."


def behind_others(run: Run, make_run: MakeRun) -> str:
    for minutes in (1, 2):
        make_run(backend="e2b", queued_at=run.queued_at - timedelta(minutes=minutes))
    return "Number 3 in the queue. E2B makes one sandbox a second here; 2 go before yours."


def awake(run: Run, make_run: MakeRun) -> str:
    sandbox(make_run(backend="e2b", status="running"))
    return "Number 1 in the queue. E2B may have 1 sandbox awake at once."


def breaker(run: Run, make_run: MakeRun) -> str:
    for _ in range(capacity.LOSSES):
        sandbox(make_run(backend="e2b", status="interrupted"), status=SandboxStatus.DESTROYED, lost_at=timezone.now())
    until = capacity.broken_until()
    assert until
    return f"Three E2B sandboxes were lost within ten minutes. New ones wait until {until:%H:%M} UTC."


SAID = f"E2B takes no more just now (429: Rate limit exceeded, <please> try again later. {'More words. ' * 15})."


def bucket(run: Run, make_run: MakeRun) -> str:
    until = timezone.now() + timedelta(seconds=40)
    CreationBucket.objects.create(backend="e2b", filled_at=timezone.now(), closed_until=until, reason=SAID, refusals=1)
    return f"Number 1 in the queue. {SAID} New sandboxes wait until {until:%H:%M:%S} UTC."


def waking(run: Run, make_run: MakeRun) -> str:
    bucket(run, make_run)
    sandbox(run, status=SandboxStatus.PAUSED)
    Run.objects.filter(pk=run.pk).update(not_before=timezone.now() + timedelta(hours=1))
    return f"Number 1 in the queue. {SAID} Tries again in "


@pytest.mark.parametrize("shortage", [rate, behind_others, awake, breaker, bucket, waking], ids=lambda shortage: shortage.__name__)
def test_what_e2b_is_short_of_is_said_whole(as_alice: Client, make_run: MakeRun, settings: Settings, shortage: Callable[..., str]) -> None:
    settings.E2B_MAX_SANDBOXES = 1
    settings.MAX_ACTIVE_RUNS = settings.MAX_ACTIVE_RUNS_PER_USER = 9
    run = make_run(backend="e2b")
    said = shortage(run, make_run)
    for page in pages(as_alice, run):
        assert " ".join(said.split()) in page


def test_a_run_that_waits_for_its_agent_says_that_and_not_that_it_tries_again(
    as_alice: Client, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.running.installs.reasons", lambda agents: dict.fromkeys(agents, "Waits for Claude Code to be installed."))
    run = make_run(not_before=timezone.now() + timedelta(minutes=5))
    for page in pages(as_alice, run):
        assert "Number 1 in the queue. Waits for Claude Code to be installed." in page
        assert "Tries again" not in page
