"""What a repository's environment may be."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tasks import environment, repositories, services
from tasks.errors import Conflict, InvalidInput, NotAllowed
from tasks.models import Operation, OperationStatus, Phase, Repo, Run, RunStatus, SandboxStatus, Task, User
from tasks.running import nudge

pytestmark = pytest.mark.django_db


@pytest.fixture
def repo(alice: User) -> Repo:
    return Repo.objects.create(owner=alice, source="https://example.org/repo", name="repo")


MakeRepo = Callable[[User], Repo]


@pytest.fixture
def make_repo() -> MakeRepo:
    return lambda owner: Repo.objects.create(owner=owner, source="https://example.org/theirs", name="theirs")


def update(repo: Repo, by: User, **changes: object) -> None:
    fields = {"setup_script": "", "check_command": "", "network_preset": "registries", "network_hosts": []}
    environment.update_environment(repo=repo, by=by, **fields | changes)


def test_hosts_are_kept_in_one_spelling(repo: Repo, alice: User) -> None:
    update(repo, alice, network_hosts=["Example.ORG.", " *.Example.net:8443 ", "", "example.org", "[2001:4860::1]:443"])
    repo.refresh_from_db()
    assert repo.network_hosts == ["example.org", "*.example.net:8443", "[2001:4860::1]:443"]
    update(repo, alice, network_hosts=repo.network_hosts)  # what is kept can be given again


@pytest.mark.parametrize("host", ["bad host", "http://example.org", "user@example.org", "*.1.2.3.4", "example.org:99999", "*", "0x7f.1"])
def test_what_names_no_host_is_refused(repo: Repo, alice: User, host: str) -> None:
    with pytest.raises(InvalidInput, match="Line 1") as refused:
        update(repo, alice, network_hosts=[host])
    assert refused.value.field == "network_hosts"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"network_preset": "all"}, "network_preset"),
        ({"setup_script": "a\0b"}, "setup_script"),
        ({"check_command": "x" * 100_001}, "check_command"),
        ({"name": "x" * 201}, "name"),
        ({"name": " "}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"network_hosts": [f"h{number}.example" for number in range(201)]}, "network_hosts"),
    ],
)
def test_an_environment_that_cannot_be_is_refused(repo: Repo, alice: User, changes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        update(repo, alice, **changes)
    assert refused.value.field == field


def test_a_secret_is_for_the_setup_script_only(repo: Repo, alice: User) -> None:
    variable = environment.set_variable(repo=repo, by=alice, name="TOKEN", value="s3cr3t", is_secret=True, phase=Phase.AGENT)
    assert variable.phase == Phase.SETUP
    assert b"s3cr3t" not in bytes(variable.value_encrypted)


def test_setting_a_variable_again_replaces_it(repo: Repo, alice: User) -> None:
    environment.set_variable(repo=repo, by=alice, name="A", value="1", is_secret=True)
    environment.set_variable(repo=repo, by=alice, name="A", value="2\nlines")
    variable = repo.variables.get()
    assert (variable.value, variable.is_secret, variable.phase) == ("2\nlines", False, Phase.AGENT)


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "É", "A=B", "PATH", "HOME", "https_proxy", "ASYNCCODE_X", "A" * 201])
def test_names_that_cannot_be_are_refused(repo: Repo, alice: User, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        environment.set_variable(repo=repo, by=alice, name=name, value="x")
    assert refused.value.field == "name"


@pytest.mark.parametrize("value", ["a\0b", "x" * 32_001])
def test_values_that_cannot_be_are_refused(repo: Repo, alice: User, value: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        environment.set_variable(repo=repo, by=alice, name="A", value=value)
    assert refused.value.field == "value"


def test_removing_a_repository_removes_its_mirror(repo: Repo, alice: User, settings: Any, tmp_path: Path) -> None:
    settings.DATA = tmp_path
    repo.mirror_path.mkdir(parents=True)
    environment.remove_repo(repo=repo, by=alice)
    assert not (tmp_path / "mirrors" / "1.git").exists()
    assert not Repo.objects.exists()
    assert not any(path.is_dir() for path in (tmp_path / "mirrors").iterdir())


def test_a_fetch_does_not_keep_a_repository(repo: Repo, alice: User) -> None:
    Operation.objects.create(kind="mirror", subject=f"repo:{repo.pk}", status=OperationStatus.RUNNING)
    environment.remove_repo(repo=repo, by=alice)
    assert not Repo.objects.exists()
    assert not Operation.objects.exists()


def test_runs_at_work_keep_it(alice: User, make_run: Callable[..., Run]) -> None:
    run = make_run(status=RunStatus.RUNNING)
    make_run(run.task)
    with pytest.raises(Conflict, match="2 runs are at work"):
        environment.remove_repo(repo=run.task.repo, by=alice)
    trial = make_run(make_task_of(alice))
    with pytest.raises(Conflict, match="1 run is at work"):
        environment.remove_repo(repo=trial.task.repo, by=alice)
    assert Repo.objects.filter(removed_at=None).count() == 2


def make_task_of(owner: User) -> Task:
    repo = Repo.objects.create(owner=owner, source="https://example.org/tried", name="tried")
    return Task.objects.create(owner=owner, repo=repo, title="Setup of tried", prompt="true", is_trial=True)


def test_trials_go_with_it_and_their_sandboxes_at_once(
    alice: User,
    make_run: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Callable[..., AbstractContextManager[object]],
) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(nudge, "enqueue_now", lambda queue, job, *_args: asked.append((queue, job)))
    run = make_run(make_task_of(alice), status=RunStatus.SUCCEEDED, sandbox=True)
    with django_capture_on_commit_callbacks(execute=True):
        environment.remove_repo(repo=run.task.repo, by=alice)
    assert not Repo.objects.exists()
    assert not Run.objects.exists()
    assert asked == [("host-here", "reap")]


def test_one_with_tasks_is_kept_for_their_history(alice: User, make_run: Callable[..., Run]) -> None:
    run = make_run(status=RunStatus.SUCCEEDED, sandbox=True)
    repo = run.task.repo
    environment.set_variable(repo=repo, by=alice, name="TOKEN", value="s3cr3t", is_secret=True)
    environment.remove_repo(repo=repo, by=alice)
    repo.refresh_from_db()
    assert repo.removed_at is not None
    assert repo.mirrored_at is None
    assert not Repo.objects.visible_to(alice).exists()
    assert not repo.variables.exists()
    assert run.sandboxes.get().status == SandboxStatus.LOST  # its objects were the mirror's
    run = Run.objects.get(pk=run.pk)
    shell = [services.AgentChoice("shell")]
    for verb in (
        lambda: services.send_follow_up(run=run, by=alice, prompt="more"),
        lambda: services.retry_run(run=run, by=alice),
        lambda: services.create_task(by=alice, repo=repo, prompt="true", agents=shell),
        lambda: repositories.fetch_repo(repo=repo, by=alice),
    ):
        with pytest.raises(Conflict, match="was removed"):
            verb()


def test_adding_it_again_brings_it_back_with_a_fresh_mirror(alice: User, make_run: Callable[..., Run]) -> None:
    run = make_run(status=RunStatus.SUCCEEDED)
    repo = run.task.repo
    environment.remove_repo(repo=repo, by=alice)
    repo.refresh_from_db()
    Repo.objects.filter(pk=repo.pk).update(source="https://example.org/same")
    back = repositories.add_repo(by=alice, source="https://example.org/same")
    assert (back.pk, back.removed_at) == (repo.pk, None)
    assert Operation.objects.get().status == OperationStatus.QUEUED
    services.send_follow_up(run=Run.objects.get(pk=run.pk), by=alice, prompt="more")


def test_a_name_is_shown_instead_of_the_sources_own(repo: Repo, alice: User) -> None:
    update(repo, alice, name="  The shop ")
    repo.refresh_from_db()
    assert repo.name == "The shop"
    update(repo, alice)
    repo.refresh_from_db()
    assert repo.name == "The shop"


def test_several_variables_are_set_together_or_not_at_all(repo: Repo, alice: User) -> None:
    environment.set_variable(repo=repo, by=alice, name="A", value="old", is_secret=True)
    environment.set_variables(repo=repo, by=alice, text="A=1\nB=2")
    assert {v.name: (v.value, v.is_secret) for v in repo.variables.all()} == {"A": ("1", False), "B": ("2", False)}
    for text in ("C=1\nPATH=2", "", "# nothing", "C=1\nC=2", f"C={'x' * 32_001}", "C=a\0b", "x" * 100_001):
        with pytest.raises(InvalidInput) as refused:
            environment.set_variables(repo=repo, by=alice, text=text)
        assert refused.value.field == "lines"
    assert repo.variables.count() == 2


def test_not_more_variables_than_may_be(repo: Repo, alice: User) -> None:
    environment.set_variables(repo=repo, by=alice, text="\n".join(f"V{number}=x" for number in range(200)))
    environment.set_variable(repo=repo, by=alice, name="V7", value="again")
    with pytest.raises(Conflict, match="at most 200"):
        environment.set_variable(repo=repo, by=alice, name="V200", value="x")


def test_many_lines_that_are_wrong_are_not_all_said(repo: Repo, alice: User) -> None:
    with pytest.raises(InvalidInput, match="90 more lines are wrong") as refused:
        environment.set_variables(repo=repo, by=alice, text="wrong\n" * 100)
    assert refused.value.message.count("\n") == environment.MOST_ERRORS


def test_only_the_owner_may_do_any_of_it(repo: Repo, bob: User) -> None:
    with pytest.raises(NotAllowed):
        update(repo, bob)
    with pytest.raises(NotAllowed):
        environment.set_variable(repo=repo, by=bob, name="A", value="")
    with pytest.raises(NotAllowed):
        environment.set_variables(repo=repo, by=bob, text="A=1")
    with pytest.raises(NotAllowed):
        environment.remove_variable(repo=repo, by=bob, name="A")
    with pytest.raises(NotAllowed):
        environment.remove_repo(repo=repo, by=bob)


def test_a_template_has_a_name_that_e2b_knows(repo: Repo, alice: User, settings: Any) -> None:
    settings.E2B_API_KEY = "e2b_key"
    update(repo, alice, template=" team/python-3.12:v2 ")
    repo.refresh_from_db()
    assert repo.template == "team/python-3.12:v2"
    for wrong in ("-x", "a b", "a\nb", "x" * 201, "../x"):
        with pytest.raises(InvalidInput) as refused:
            update(repo, alice, template=wrong)
        assert refused.value.field == "template"
    update(repo, alice)
    repo.refresh_from_db()
    assert repo.template == "team/python-3.12:v2"


def test_without_e2b_a_name_is_refused_with_what_may_stand_there_instead(
    make_repo: MakeRepo, alice: User, bob: User, settings: Any
) -> None:
    settings.E2B_API_KEY = ""
    with pytest.raises(InvalidInput, match=r"not set up here\. Give the absolute path of a folder with a root file system"):
        update(make_repo(alice), alice, template="team/python")
    with pytest.raises(InvalidInput, match=r"not set up here\. Leave this empty"):
        update(make_repo(bob), bob, template="team/python")


def test_a_folder_of_this_server_is_for_operators_to_set(make_repo: MakeRepo, alice: User, bob: User, tmp_path: Path) -> None:
    operators, bobs = make_repo(alice), make_repo(bob)
    update(operators, alice, template=f"{tmp_path}/")
    operators.refresh_from_db()
    assert operators.template == str(tmp_path)
    with pytest.raises(InvalidInput, match="Only operators"):
        update(bobs, bob, template=str(tmp_path))
    for wrong in (f"{tmp_path}/none", f"{tmp_path}/../{tmp_path.name}", "/etc/passwd", "/" + "x" * 200, f"{tmp_path}/a\nb"):
        with pytest.raises(InvalidInput, match="is no folder of this server"):
            update(operators, alice, template=wrong)


def test_a_template_that_is_there_stays_whatever_may_be_set_now(make_repo: MakeRepo, bob: User) -> None:
    repo = make_repo(bob)
    Repo.objects.update(template="/srv/set/by/somebody/who/was/an/operator")
    repo.refresh_from_db()
    update(repo, bob, template=repo.template, check_command="make test")
    repo.refresh_from_db()
    assert (repo.check_command, repo.template) == ("make test", "/srv/set/by/somebody/who/was/an/operator")
