"""Our template: its name, what is in it, and building it with the unmodified SDK against the loopback cloud."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from e2b import Template

from sandboxes.base import HOME, WORKSPACE
from sandboxes.e2b import template
from sandboxes.e2b.account import Account
from sandboxes.e2b.inside import RUN
from sandboxes.e2b.template import Program, Recipe
from sandboxes.errors import AccountRefused, SandboxError
from tests.e2bcloud.process import Cloud

RECIPE = Recipe("24.1.0-bookworm", [Program("demo 1.2.3", ["cd /opt", "npm install demo@1.2.3"])])


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with Cloud.start() as cloud:
        yield cloud


@pytest.fixture
def cloud(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.setattr(template, "LOOK_S", 0.01)
    running.clear()
    for name in {build["name"] for build in running.builds()}:
        httpx.delete(f"{running.url}/templates/{name}", headers={"X-API-KEY": running.options["api_key"]}).raise_for_status()
    return running


@pytest.fixture
def account(cloud: Cloud) -> Account:
    return Account(**cloud.options)


class Heard:
    def __init__(self) -> None:
        self.percents: list[int] = []
        self.lines: list[str] = []

    def __call__(self, percent: int, said: str) -> None:
        self.percents.append(percent)
        self.lines += said.splitlines()


@pytest.fixture
def heard() -> Heard:
    return Heard()


# --- what it is -------------------------------------------------------------------------------------------------------------


def test_its_name_says_what_it_is_made_of() -> None:
    assert RECIPE.name == Recipe("24.1.0-bookworm", [Program("demo 1.2.3", ["cd /opt", "npm install demo@1.2.3"])]).name
    others = [
        replace(RECIPE, node="24.2.0-bookworm"),
        replace(RECIPE, programs=[Program("demo 1.2.4", ["cd /opt", "npm install demo@1.2.4"])]),
        replace(RECIPE, cpu=4),
        replace(RECIPE, memory_mb=4096),
    ]
    assert len({RECIPE.name, *(other.name for other in others)}) == 5
    assert RECIPE.name.startswith("asynccode-")
    assert len(RECIPE.name) == len("asynccode-") + 10


def test_its_contents_are_the_same_on_another_machine() -> None:
    assert replace(RECIPE, cpu=8, memory_mb=8192).contents == RECIPE.contents
    assert replace(RECIPE, node="22").contents != RECIPE.contents


def test_it_holds_what_a_coding_sandbox_and_the_supervisor_need() -> None:
    text = Template.to_dockerfile(template.describe(RECIPE))
    assert text.startswith("FROM node:24.1.0-bookworm\n")
    for word in ("git", "python3", "ripgrep", "curl", "ca-certificates", "build-essential"):
        assert f" {word} " in text.replace("\n", " ")
    assert "RUN cd /opt && npm install demo@1.2.3\n" in text
    folders = f"{WORKSPACE} {HOME} {RUN}"
    assert f"RUN mkdir -p {folders} && chown user: {folders}\n" in text
    assert text.endswith(f"USER user\nWORKDIR {WORKSPACE}\n")


# --- building it ------------------------------------------------------------------------------------------------------------


def test_it_is_built_for_the_machine_asked_for(cloud: Cloud, account: Account, heard: Heard) -> None:
    assert template.build(replace(RECIPE, cpu=4, memory_mb=4096), account, heard)
    (build,) = cloud.builds()
    assert build["status"] == "ready"
    assert build["name"] == replace(RECIPE, cpu=4, memory_mb=4096).name
    assert (build["request"]["cpuCount"], build["request"]["memoryMB"]) == (4, 4096)
    assert build["steps"]["fromImage"] == "node:24.1.0-bookworm"
    as_root = [step["args"][1:] for step in build["steps"]["steps"] if step["type"] == "RUN"]
    assert as_root == [["root"]] * 4


def test_its_log_is_said_as_it_comes_each_line_once(cloud: Cloud, account: Account, heard: Heard) -> None:
    many = [Program(f"demo {number}", [f"echo {number}"]) for number in range(150)]  # more than one answer holds
    template.build(replace(RECIPE, programs=many), account, heard)
    said = [line for line in heard.lines if "] RUN echo " in line]
    assert [line.split()[3] for line in said] == [str(number) for number in range(150)]
    assert heard.lines[-1] == "Template is ready"
    assert heard.percents == sorted(heard.percents)
    assert heard.percents[-1] > 90


def test_building_it_twice_does_nothing_the_second_time(cloud: Cloud, account: Account, heard: Heard) -> None:
    template.build(RECIPE, account, heard)
    assert not template.build(RECIPE, account, heard)
    assert heard.lines[-1] == f"E2B has the template {RECIPE.name} already"
    assert len(cloud.builds()) == 1


def test_it_is_built_anew_when_that_is_asked_for(cloud: Cloud, account: Account, heard: Heard) -> None:
    template.build(RECIPE, account, heard)
    assert template.build(RECIPE, account, heard, force=True)
    first, second = cloud.builds()
    assert first["template"] == second["template"]
    assert (first["steps"]["force"], second["steps"]["force"]) == (False, True)


def test_under_a_name_of_ones_own_it_is_built_each_time(cloud: Cloud, account: Account, heard: Heard) -> None:
    for _ in range(2):
        assert template.build(RECIPE, account, heard, name="ours")
    assert [build["name"] for build in cloud.builds()] == ["ours", "ours"]


def test_a_build_that_is_under_way_is_waited_for(cloud: Cloud, account: Account, heard: Heard) -> None:
    """Whoever began it was killed, or is another process."""
    Template.build_in_background(template.describe(RECIPE), RECIPE.name, **cloud.options)
    assert template.build(RECIPE, account, heard)
    (build,) = cloud.builds()
    assert f"Build {build['id']} of it is under way already" in heard.lines
    assert "Template is ready" in heard.lines


def test_one_that_failed_is_built_again(cloud: Cloud, account: Account, heard: Heard) -> None:
    cloud.fault("build", count=1, message="npm error code EINTEGRITY", step="3")
    with pytest.raises(SandboxError, match=rf"^The template {RECIPE.name} could not be built \(step 3\): npm error code EINTEGRITY$"):
        template.build(RECIPE, account, heard)
    assert heard.lines[-1] == "npm error code EINTEGRITY"
    assert template.build(RECIPE, account, heard)
    assert [build["status"] for build in cloud.builds()] == ["error", "ready"]


def test_a_look_that_fails_does_not_end_it(cloud: Cloud, account: Account, heard: Heard) -> None:
    cloud.fault("500", count=2, path=r"^GET /templates/\w+/builds/[\w-]+/status")
    assert template.build(RECIPE, account, heard)
    assert heard.lines.count("Template is ready") == 1


def test_a_wrong_key_is_said(cloud: Cloud, account: Account, heard: Heard) -> None:
    with pytest.raises(AccountRefused, match="E2B_API_KEY"):
        template.build(RECIPE, replace(account, api_key="e2b_wrong"), heard)
    assert cloud.builds() == []
