"""`manage.py e2b`: the template is built here or by a worker, and seen through either way; and what there is."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from e2b import Sandbox as Machine

from sandboxes.e2b import template
from sandboxes.e2b.backend import INSTALLATION, KEY
from tasks.management.commands import e2b
from tasks.models import Operation, OperationStatus, Run, Sandbox, SandboxStatus
from tasks.running import backends, operations, templates
from tests.e2bcloud.process import Cloud

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with Cloud.start() as cloud:
        yield cloud


@pytest.fixture(autouse=True)
def cloud(running: Cloud, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setattr(template, "LOOK_S", 0.01)
    monkeypatch.setattr(e2b, "LOOK_S", 0.01)
    running.clear()
    for name in {build["name"] for build in running.builds()}:
        httpx.delete(f"{running.url}/templates/{name}", headers={"X-API-KEY": running.options["api_key"]}).raise_for_status()
    for sandbox in running.sandboxes():
        running.vanish(sandbox["id"])
    settings.E2B_API_KEY, settings.E2B_API_URL, settings.E2B_TEMPLATE = running.options["api_key"], running.url, ""
    backends.backend.cache_clear()
    yield running
    backends.backend.cache_clear()


def command(*words: str) -> tuple[str, str]:
    """What it says on standard output and on standard error."""
    out, err = io.StringIO(), io.StringIO()
    call_command("e2b", *words, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_without_a_worker_it_builds_the_template_itself(cloud: Cloud) -> None:
    out, err = command("build-template")
    name = templates.wanted().name
    assert out == f"{name} is ready. E2B sandboxes that are made from now on use {name}.\n"
    lines = err.splitlines()
    assert lines[0] == f"Asking E2B for the template {name}"
    assert lines[-1] == "Template is ready"
    assert len(lines) == len(Operation.objects.get().log.splitlines())
    (build,) = cloud.builds()
    assert (build["request"]["cpuCount"], build["request"]["memoryMB"]) == (2, 2048)


def test_its_result_is_json_when_that_is_asked_for(cloud: Cloud) -> None:
    out, _ = command("build-template", "--cpu", "4", "--memory", "4096", "--name", "ours", "--json")
    assert json.loads(out) == {"template": "ours", "cpu": 4, "memory_mb": 4096, "operation": Operation.objects.get().pk}
    (build,) = cloud.builds()
    assert build["name"] == "ours"


def test_a_second_time_there_is_nothing_to_do_unless_it_is_forced(cloud: Cloud) -> None:
    command("build-template")
    assert "has the template" in command("build-template")[1]
    assert len(cloud.builds()) == 1
    command("build-template", "--force")
    assert len(cloud.builds()) == 2


def test_a_failure_is_its_reason_after_the_log(cloud: Cloud) -> None:
    cloud.fault("build", count=1, message="npm error code EINTEGRITY", step="5")
    err = io.StringIO()
    with pytest.raises(CommandError, match=r"could not be built \(step 5\): npm error code EINTEGRITY") as failed:
        call_command("e2b", "build-template", stderr=err)
    assert failed.value.returncode == 1
    assert err.getvalue().endswith("npm error code EINTEGRITY\n")


@pytest.mark.django_db(transaction=True)
def test_what_a_worker_builds_already_is_followed_to_its_end(cloud: Cloud) -> None:
    operation = operations.begin_template(templates.wanted())
    is_at_it, may_go_on = threading.Event(), threading.Event()

    def tell(log: str) -> None:
        is_at_it.set()
        may_go_on.wait(30)

    def worker() -> None:
        operations.work(operation.pk, tell=tell)
        connection.close()

    thread = threading.Thread(target=worker)
    thread.start()
    assert is_at_it.wait(30)
    threading.Timer(0.1, may_go_on.set).start()
    out, err = command("build-template")
    thread.join()
    assert err == Operation.objects.get().log
    assert "is ready" in out
    assert len(cloud.builds()) == 1


@pytest.mark.parametrize("action", ["build-template", "list"])
def test_without_a_key_it_says_what_to_do(settings: Any, action: str) -> None:
    settings.E2B_API_KEY = ""
    with pytest.raises(CommandError, match=r"^E2B_API_KEY is not set\. Make a key at E2B"):
        command(action)
    assert not Operation.objects.exists()


def test_a_size_that_no_sandbox_has_is_refused() -> None:
    with pytest.raises(CommandError, match="even number"):
        command("build-template", "--memory", "2047")


def test_the_templates_are_listed_with_the_one_that_is_used() -> None:
    assert command("templates")[0] == "There are none.\nClaude Code runs in claude.\n"
    old = templates.Wanted("asynccode-0123456789", "0123456789", 2, 1024)
    Operation.objects.create(kind=templates.KIND, subject=old.subject, status=OperationStatus.SUCCEEDED)
    command("build-template")
    lines = command("templates")[0].splitlines()
    assert lines[0].split() == ["NAME", "BUILT", "CPU", "MEMORY", "AGENTS"]
    assert any(line.startswith(templates.wanted().name) and line.endswith("2048 MB  as pinned") for line in lines)
    assert any(line.startswith(old.name) and line.endswith("1024 MB  older versions") for line in lines)
    assert lines[-1] == f"Claude Code runs in {templates.wanted().name}."


def test_sandboxes_are_listed_beside_our_rows(cloud: Cloud, make_run: Any) -> None:
    def machine(run: Run | None) -> str:
        key = backends.key(run.pk if run else 12345, 1)
        return Machine.create(metadata={INSTALLATION: backends.installation(), KEY: key}, **cloud.options).sandbox_id

    def row(run: Run, ref: str) -> None:
        Sandbox.objects.create(run=run, generation=1, backend="e2b", ref=ref, status=SandboxStatus.LIVE)

    both, lost = make_run(backend="e2b"), make_run(backend="e2b")
    there, stray = machine(both), machine(None)
    row(both, there)
    row(lost, "igone")
    Machine.create(metadata={INSTALLATION: "another"}, **cloud.options)
    rows = [line.split(maxsplit=1) for line in command("list")[0].splitlines()[1:]]
    said = {ref: " ".join(rest.split()) for ref, rest in rows}
    assert said == {
        there: f"running {both.pk} 1 Live",
        stray: "running 12345 1 none: it will be destroyed",
        "igone": f"no such sandbox {lost.pk} 1 Live",
    }
