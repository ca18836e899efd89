"""Which backend a run gets: the one that was asked for, else this installation's own; what goes on from a run keeps its."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.utils import timezone
from pytest_django import Settings

from tasks import services, turns
from tasks.errors import InvalidInput
from tasks.models import Run, RunStatus, User
from tasks.services import AgentChoice

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
SHELL = [AgentChoice("shell")]


def test_without_a_key_e2b_is_refused_and_it_is_said_what_to_do(alice: User, settings: Settings) -> None:
    settings.E2B_API_KEY, settings.SANDBOX_BACKEND = "", "local"
    services.check_tasks(by=alice, prompts=["true"], agents=SHELL)
    with pytest.raises(InvalidInput, match=r"no sandbox backend 'e2b' here; there is: local\. Set E2B_API_KEY"):
        services.check_tasks(by=alice, prompts=["true"], agents=SHELL, backend="e2b")
    settings.SANDBOX_BACKEND = "e2b"
    with pytest.raises(InvalidInput, match="Set E2B_API_KEY"):
        services.check_tasks(by=alice, prompts=["true"], agents=SHELL)


def test_where_no_sandbox_can_be_made_it_is_said_what_to_do(alice: User, settings: Settings) -> None:
    settings.LOCAL_SANDBOXES, settings.E2B_API_KEY, settings.SANDBOX_BACKEND = False, "", "e2b"
    for backend in ("", "local"):
        with pytest.raises(InvalidInput, match=r"LOCAL_SANDBOXES is 0, .* Set E2B_API_KEY, or allow local sandboxes"):
            services.check_tasks(by=alice, prompts=["true"], agents=SHELL, backend=backend)
    settings.E2B_API_KEY = "e2b_test"
    services.check_tasks(by=alice, prompts=["true"], agents=SHELL)
    with pytest.raises(InvalidInput, match=r"no sandbox backend 'local' here; there is: e2b\."):
        services.check_tasks(by=alice, prompts=["true"], agents=SHELL, backend="local")


def test_with_a_key_both_can_be_had(alice: User, settings: Settings) -> None:
    settings.E2B_API_KEY = "e2b_test"
    for backend in ("e2b", "local"):
        services.check_tasks(by=alice, prompts=["true"], agents=SHELL, backend=backend)


@pytest.mark.parametrize("backend", ["e2b", "local"])
def test_a_retry_and_a_branch_stay_with_the_backend(make_run: MakeRun, alice: User, settings: Settings, backend: str) -> None:
    settings.SANDBOX_BACKEND = "local" if backend == "e2b" else "e2b"
    run = make_run(status=RunStatus.FAILED, backend=backend)
    run.turns.update(started_at=timezone.now())
    assert services.retry_run(run=run, by=alice).backend == backend
    assert turns.branch_run(run=run, by=alice, after=1, prompt="Another way").backend == backend


@pytest.mark.parametrize("backend", ["e2b", "local"])
def test_a_follow_up_stays_with_the_backend(make_run: MakeRun, alice: User, settings: Settings, backend: str) -> None:
    settings.SANDBOX_BACKEND = "local" if backend == "e2b" else "e2b"
    run = make_run(status=RunStatus.SUCCEEDED, backend=backend)
    services.send_follow_up(run=run, by=alice, prompt="More")
    run.refresh_from_db()
    assert (run.status, run.backend) == (RunStatus.QUEUED, backend)
