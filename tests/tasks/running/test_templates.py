"""Which template a run's sandbox is made from, and the operation that builds ours: against the loopback cloud."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from django.utils import timezone
from e2b import Template

from agents.packages import PACKAGES
from agents.registry import ADAPTERS
from sandboxes.e2b import template
from tasks.errors import InvalidInput
from tasks.models import Operation, OperationStatus, Run, RunStatus, Sandbox, User
from tasks.running import jobs, operations, specs, templates, verdicts
from tasks.running.templates import KIND, Wanted
from tests.e2bcloud.process import Cloud

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
_seconds = itertools.count(1)


@pytest.fixture(autouse=True)
def _nothing_set(settings: Any) -> None:
    settings.E2B_API_KEY = settings.E2B_TEMPLATE = settings.LOCAL_ROOTFS = ""


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with Cloud.start() as cloud:
        yield cloud


@pytest.fixture
def cloud(running: Cloud, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """The cloud that settings name, without templates of ours."""
    monkeypatch.setattr(template, "LOOK_S", 0.01)
    running.clear()
    for name in {build["name"] for build in running.builds()}:
        httpx.delete(f"{running.url}/templates/{name}", headers={"X-API-KEY": running.options["api_key"]}).raise_for_status()
    settings.E2B_API_KEY, settings.E2B_API_URL = running.options["api_key"], running.url
    return running


def was_built(what: Wanted) -> Operation:
    finished_at = timezone.now() + timezone.timedelta(seconds=next(_seconds))
    return Operation.objects.create(kind=KIND, subject=what.subject, status=OperationStatus.SUCCEEDED, finished_at=finished_at)


def work(what: Wanted) -> Operation:
    operation = operations.begin_template(what)
    jobs.run_operation(operation.pk)
    operation.refresh_from_db()
    return operation


# --- which one --------------------------------------------------------------------------------------------------------------

OLD = Wanted("asynccode-0123456789", "0123456789", 2, 2048)
OLDER = Wanted("asynccode-9876543210", "9876543210", 2, 2048)


@pytest.mark.parametrize(
    ("agent", "name"),
    [("claude", "claude"), ("codex", "codex"), ("gemini", "gemini"), ("opencode", "opencode"), ("copilot", "copilot"), ("qwen", "base")],
)
def test_without_one_of_ours_it_is_the_agents_own_at_e2b(agent: str, name: str) -> None:
    assert templates.current(agent) == name


def test_one_with_older_pins_is_better_than_none_of_ours() -> None:
    was_built(OLDER)
    was_built(OLD)
    assert templates.current("claude") == OLD.name


def test_one_with_todays_pins_comes_first_whatever_was_built_later() -> None:
    was_built(templates.wanted())
    was_built(OLD)
    assert templates.current("claude") == templates.wanted().name


def test_of_those_with_todays_pins_the_newest() -> None:
    was_built(templates.wanted())
    was_built(templates.wanted(cpu=4, memory_mb=4096))
    assert templates.current("claude") == templates.wanted(cpu=4, memory_mb=4096).name


def test_what_failed_or_is_being_built_counts_for_nothing() -> None:
    for status in (OperationStatus.FAILED, OperationStatus.RUNNING):
        Operation.objects.create(kind=KIND, subject=templates.wanted().subject, status=status)
    assert templates.current("claude") == "claude"


def test_the_setting_is_stronger(settings: Any) -> None:
    was_built(templates.wanted())
    settings.E2B_TEMPLATE = "team/ours"
    assert templates.current("claude") == "team/ours"


def test_the_repositorys_is_stronger_still(make_run: MakeRun, settings: Any) -> None:
    settings.E2B_TEMPLATE = "team/ours"
    run = make_run(backend="e2b")
    assert templates.for_run(run) == "team/ours"
    run.task.repo.template = "shop"
    assert templates.for_run(run) == "shop"


def test_a_folder_is_no_template_of_e2b_and_a_name_none_for_local_sandboxes(make_run: MakeRun, settings: Any) -> None:
    settings.LOCAL_ROOTFS = "/srv/rootfs"
    run = make_run(backend="local")
    assert templates.for_run(run) == "/srv/rootfs"
    run.task.repo.template = "shop"
    assert templates.for_run(run) == "/srv/rootfs"
    run.task.repo.template = "/srv/other"
    assert templates.for_run(run) == "/srv/other"
    run.backend = "e2b"
    assert templates.for_run(run) == "base"


def test_a_folder_counts_only_while_its_owner_may_set_one(make_run: MakeRun, bob: User) -> None:
    run = make_run(backend="local", owner=bob)
    run.task.repo.template = "/srv/other"
    assert templates.for_run(run) == ""


def test_another_version_of_a_program_makes_another_template(monkeypatch: pytest.MonkeyPatch) -> None:
    before = templates.wanted()
    monkeypatch.setitem(PACKAGES, "claude", replace(PACKAGES["claude"], version="99.0.0"))
    assert templates.wanted().name != before.name
    assert templates.wanted().contents != before.contents


def test_a_subject_says_all_of_it() -> None:
    for what in (templates.wanted(), templates.wanted(cpu=4, memory_mb=8192, name="ours", anew=True)):
        assert Wanted.of(what.subject) == what
    assert Wanted.of("of another version") is None


@pytest.mark.parametrize(
    "wrong", [{"cpu": 0}, {"cpu": 33}, {"memory_mb": 511}, {"memory_mb": 2049}, {"memory_mb": 10**6}, {"name": "A"}, {"name": "a b"}]
)
def test_sizes_and_names_that_e2b_has_not_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        templates.wanted(**wrong)
    assert refused.value.field == next(iter(wrong))


def test_every_agents_program_is_in_it() -> None:
    text = Template.to_dockerfile(template.describe(templates.ours()))
    for adapter in ADAPTERS.values():
        if adapter.package:
            assert f"exec {PACKAGES[adapter.package].path} " in text


# --- building it ------------------------------------------------------------------------------------------------------------


def test_it_is_built_with_progress_and_its_log_is_kept(cloud: Cloud) -> None:
    seen: list[str] = []
    operation = operations.begin_template(templates.wanted())
    operations.work(operation.pk, tell=lambda log: seen.append(Operation.objects.get().progress))
    operation.refresh_from_db()
    assert operation.status == OperationStatus.SUCCEEDED
    assert operation.percent == 100
    lines = operation.log.splitlines()
    assert any("npm install" in line and "@anthropic-ai/claude-code@" in line for line in lines)
    assert lines[-1] == "Template is ready"
    assert "Template is ready" in seen
    assert templates.current("claude") == templates.wanted().name


def test_built_a_second_time_it_is_found(cloud: Cloud) -> None:
    work(templates.wanted())
    again = work(templates.wanted())
    assert again.status == OperationStatus.SUCCEEDED
    assert again.log.endswith(f"E2B has the template {templates.wanted().name} already\n")
    assert len(cloud.builds()) == 1


def test_while_one_is_going_on_there_is_no_second(cloud: Cloud) -> None:
    first = operations.begin_template(templates.wanted())
    Operation.objects.update(status=OperationStatus.RUNNING)
    assert operations.begin_template(templates.wanted()) == first
    assert operations.begin_template(templates.wanted(anew=True)) == first
    assert operations.begin_template(templates.wanted(cpu=4)) != first


def test_a_failure_says_why_and_keeps_its_log(cloud: Cloud) -> None:
    cloud.fault("build", count=1, message="npm error code EINTEGRITY", step="5")
    operation = work(templates.wanted())
    assert operation.status == OperationStatus.FAILED
    assert operation.error == f"The template {templates.wanted().name} could not be built (step 5): npm error code EINTEGRITY"
    assert "npm error code EINTEGRITY" in operation.log
    assert templates.current("claude") == "claude"
    assert work(templates.wanted()).status == OperationStatus.SUCCEEDED


def test_a_worker_that_dies_is_followed_by_one_that_goes_on_with_the_build(cloud: Cloud) -> None:
    what = templates.wanted()
    operation = operations.begin_template(what)
    Template.build_in_background(template.describe(templates.ours()), what.name, **cloud.options)
    past = timezone.now() - timezone.timedelta(minutes=1)
    Operation.objects.update(status=OperationStatus.RUNNING, lease_until=past, log="of the one that died\n", tries=1)
    jobs.run_operation(operation.pk)
    operation.refresh_from_db()
    assert operation.status == OperationStatus.SUCCEEDED
    assert "is under way already" in operation.log
    assert "of the one that died" not in operation.log
    assert len(cloud.builds()) == 1


def test_only_the_end_of_a_long_log_is_kept(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "MOST_LOG", 100)
    log = work(templates.wanted()).log
    assert len(log) == 100
    assert log.endswith("Template is ready\n")


def test_without_a_key_it_says_what_to_do() -> None:
    operation = work(templates.wanted())
    assert operation.status == OperationStatus.FAILED
    assert operation.error.startswith("E2B_API_KEY is not set.")


def test_pins_that_changed_since_it_was_asked_for_are_not_built_under_the_old_name(cloud: Cloud) -> None:
    operation = work(OLD)
    assert operation.error == "The agents' versions have changed since this was asked for. Build the template anew."
    assert cloud.builds() == []


# --- a template without the agent -------------------------------------------------------------------------------------------


def test_on_e2b_programs_are_started_by_name() -> None:
    codex = PACKAGES["codex"]
    assert templates.by_name(["/bin/sh", "-c", "it", codex.path, "exec"]) == ["/bin/sh", "-c", "it", "codex", "exec"]


@pytest.mark.parametrize(("backend", "program"), [("local", PACKAGES["claude"].path), ("e2b", "claude")])
def test_a_turn_starts_the_pinned_program_here_and_the_templates_at_e2b(
    make_run: MakeRun, settings: Any, backend: str, program: str
) -> None:
    settings.ANTHROPIC_API_KEY = "sk-of-the-environment"
    run = make_run(agent="claude", backend=backend, sandbox=True)
    spec = specs.build(run, run.turns.get(), run.sandboxes.get(), restores_patch=False)
    assert spec.steps[-1].argv[0] == program


@pytest.mark.parametrize(
    ("agent", "end", "stderr"),
    [
        ("claude", {"reason": "error", "error": "The command 'claude' could not be started: No such file or directory."}, ""),
        ("codex", {"reason": "exit", "code": 127}, "codex: 1: exec: codex: not found"),
    ],
)
def test_a_template_without_the_agents_program_is_named(make_run: MakeRun, agent: str, end: dict[str, Any], stderr: str) -> None:
    run = make_run(agent=agent, backend="e2b", status=RunStatus.RUNNING, sandbox=True)
    Sandbox.objects.update(backend="e2b", record={"template": "base"}, parse_state={"adapter": {"stderr": stderr}})
    status, stage, outcome = verdicts.judge(run.turns.get(), {"step": "agent", **end}, has_patch=False)
    assert (status, stage) == (RunStatus.ERRORED, "agent")
    assert outcome.message == f"The template base has no {agent}. Build one with: manage.py e2b build-template"


def test_another_program_that_is_not_there_is_the_agents_own_affair(make_run: MakeRun) -> None:
    run = make_run(agent="codex", backend="e2b", status=RunStatus.RUNNING, sandbox=True)
    Sandbox.objects.update(record={"template": "base"}, parse_state={"adapter": {"stderr": "sh: 1: exec: make: not found"}})
    status, _, outcome = verdicts.judge(run.turns.get(), {"step": "agent", "reason": "exit", "code": 127}, has_patch=True)
    assert status == RunStatus.FAILED
    assert "template" not in outcome.message


def test_here_a_program_that_is_missing_is_no_templates_fault(make_run: MakeRun) -> None:
    run = make_run(agent="claude", status=RunStatus.RUNNING, sandbox=True)
    error = "The command 'claude' could not be started: No such file or directory."
    assert verdicts.judge(run.turns.get(), {"step": "agent", "reason": "error", "error": error}, has_patch=False)[2].message == error
