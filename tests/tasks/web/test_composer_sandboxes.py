"""Where both backends can be had, the composer lets one choose; elsewhere nothing is said of it."""

from __future__ import annotations

import re
import uuid

import pytest
from django.test import Client
from pytest_django import Settings

from tasks.models import Repo, Run, Task, User

pytestmark = pytest.mark.django_db
CREATE = "/tasks/new"


@pytest.fixture
def filled(alice: User) -> dict[str, str]:
    repo = Repo.objects.create(owner=alice, source="https://example.org/repo", name="repo")
    return {"prompt": "true", "repo": str(repo.pk), "runs-shell": "1"}


@pytest.fixture
def _both(settings: Settings) -> None:
    settings.E2B_API_KEY, settings.SANDBOX_BACKEND = "e2b_test", "e2b"


def options(page: str) -> list[str]:
    found = re.search(r'<select name="backend".*?</select>', page, re.S)
    return re.findall(r'<option value="(\w+)"', found[0]) if found else []


@pytest.mark.parametrize("first", ["e2b", "local"])
@pytest.mark.usefixtures("_both")
def test_the_installations_own_stands_first_and_is_what_an_old_form_gets(
    as_alice: Client, filled: dict[str, str], settings: Settings, first: str
) -> None:
    settings.SANDBOX_BACKEND = first
    found = options(as_alice.get("/").content.decode())
    assert (found[0], set(found)) == (first, {"e2b", "local"})
    as_alice.post(CREATE, filled)
    assert Run.objects.get().backend == first


@pytest.mark.parametrize("backend", ["e2b", "local"])
@pytest.mark.usefixtures("_both")
def test_all_runs_of_a_task_get_the_chosen_one(as_alice: Client, filled: dict[str, str], backend: str) -> None:
    as_alice.post(CREATE, filled | {"runs-shell": "2", "backend": backend})
    assert list(Run.objects.values_list("backend", flat=True)) == [backend, backend]


def test_where_there_is_one_only_nothing_is_shown_and_what_was_left_in_a_page_does_not_count(
    as_alice: Client, filled: dict[str, str], settings: Settings
) -> None:
    settings.E2B_API_KEY, settings.SANDBOX_BACKEND = "", "local"
    page = as_alice.get("/").content.decode()
    assert options(page) == []
    assert "Sandbox" not in page[page.index('id="composer"') : page.index("</form>", page.index('id="composer"'))]
    as_alice.post(CREATE, filled | {"backend": "e2b"})
    assert Run.objects.get().backend == "local"


def test_where_there_is_none_the_composer_says_so_before_and_after(as_alice: Client, filled: dict[str, str], settings: Settings) -> None:
    assert "Runs cannot start" not in as_alice.get("/").content.decode()
    settings.LOCAL_SANDBOXES, settings.E2B_API_KEY, settings.SANDBOX_BACKEND = False, "", "e2b"
    assert as_alice.get("/").content.decode().count("Runs cannot start: no sandbox can be made on this machine") == 1
    answer = as_alice.post(CREATE, filled | {"prompt": "keep me"})
    assert (answer.status_code, Run.objects.count()) == (422, 0)
    assert "keep me</textarea>" in answer.content.decode()


@pytest.mark.usefixtures("_both")
def test_one_that_there_is_not_is_refused_and_what_was_typed_is_kept(as_alice: Client, filled: dict[str, str]) -> None:
    answer = as_alice.post(CREATE, filled | {"prompt": "keep me", "backend": "moon"})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "moon is not one of the available choices" in page
    assert "keep me</textarea>" in page


@pytest.mark.usefixtures("_both")
def test_the_choice_goes_with_several_tasks_and_back(as_alice: Client, filled: dict[str, str]) -> None:
    answer = as_alice.post(CREATE, filled | {"prompt": "one\n\ntwo", "several": "on", "backend": "local"})
    page = answer.content.decode()
    assert "· This machine" in page
    assert '<input type="hidden" name="backend" value="local">' in page
    sent = filled | {"prompts": ["one", "two"], "keep": ["0", "1"], "backend": "local"}
    back = as_alice.post("/tasks/new/several", sent | {"back": "1"}).content.decode()
    assert '<option value="local" selected>' in back
    as_alice.post("/tasks/new/several", sent)
    assert list(Run.objects.values_list("backend", flat=True)) == ["local", "local"]


@pytest.mark.parametrize(("backend", "free"), [("e2b", 1), ("local", 4), ("", 1)])
@pytest.mark.usefixtures("_both")
def test_how_many_start_at_once_is_said_of_where_they_are_to_be(
    as_alice: Client, filled: dict[str, str], settings: Settings, backend: str, free: int
) -> None:
    settings.MAX_ACTIVE_RUNS = settings.MAX_ACTIVE_RUNS_PER_USER = 4
    settings.E2B_MAX_SANDBOXES = 1
    answer = as_alice.post(CREATE, filled | {"prompt": "one\n\ntwo", "several": "on", "backend": backend})
    assert f'data-free="{free}"' in answer.content.decode()


@pytest.mark.usefixtures("_both")
def test_the_same_form_with_another_choice_is_another_task(as_alice: Client, filled: dict[str, str]) -> None:
    filled["submission"] = str(uuid.uuid4())
    for backend in ("e2b", "local", "local"):
        as_alice.post(CREATE, filled | {"backend": backend})
    assert Task.objects.count() == 2
