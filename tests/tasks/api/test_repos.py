"""Repositories and their environments by the API."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.models import Operation, Repo, Task, User
from tests.tasks.api.conftest import Program

pytestmark = pytest.mark.django_db


@pytest.fixture
def repo(alice: User) -> Repo:
    return Repo.objects.create(owner=alice, source="https://example.org/a.git", name="a", default_branch="main", setup_script="true")


def test_a_repository_is_added_once_and_copied(alices: Program) -> None:
    first, second = (alices.post("/repos", {"source": "https://example.org/shop.git"}) for _ in range(2))
    assert (first.status, first.body["name"], first.body["mirrored_at"]) == (201, "shop", None)
    assert first.body["mirror"] == {"status": "queued", "percent": 0, "progress": "", "error": ""}
    assert second.body["id"] == first.body["id"]


@pytest.mark.parametrize("source", ["https://127.0.0.1/x", "ext::sh -c true", "/etc", "nothing"])
def test_a_source_that_must_not_be_read(bobs: Program, source: str) -> None:
    answer = bobs.post("/repos", {"source": source})
    assert (answer.status, answer.body["code"]) == (422, "source_refused")


def test_the_list(alices: Program, repo: Repo, bob: User) -> None:
    Repo.objects.create(owner=bob, source="https://example.org/b", name="b")
    assert [one["id"] for one in alices.get("/repos").body["items"]] == [repo.pk]
    assert alices.get("/repos?q=nothing").body["items"] == []


def test_what_is_not_sent_of_an_environment_stays(alices: Program, repo: Repo) -> None:
    answer = alices.ask("PATCH", f"/repos/{repo.pk}", {"check_command": "make test", "network_hosts": ["Example.org"]})
    assert answer.status == 200
    expected = {"setup_script": "true", "check_command": "make test", "network_hosts": ["example.org"], "name": "a"}
    assert expected.items() <= answer.body.items()
    assert alices.ask("PATCH", f"/repos/{repo.pk}", {"network_hosts": ["not a host"]}).body["errors"][0]["field"] == "network_hosts"


def test_variables_and_the_silence_on_secrets(alices: Program, repo: Repo) -> None:
    address = f"/repos/{repo.pk}/variables"
    assert alices.ask("PUT", f"{address}/LEVEL", {"value": "3"}).body == {
        "name": "LEVEL",
        "value": "3",
        "is_secret": False,
        "phase": "agent",
    }
    secret = alices.ask("PUT", f"{address}/TOKEN", {"value": "hush", "is_secret": True})
    assert (secret.body["value"], secret.body["phase"]) == (None, "setup")
    assert b"hush" not in alices.get(address).content
    assert [one["name"] for one in alices.get(address).body["items"]] == ["LEVEL", "TOKEN"]
    assert [alices.ask("DELETE", f"{address}/LEVEL").status for _ in range(2)] == [204, 404]
    assert alices.ask("PUT", f"{address}/PATH", {"value": "x"}).status == 422


def test_a_repository_is_fetched_and_removed(alices: Program, repo: Repo, make_task: Callable[..., Task]) -> None:
    answer = alices.post(f"/repos/{repo.pk}/fetch")
    assert (answer.status, answer.body["mirror"]["status"]) == (202, "queued")
    assert Operation.objects.filter(subject=f"repo:{repo.pk}").count() == 1
    assert alices.ask("DELETE", f"/repos/{repo.pk}").status == 204
    assert alices.get(f"/repos/{repo.pk}").status == 404
