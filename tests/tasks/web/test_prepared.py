"""Prepared environments on the page of their repository."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from tasks.models import EventKind, Patch, PreparedEnvironment, PreparedStatus, Repo, Run, RunStatus, Task, User
from tasks.running import events

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true", "HX-Target": "prepared"}


@pytest.fixture
def repo(alice: User) -> Repo:
    return Repo.objects.create(owner=alice, source="https://example.org/repo", name="repo", setup_script="make deps")


@pytest.fixture
def make_prepared(repo: Repo) -> Callable[..., PreparedEnvironment]:
    def make(status: PreparedStatus = PreparedStatus.READY, **fields: object) -> PreparedEnvironment:
        number = PreparedEnvironment.objects.count()
        expires_at = timezone.now() + timedelta(days=7)
        defaults = {"backend": "local", "host": "here", "key": f"{number:064}", "base_commit": "abcdef01" * 5, "expires_at": expires_at}
        return PreparedEnvironment.objects.create(repo=repo, status=status, **defaults | fields)

    return make


def shown(client: Client, repo: Repo) -> str:
    """The text of the part that shows them."""
    part = client.get(f"/repos/{repo.pk}/", headers=HTMX).content.decode()
    return " ".join(re.sub("<[^>]*>", " ", part).split())


def test_without_any_the_page_says_when_one_is_built(as_alice: Client, repo: Repo) -> None:
    assert "None yet. The next run that starts, or a trial that goes well, has one built." in shown(as_alice, repo)


@pytest.mark.parametrize("change", [{"setup_script": ""}, {"prepares": False}])
def test_where_there_is_nothing_to_prepare_the_page_is_silent(as_alice: Client, repo: Repo, change: dict[str, object]) -> None:
    Repo.objects.filter(pk=repo.pk).update(**change)
    assert shown(as_alice, repo) == ""


def test_one_that_is_ready_says_what_it_saves_and_how_long_it_is_kept(
    as_alice: Client, repo: Repo, make_prepared: Callable[..., PreparedEnvironment]
) -> None:
    row = make_prepared(seconds=42.0, log="<b>installed</b>\n", used_at=timezone.now())
    text = shown(as_alice, repo)
    assert "Ready · the script took 42 s" in text
    assert "On this machine · from abcdef01" in text
    assert "used" in text
    assert f"kept until {row.expires_at:%-d %B}" in text
    assert "&lt;b&gt;installed&lt;/b&gt;" in text
    assert "Rebuild… Delete…" in text


def test_one_that_is_built_shows_where_it_is_and_what_its_script_says(
    as_alice: Client,
    repo: Repo,
    make_prepared: Callable[..., PreparedEnvironment],
    make_task: Callable[..., Task],
    make_run: Callable[..., Run],
) -> None:
    run = make_run(make_task(repo=repo, is_trial=True), status=RunStatus.RUNNING, stage="setup", started_at=timezone.now())
    events.append(run.pk, EventKind.LOG, {"stream": "stdout", "text": "unpacking\n", "step": "setup"})
    make_prepared(PreparedStatus.BUILDING, run=run, expires_at=None)
    part = as_alice.get(f"/repos/{repo.pk}/", headers=HTMX).content.decode()
    assert "Running the setup script" in part
    assert "unpacking" in part
    assert "data-poll" in part
    assert "Stop…" in part
    assert run.get_absolute_url() in part
    assert "Rebuild…" not in part


def test_one_whose_script_changes_files_of_the_repository_names_them(
    as_alice: Client,
    repo: Repo,
    make_prepared: Callable[..., PreparedEnvironment],
    make_task: Callable[..., Task],
    make_run: Callable[..., Run],
) -> None:
    run = make_run(make_task(repo=repo, is_trial=True), status=RunStatus.SUCCEEDED)
    names = {"a.json": "modified", "deps/x": "added", "<b>": "deleted", "c": "modified", "d": "modified"}
    files = [{"path": path, "state": state} for path, state in names.items()]
    Patch.objects.create(run=run, turn=run.turns.get(), kind="final", content=b"", sha256="0" * 64, files=files)
    make_prepared(run=run)
    assert "changed in files under version control (a.json, &lt;b&gt;, c, …)." in shown(as_alice, repo)


def test_one_that_failed_says_why(as_alice: Client, repo: Repo, make_prepared: Callable[..., PreparedEnvironment]) -> None:
    make_prepared(PreparedStatus.FAILED, error="The setup script ended with exit code 1.", log="no such package\n")
    text = shown(as_alice, repo)
    assert "Failed" in text
    assert "The setup script ended with exit code 1." in text
    assert "no such package" in text


def test_it_is_deleted_after_a_question(as_alice: Client, repo: Repo, make_prepared: Callable[..., PreparedEnvironment]) -> None:
    row = make_prepared()
    address = f"/repos/{repo.pk}/prepared/{row.pk}/delete"
    assert "Delete this environment?" in as_alice.get(address).content.decode()
    row.refresh_from_db()
    assert row.status == PreparedStatus.READY
    part = as_alice.post(address, headers=HTMX).content.decode()
    assert "It is deleted." in part
    assert "None yet." in part
    row.refresh_from_db()
    assert row.status == PreparedStatus.GONE
    assert as_alice.post(address).status_code == 404


def test_one_that_cannot_be_built_anew_stays_and_says_why(
    as_alice: Client, repo: Repo, make_prepared: Callable[..., PreparedEnvironment]
) -> None:
    row = make_prepared()
    Repo.objects.filter(pk=repo.pk).update(setup_script="")
    response = as_alice.post(f"/repos/{repo.pk}/prepared/{row.pk}/rebuild")
    assert response.status_code == 409
    assert "it has no setup script" in response.content.decode()
    row.refresh_from_db()
    assert row.status == PreparedStatus.READY


@pytest.mark.parametrize("verb", ["rebuild", "delete"])
def test_that_of_somebody_else_is_not_there(
    client: Client, bob: User, repo: Repo, verb: str, make_prepared: Callable[..., PreparedEnvironment]
) -> None:
    client.force_login(bob)
    address = f"/repos/{repo.pk}/prepared/{make_prepared().pk}/{verb}"
    assert client.get(address).status_code == 404
    assert client.post(address).status_code == 404


def test_that_of_another_repository_is_not_there(as_alice: Client, alice: User, make_prepared: Callable[..., PreparedEnvironment]) -> None:
    other = Repo.objects.create(owner=alice, source="https://example.org/other", name="other")
    assert as_alice.get(f"/repos/{other.pk}/prepared/{make_prepared().pk}/delete").status_code == 404


def test_a_script_that_runs_in_each_sandbox_is_a_box_of_the_form(as_alice: Client, repo: Repo) -> None:
    form = {"setup_script": "make deps", "network_preset": "none"}
    as_alice.post(f"/repos/{repo.pk}/", form | {"runs_each_time": "on"})
    repo.refresh_from_db()
    assert not repo.prepares
    assert re.search(r'name="runs_each_time"[^>]* checked', as_alice.get(f"/repos/{repo.pk}/").content.decode())
    as_alice.post(f"/repos/{repo.pk}/", form)
    repo.refresh_from_db()
    assert repo.prepares
