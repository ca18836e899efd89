"""A restricted task gets nothing secret of its repository and reaches nothing, whoever asks for its turns."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from sandboxes.base import NetworkMode, NetworkPolicy
from tasks import services
from tasks.errors import AppError
from tasks.models import Credential, PreparedEnvironment, PreparedStatus, Repo, Run, RunStatus, Task
from tasks.running import backends, jobs, model_access, operations, specs
from tests.tasks.conftest import MakeRun
from tests.tasks.running.fake import FakeBackend
from tests.tasks.running.test_prepared import Shop, shop, steps

__all__ = ["shop"]

pytestmark = pytest.mark.django_db
SECRET = "hunter2-hunter2"


@pytest.fixture
def run(make_run: MakeRun) -> Run:
    """Of a task of a repository with all that could be kept from it."""
    run = make_run(agent="claude", status=RunStatus.SUCCEEDED, sandbox=True)
    Repo.objects.filter(pk=run.task.repo_id).update(setup_script="make deps", network_preset="public", network_hosts=["example.org"])
    for name, is_secret in (("TOKEN", True), ("LEVEL", False)):
        variable = run.task.repo.variables.model(
            repo=run.task.repo, name=name, is_secret=is_secret, phase="setup" if is_secret else "agent"
        )
        variable.value = SECRET if is_secret else "7"
        variable.save()
    run.task.repo.mcp_servers.create(name="issues", command=["serve", f"--token={SECRET}"], env={"KEY": SECRET})
    key = Credential(owner=run.task.owner, provider="anthropic", base_url="https://nowhere.invalid")
    key.secret = "sk-ant-0123456789"
    key.save()
    return run


def handed_over(run: Run) -> str:
    """All that the supervisor is told of a run's last turn."""
    run = Run.objects.select_related("task__repo").get(pk=run.pk)
    sandbox = run.sandboxes.first() or run.sandboxes.create(generation=1, backend=run.backend, ref=f"ref-{run.pk}")
    return str(specs.build(run, run.turns.latest("number"), sandbox, restores_patch=False))


def test_no_secret_is_handed_over_now_or_later(run: Run) -> None:
    assert handed_over(run).count(SECRET) >= 3
    Task.objects.update(is_restricted=True)
    Run.objects.update(status=RunStatus.FAILED)
    run.refresh_from_db()
    services.send_follow_up(run=run, by=run.task.owner, prompt="more")
    Run.objects.update(status=RunStatus.FAILED)
    run.refresh_from_db()
    for one in (run, services.retry_run(run=run, by=run.task.owner)):
        assert SECRET not in handed_over(one)
        assert "'LEVEL': '7'" in handed_over(one)
        assert "make deps" in handed_over(one)


def test_its_network_is_the_agents_model_alone(run: Run, settings: Settings) -> None:
    settings.GATEWAY_PUBLIC_URL = "https://models.example.org"
    Task.objects.update(is_restricted=True)
    run = Run.objects.select_related("task__repo").get(pk=run.pk)
    assert backends.spec(run).network == NetworkPolicy(NetworkMode.NONE, ())
    run.backend = "e2b"
    assert model_access.fitted(run, run.sandboxes.get(), backends.spec(run)).network == NetworkPolicy(
        NetworkMode.NONE, ("models.example.org",)
    )


def test_its_sandbox_never_holds_a_models_key(run: Run, settings: Settings) -> None:
    Credential.objects.update(base_url="https://nowhere.example.org:8443/")
    Repo.objects.update(network_preset="public")
    settings.ALLOW_PRIVATE_HOSTS = frozenset()
    run = Run.objects.select_related("task__repo").get(pk=run.pk)
    run.backend = "e2b"
    way = model_access.way(run, run.sandboxes.get())
    assert way is not None
    assert way.keys == "environment"
    run.task.is_restricted = True
    with pytest.raises(AppError):
        model_access.way(run, run.sandboxes.get())


def test_no_environment_is_prepared_for_it_and_none_is_given_that_secrets_may_lie_in(shop: Shop, local: FakeBackend) -> None:
    def start() -> PreparedEnvironment | None:
        commit = operations.pin(shop.repo, "main")
        task = shop.make_task(repo=Repo.objects.get(), base_commit=commit, is_restricted=True)
        run = shop.make_run(task, status=RunStatus.STARTING)
        jobs.start_turn(run.pk, 1)
        return run.sandboxes.get().prepared

    assert start() is None
    assert not PreparedEnvironment.objects.exists()
    shop.start()
    assert shop.build().status == PreparedStatus.READY
    assert start() == shop.row()
    assert steps(local) == ["agent"]
    token = shop.repo.variables.model(repo=shop.repo, name="TOKEN", is_secret=True, phase="setup")
    token.value = SECRET
    token.save()
    shop.start()
    assert shop.build().status == PreparedStatus.READY
    assert start() is None
    assert steps(local) == ["setup", "agent"]
