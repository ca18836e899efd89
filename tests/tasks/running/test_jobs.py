"""What jobs do with what they find: nothing begins that cannot, and it is said why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings
from pytest_django import Settings

from tasks.models import Repo, Run, RunStatus, SandboxStatus, Variable
from tasks.running import backends, jobs
from tests.tasks.running.fake import have_mirror

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]


def test_a_start_whose_secrets_cannot_be_read_ends_with_a_sentence(make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.STARTING)
    Repo.objects.filter(pk=run.task.repo_id).update(setup_script="true")
    Variable.objects.create(repo=run.task.repo, name="TOKEN", value_encrypted=b"from another key", is_secret=True, phase="setup")
    jobs.start_turn(run.pk, run.generation)
    run.refresh_from_db()
    assert run.status == RunStatus.ERRORED
    assert "ENCRYPTION_KEYS" in run.error


def test_a_start_of_an_agent_that_is_not_there_ends_with_a_sentence(make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.STARTING, agent="retired")
    jobs.start_turn(run.pk, run.generation)
    run.refresh_from_db()
    assert (run.status, run.error) == (RunStatus.ERRORED, "This version of asynccode does not know the agent 'retired'.")


def test_a_start_whose_mirror_is_gone_says_why_it_cannot_be_made_again(make_run: MakeRun) -> None:
    """example.org is no git server, and nothing answers for it here."""
    run = make_run(status=RunStatus.STARTING)
    jobs.start_turn(run.pk, run.generation)
    run.refresh_from_db()
    assert run.status == RunStatus.ERRORED
    assert "example.org" in run.error


def test_a_run_that_cannot_be_followed_is_given_up(make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.RUNNING, sandbox=True)
    jobs.give_up(run.pk, run.generation + 1, "of another generation")
    run.refresh_from_db()
    assert run.status == RunStatus.RUNNING
    jobs.give_up(run.pk, run.generation, "It cannot be read.")
    run.refresh_from_db()
    assert (run.status, run.error) == (RunStatus.ERRORED, "It cannot be read.")


@pytest.mark.parametrize("status", [RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.SUCCEEDED, RunStatus.CANCELED])
def test_a_start_that_comes_too_late_changes_nothing(make_run: MakeRun, status: RunStatus) -> None:
    run = make_run(status=status)
    jobs.start_turn(run.pk, run.generation)
    run.refresh_from_db()
    assert run.status == status
    assert not run.sandboxes.exists()


def test_keys_name_the_installation_the_run_and_the_generation() -> None:
    installation = backends.installation()
    assert backends.key(7, 2) == f"{installation}:7:2"
    assert settings.SECRET_KEY not in backends.key(7, 2)


@pytest.mark.parametrize("status", [RunStatus.STARTING, RunStatus.RUNNING, RunStatus.QUEUED])
def test_a_sandbox_that_is_wanted_again_is_not_destroyed(make_run: MakeRun, status: RunStatus) -> None:
    """Its task was archived and came back, and a follow-up was sent before the destroying began."""
    run = make_run(status=status, sandbox=True)
    jobs.destroy_sandbox(run.sandboxes.get().pk)
    assert run.sandboxes.get().status == SandboxStatus.LIVE


def test_a_follow_up_does_not_begin_in_a_sandbox_that_is_being_destroyed(make_run: MakeRun, tmp_path: Path, settings: Settings) -> None:
    settings.DATA = tmp_path
    run = make_run(status=RunStatus.STARTING, sandbox=True)
    have_mirror(run)
    run.sandboxes.update(status=SandboxStatus.LOST)
    jobs.start_turn(run.pk, run.generation)
    run.refresh_from_db()
    assert (run.status, run.generation) == (RunStatus.QUEUED, 2)
