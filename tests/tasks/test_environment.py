"""What a repository's environment may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks import environment
from tasks.errors import Conflict, InvalidInput, NotAllowed
from tasks.models import Operation, OperationStatus, Phase, Repo, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def repo(alice: User) -> Repo:
    return Repo.objects.create(owner=alice, source="https://example.org/repo", name="repo")


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


def test_a_repository_that_is_being_fetched_stays(repo: Repo, alice: User) -> None:
    Operation.objects.create(kind="mirror", subject=f"repo:{repo.pk}", status=OperationStatus.RUNNING)
    with pytest.raises(Conflict):
        environment.remove_repo(repo=repo, by=alice)


def test_only_the_owner_may_do_any_of_it(repo: Repo, bob: User) -> None:
    with pytest.raises(NotAllowed):
        update(repo, bob)
    with pytest.raises(NotAllowed):
        environment.set_variable(repo=repo, by=bob, name="A", value="")
    with pytest.raises(NotAllowed):
        environment.remove_variable(repo=repo, by=bob, name="A")
    with pytest.raises(NotAllowed):
        environment.remove_repo(repo=repo, by=bob)
