"""Repositories and their environments, on pages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tasks import trials
from tasks.models import EventKind, Operation, OperationStatus, Repo, Run, RunStatus, Task, User
from tasks.running import events

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
ENVIRONMENT = {"setup_script": "make deps", "check_command": "make test", "network_preset": "none", "network_hosts": "", "name": "repo"}


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


def test_what_tasks_from_github_may_do_is_chosen_where_the_repository_is_there(as_alice: Client, repo: Repo, address: str) -> None:
    assert "Tasks from GitHub" not in as_alice.get(address).content.decode()
    as_alice.post(address, {"network_preset": "none"})
    repo.refresh_from_db()
    assert repo.from_github == "restricted"
    Repo.objects.update(source="https://github.com/acme/shop")
    page = as_alice.get(address).content.decode()
    assert "Tasks from GitHub" in page
    assert "@asynccode do this" in page
    as_alice.post(address, {"network_preset": "none", "from_github": "as_others"})
    repo.refresh_from_db()
    assert repo.from_github == "as_others"
    assert as_alice.post(address, {"network_preset": "none", "from_github": "everything"}).status_code == 422


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


def test_the_list_says_how_each_mirror_is(as_alice: Client, alice: User) -> None:
    now = timezone.now()
    for name, fields in {
        "fresh": {"mirrored_at": now, "default_branch": "main", "has_lfs": True, "has_submodules": True},
        "mended": {"mirrored_at": now, "default_branch": "main"},
        "broken": {},
        "never": {},
    }.items():
        repo = Repo.objects.create(owner=alice, source=f"https://example.org/{name}", name=name, **fields)
        if name in ("mended", "broken"):
            Operation.objects.create(
                kind="mirror", subject=f"repo:{repo.pk}", status=OperationStatus.FAILED, error="No answer.", finished_at=now - timedelta(60)
            )
    page = as_alice.get("/repos/").content.decode()
    assert page.count("Kept up to date · fetched") == 2
    assert page.count("Could not be fetched: No answer.") == 1
    assert page.count("Not fetched yet") == 1
    assert "Git LFS" in page
    assert "Submodules" in page
    assert "data-poll" not in page  # nothing is under way


def test_the_list_takes_as_many_queries_for_many_as_for_one(
    as_alice: Client, alice: User, make_task: Callable[..., Task], django_assert_max_num_queries: Callable[..., object]
) -> None:
    for _ in range(20):
        make_task()
    with django_assert_max_num_queries(8):
        as_alice.get("/repos/")


def test_the_page_takes_few_queries(
    as_alice: Client, make_run: Callable[..., Run], make_task: Callable[..., Task], django_assert_max_num_queries: Callable[..., object]
) -> None:
    task = make_task(is_trial=True)
    make_run(task, status=RunStatus.SUCCEEDED)
    with django_assert_max_num_queries(16):  # with the log of a trial
        as_alice.get(f"/repos/{task.repo_id}/")


def test_trials_are_no_tasks_of_a_repository(as_alice: Client, make_task: Callable[..., Task]) -> None:
    task = make_task(is_trial=True)
    assert "0 tasks" in as_alice.get("/repos/").content.decode()
    assert "0 tasks" in as_alice.get(f"/repos/{task.repo_id}/").content.decode()


def test_many_are_searched_by_name_and_address(as_alice: Client, alice: User) -> None:
    for number in range(9):
        Repo.objects.create(owner=alice, source=f"https://example.org/team-{number}/x", name=f"shop {number}")
    assert 'type="search"' in as_alice.get("/repos/").content.decode()
    part = as_alice.get("/repos/?q=team-3 SHOP", headers=HTMX).content.decode()
    assert "shop 3" in part
    assert "shop 4" not in part
    assert "<html" not in part
    assert "see all repositories" in as_alice.get("/repos/?q=100%25_").content.decode()


def test_few_are_not_and_none_are_taught_about(as_alice: Client) -> None:
    page = as_alice.get("/repos/").content.decode()
    assert 'role="search"' not in page
    assert "No repositories yet" in page


def test_adding_in_place_gives_the_list_and_an_empty_form(as_alice: Client) -> None:
    part = as_alice.post("/repos/", {"source": "https://example.org/team/new"}, headers=HTMX).content.decode()
    assert "Waits to be fetched" in part
    assert "<html" not in part
    assert 'value=""' in part
    wrong = as_alice.post("/repos/", {"source": "https://user:pass@example.org/x"}, headers=HTMX)
    assert wrong.status_code == 422
    assert 'aria-invalid="true"' in wrong.content.decode()
    assert Repo.objects.count() == 1


@pytest.mark.parametrize("source", ["/etc", "https://u:p@example.org/x", "http://example.org/x", "", "https://", "file:///etc", "x" * 3000])
def test_a_place_that_is_none_is_refused_beside_what_was_typed(as_alice: Client, source: str) -> None:
    response = as_alice.post("/repos/", {"source": source})
    assert response.status_code == 422
    page = response.content.decode()
    assert "errorlist" in page
    assert f'value="{source}"' in page
    assert not Repo.objects.exists()


def test_a_mirror_is_fetched_anew_by_a_button(as_alice: Client, repo: Repo, address: str) -> None:
    Repo.objects.filter(pk=repo.pk).update(mirrored_at=timezone.now())
    assert as_alice.post(f"{address}fetch", headers=HTMX).headers["HX-Trigger"]
    part = as_alice.get(address, headers=HTMX | {"HX-Target": "head"}).content.decode()
    assert "Waits to be fetched" in part
    assert "they wait until the repository is here" not in part
    Operation.objects.update(status=OperationStatus.RUNNING, percent=42, progress="Receiving objects · 12.3 MiB", started_at=timezone.now())
    part = as_alice.get(address, headers=HTMX | {"HX-Target": "head"}).content.decode()
    assert "Fetching 42 %" in part
    assert "receiving objects · 12.3 MiB" in part
    assert "data-since" in part
    assert "<html" not in part


def test_a_first_mirror_says_that_tasks_wait(as_alice: Client, repo: Repo, address: str) -> None:
    as_alice.post(f"{address}fetch")
    assert "they wait until the repository is here" in as_alice.get(address).content.decode()


def test_the_name_of_a_repository_is_the_users(as_alice: Client, repo: Repo, address: str) -> None:
    assert as_alice.post(address, ENVIRONMENT | {"name": "<Shop>"}).status_code == 302
    page = as_alice.get(address).content.decode()
    assert "&lt;Shop&gt;" in page
    assert "<Shop>" not in page
    assert as_alice.post(address, ENVIRONMENT | {"name": "x" * 201}).status_code == 422


def test_a_template_that_is_none_is_refused_beside_its_field(as_alice: Client, repo: Repo, address: str, settings: Any) -> None:
    settings.E2B_API_KEY = "e2b_key"
    assert as_alice.post(address, ENVIRONMENT | {"template": "team/python"}).status_code == 302
    assert 'value="team/python"' in as_alice.get(address).content.decode()
    answer = as_alice.post(address, ENVIRONMENT | {"template": "a b"})
    assert answer.status_code == 422
    assert "A template&#x27;s name has letters" in answer.content.decode()


# --- trials ---


def test_save_and_try_starts_a_trial_and_shows_it_in_place(as_alice: Client, repo: Repo, address: str) -> None:
    part = as_alice.post(address, ENVIRONMENT | {"try": "1"}, headers=HTMX).content.decode()
    run = Run.objects.get()
    assert run.task.prompt == "make test"
    assert "<html" not in part
    assert f"/repos/{repo.pk}/trial?run={run.pk}" in part
    assert "Stop" in part
    assert as_alice.post(address, ENVIRONMENT | {"try": "1"}).headers["Location"] == f"{address}#trial"
    assert Run.objects.count() == 1


def test_saving_alone_tries_nothing(as_alice: Client, address: str) -> None:
    as_alice.post(address, ENVIRONMENT)
    assert not Run.objects.exists()


def test_a_mistake_keeps_what_was_typed_and_tries_nothing(as_alice: Client, repo: Repo, address: str) -> None:
    response = as_alice.post(
        address, ENVIRONMENT | {"try": "1", "network_hosts": "bad host", "setup_script": "typed by hand"}, headers=HTMX
    )
    assert response.status_code == 422
    assert "typed by hand" in response.content.decode()
    assert not Run.objects.exists()
    repo.refresh_from_db()
    assert repo.setup_script == ""


def test_what_is_saved_but_cannot_be_tried_says_so(as_alice: Client, repo: Repo, address: str) -> None:
    Repo.objects.filter(pk=repo.pk).update(source="/nowhere", is_local=True, mirrored_at=timezone.now(), default_branch="main")
    response = as_alice.post(address, ENVIRONMENT | {"try": "1"})
    assert response.status_code == 422
    assert "Saved, but it cannot be tried now" in response.content.decode()
    repo.refresh_from_db()
    assert repo.setup_script == "make deps"


@pytest.fixture
def trial(repo: Repo, alice: User) -> Run:
    return trials.start_trial(repo=repo, by=alice)


def add(run: Run, **data: object) -> int:
    kind = EventKind.LOG if "text" in data else EventKind.STATUS
    return events.append(run.pk, kind, data, turn_id=run.turns.get().pk)


def ended(step: str, code: int | None = 0, seconds: float = 12.0, **more: object) -> dict[str, object]:
    return {"step": step, "ended": {"reason": "exit", "code": code, "signal": None, "seconds": seconds} | more}


def test_the_tail_has_what_came_since_and_asks_on_until_the_end(as_alice: Client, trial: Run, address: str) -> None:
    Run.objects.filter(pk=trial.pk).update(status=RunStatus.RUNNING, stage="setup", started_at=timezone.now())
    add(trial, stream="stdout", text="first <b>line</b>\n")
    trial.refresh_from_db()
    seen = trial.next_seq - 1
    add(trial, stream="stdout", text="second \x1b[31mline\x1b[0m\n")
    part = as_alice.get(f"{address}trial?run={trial.pk}&after=0", headers=HTMX).content.decode()
    assert "first &lt;b&gt;line" in part
    part = as_alice.get(f"{address}trial?run={trial.pk}&after={seen}", headers=HTMX).content.decode()
    assert "first" not in part
    assert "second" in part
    assert "\x1b" not in part
    assert "Running the setup script" in part
    assert f"after={seen + 1}" in part
    Run.objects.filter(pk=trial.pk).update(status=RunStatus.SUCCEEDED)
    part = as_alice.get(f"{address}trial?run={trial.pk}&after={seen + 1}", headers=HTMX).content.decode()
    assert "It works" in part
    assert "every 1s" not in part


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([ended("setup"), ended("agent", seconds=3.2)], ["Setup succeeded in 12 s", "Check succeeded in 3.2 s"]),
        ([ended("setup"), ended("agent", 1)], ["Check failed with exit code 1 after 12 s"]),
        ([ended("setup", 127)], ["Setup failed with exit code 127"]),
        ([ended("setup", None, reason="total", signal=9, seconds=600)], ["Setup took too long and was ended after 10 min 0 s"]),
        ([ended("agent", None, reason="stop", signal=15)], ["Check was stopped after 12 s"]),
        ([{"step": "agent", "ended": "odd"}], ["Check was ended"]),
    ],
)
def test_each_step_is_said_in_words(
    as_alice: Client, repo: Repo, alice: User, address: str, steps: list[dict[str, object]], said: list[str]
) -> None:
    Repo.objects.filter(pk=repo.pk).update(check_command="make test")
    trial = trials.start_trial(repo=repo, by=alice)
    for step in steps:
        add(trial, **step)
    page = as_alice.get(address).content.decode()
    for words in said:
        assert words in page


def test_without_a_check_command_nothing_is_said_to_have_succeeded(as_alice: Client, trial: Run, address: str) -> None:
    add(trial, **ended("agent"))
    page = as_alice.get(address).content.decode()
    assert "No check command, so nothing was checked" in page
    assert "Check succeeded" not in page


def test_a_trial_is_stopped(as_alice: Client, trial: Run, address: str) -> None:
    part = as_alice.post(f"{address}trial/stop", {"run": trial.pk}, headers=HTMX).content.decode()
    assert "Stopped" in part
    trial.refresh_from_db()
    assert trial.status == RunStatus.CANCELED
    assert as_alice.post(f"{address}trial/stop", {"run": trial.pk}).headers["Location"] == f"{address}#trial"


def test_a_trial_that_is_forgotten_is_not_asked_for_again(as_alice: Client, address: str, trial: Run, make_run: Callable[..., Run]) -> None:
    other = make_run()
    for number in (other.pk, 10**18 - 1, "x", ""):
        assert as_alice.get(f"{address}trial?run={number}&after=0", headers=HTMX).status_code == 286


# --- variables ---


def test_a_variable_is_changed_in_its_place(as_alice: Client, repo: Repo, address: str) -> None:
    as_alice.post(f"{address}variables", {"name": "MODE", "value": "fast", "phase": "agent"})
    assert "change-value" not in as_alice.get(address).content.decode()
    part = as_alice.get(f"{address}?change=MODE", headers=HTMX | {"HX-Target": "variables"}).content.decode()
    assert "change-value" in part
    assert "fast" in part
    assert "<html" not in part
    as_alice.post(f"{address}variables", {"name": "MODE", "value": "slow\r\nlines", "phase": "setup", "changes": "1"}, headers=HTMX)
    assert (repo.variables.get().value, repo.variables.get().phase) == ("slow\nlines", "setup")


def test_a_secret_cannot_be_seen_by_changing_it(as_alice: Client, repo: Repo, address: str) -> None:
    as_alice.post(f"{address}variables", {"name": "TOKEN", "value": "hunter2-hunter2", "is_secret": "on"})
    assert "hunter2" not in as_alice.get(f"{address}?change=TOKEN").content.decode()
    response = as_alice.post(f"{address}variables", {"name": "TOKEN", "value": "", "is_secret": "on", "changes": "1"})
    assert response.status_code == 422
    assert "A secret needs a value" in response.content.decode()
    assert repo.variables.get().value == "hunter2-hunter2"


def test_a_secret_typed_with_a_mistake_is_not_written_into_the_page(as_alice: Client, address: str) -> None:
    response = as_alice.post(f"{address}variables", {"name": "no-name", "value": "hunter2", "is_secret": "on"})
    page = response.content.decode()
    assert response.status_code == 422
    assert "hunter2" not in page
    assert "type it once more" in page
    assert 'value="no-name"' in page
    page = as_alice.post(f"{address}variables", {"name": "no-name", "value": "plain text"}).content.decode()
    assert "plain text" in page


def test_several_are_set_from_a_file(as_alice: Client, repo: Repo, address: str) -> None:
    lines = '# comment\r\nexport MODE=fast\r\nGREETING="Hello\r\nthere"\r\n'
    assert as_alice.post(f"{address}variables/several", {"lines": lines}).status_code == 302
    assert {v.name: v.value for v in repo.variables.all()} == {"MODE": "fast", "GREETING": "Hello\nthere"}


def test_each_line_that_is_wrong_is_said_and_nothing_is_set(as_alice: Client, repo: Repo, address: str) -> None:
    response = as_alice.post(f"{address}variables/several", {"lines": "GOOD=1\nPATH=/x\nwords\nGOOD=2"})
    page = response.content.decode()
    assert response.status_code == 422
    for words in ("Line 2: PATH would", "Line 3: This is no assignment", "Line 4: GOOD is on line 1"):
        assert words in page
    assert "GOOD=1" in page
    assert not repo.variables.exists()
    page = as_alice.post(f"{address}variables/several", {"lines": "A=hunter2\nwords", "is_secret": "on"}).content.decode()
    assert "hunter2" not in page


def test_removing_a_variable_in_place_gives_the_list(as_alice: Client, repo: Repo, address: str) -> None:
    as_alice.post(f"{address}variables", {"name": "MODE", "value": "fast"})
    assert 'hx-target="#variables"' in as_alice.get(f"{address}variables/MODE/remove", headers=HTMX).content.decode()
    part = as_alice.post(f"{address}variables/MODE/remove", headers=HTMX).content.decode()
    assert "No variables." in part
    assert "<html" not in part


# --- removal ---


def test_a_used_repository_is_removed_and_its_tasks_stay(as_alice: Client, make_task: Callable[..., Task]) -> None:
    task = make_task()
    assert "stay readable" in as_alice.get(f"/repos/{task.repo_id}/remove").content.decode()
    assert as_alice.post(f"/repos/{task.repo_id}/remove").headers["Location"] == "/repos/"
    assert as_alice.get(f"/repos/{task.repo_id}/").status_code == 404
    assert as_alice.get(f"/tasks/{task.pk}/").status_code == 200
    assert "No repositories yet" in as_alice.get("/repos/").content.decode()


def test_one_at_work_is_not_removed_and_says_why(as_alice: Client, make_run: Callable[..., Run]) -> None:
    run = make_run()
    response = as_alice.post(f"/repos/{run.task.repo_id}/remove")
    assert response.status_code == 409
    assert "1 run is at work" in response.content.decode()


@pytest.mark.parametrize("path", ["", "fetch", "remove", "variables", "variables/several", "variables/MODE/remove", "trial/stop"])
def test_another_users_repository_is_not_there(as_bob: Client, address: str, path: str) -> None:
    assert as_bob.post(address + path, {"name": "X", "value": "y"}).status_code == 404
    assert as_bob.get(address).status_code == 404
    assert as_bob.get(f"{address}trial?run=1&after=0").status_code == 404
