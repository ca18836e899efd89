"""Repositories and their environments, on pages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from tasks.models import Operation, OperationStatus, Repo, Task, User

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def repo(alice: User) -> Repo:
    return Repo.objects.create(owner=alice, source="https://example.org/repo", name="repo")


@pytest.fixture
def address(repo: Repo) -> str:
    return f"/repos/{repo.pk}/"


def test_a_repository_is_added_and_its_progress_shown(as_alice: Client, alice: User) -> None:
    assert as_alice.post("/repos/", {"source": "https://example.org/new"}).status_code == 302
    Operation.objects.update(status=OperationStatus.RUNNING, percent=40, progress="Receiving objects")
    part = as_alice.get("/repos/", headers=HTMX).content.decode()
    assert 'value="40"' in part
    assert "receiving objects" in part
    assert "data-poll" in part


def test_a_mirror_that_failed_says_why_and_can_be_tried_again(as_alice: Client, repo: Repo, address: str) -> None:
    Operation.objects.create(kind="mirror", subject=f"repo:{repo.pk}", status=OperationStatus.FAILED, error="example.org does not answer.")
    page = as_alice.get("/repos/").content.decode()
    assert "example.org does not answer." in page
    assert "Try again" in page
    as_alice.post(f"{address}fetch")
    assert Operation.objects.filter(status=OperationStatus.QUEUED).count() == 1


def test_a_source_that_is_refused_says_why(as_alice: Client) -> None:
    response = as_alice.post("/repos/", {"source": "ext::sh -c x"})
    assert response.status_code == 422
    assert "remote helpers" in response.content.decode()


def test_the_environment_is_saved(as_alice: Client, repo: Repo, address: str) -> None:
    data = {"setup_script": "make\r\ndeps", "check_command": "make test", "network_preset": "none", "network_hosts": "Example.org\r\n\r\n"}
    assert as_alice.post(address, data).status_code == 302
    repo.refresh_from_db()
    assert (repo.setup_script, repo.check_command, repo.network_preset) == ("make\ndeps", "make test", "none")
    assert repo.network_hosts == ["example.org"]


def test_a_host_that_is_none_is_pointed_at(as_alice: Client, address: str) -> None:
    response = as_alice.post(address, {"network_preset": "none", "network_hosts": "ok.example\nbad host"})
    assert response.status_code == 422
    page = response.content.decode()
    assert "Line 2 (bad host)" in page
    assert 'aria-invalid="true"' in page


def test_a_secret_is_never_shown_again(as_alice: Client, repo: Repo, address: str) -> None:
    as_alice.post(f"{address}variables", {"name": "NPM_TOKEN", "value": "hunter2-hunter2", "is_secret": "on", "phase": "agent"})
    variable = repo.variables.get()
    assert (variable.value, variable.phase) == ("hunter2-hunter2", "setup")
    page = as_alice.get(address).content.decode()
    assert "NPM_TOKEN" in page
    assert "hunter2" not in page


def test_removing_a_variable_asks_first(as_alice: Client, repo: Repo, address: str) -> None:
    as_alice.post(f"{address}variables", {"name": "MODE", "value": "fast", "phase": "agent"})
    assert "Remove MODE?" in as_alice.get(f"{address}variables/MODE/remove").content.decode()
    assert repo.variables.count() == 1
    as_alice.post(f"{address}variables/MODE/remove")
    assert repo.variables.count() == 0


def test_a_name_that_is_none_is_refused(as_alice: Client, address: str) -> None:
    response = as_alice.post(f"{address}variables", {"name": "no-name", "value": "x"})
    assert response.status_code == 422
    assert "letters, digits and underscores" in response.content.decode()


def test_an_unused_repository_can_be_removed(as_alice: Client, repo: Repo, address: str) -> None:
    assert "Remove repo?" in as_alice.get(f"{address}remove").content.decode()
    assert as_alice.post(f"{address}remove").status_code == 302
    assert not Repo.objects.exists()


@pytest.mark.parametrize("path", ["", "fetch", "remove", "variables", "variables/MODE/remove"])
def test_another_users_repository_is_not_there(as_bob: Client, address: str, path: str) -> None:
    assert as_bob.post(address + path, {"name": "X", "value": "y"}).status_code == 404
    assert as_bob.get(address).status_code == 404
