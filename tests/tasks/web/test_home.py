"""The composer and the list of tasks."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from tasks.models import Repo, Task, User

pytestmark = pytest.mark.django_db
HOME = "/"
CREATE = "/tasks/new"


@pytest.fixture
def repo(alice: User) -> Repo:
    """A repository whose first mirror is still under way, so that nothing is fetched."""
    return Repo.objects.create(owner=alice, source="https://example.org/repo", name="repo")


def filled(repo: Repo, **more: str) -> dict[str, str]:
    return {"prompt": "make it\r\nwork", "repo": str(repo.pk), "agent-shell": "on", "attempts-shell": "2"} | more


def test_nobody_sees_it_without_signing_in(client: Client) -> None:
    response = client.get(HOME)
    assert (response.status_code, response.headers["Location"]) == (302, f"{reverse('sign-in')}?next=/")


def test_the_empty_page_says_what_to_do(as_alice: Client) -> None:
    assert "No tasks yet" in as_alice.get(HOME).content.decode()


def test_the_composer_starts_a_task(as_alice: Client, repo: Repo) -> None:
    response = as_alice.post(CREATE, filled(repo, branch="main"))
    task = Task.objects.get()
    assert (response.status_code, response.headers["Location"]) == (302, task.get_absolute_url())
    assert (task.prompt, task.base_branch, task.repo, task.runs.count()) == ("make it\nwork", "main", repo, 2)


def test_an_address_that_is_typed_in_counts_before_the_chosen_repository(as_alice: Client, repo: Repo) -> None:
    as_alice.post(CREATE, filled(repo, source="https://example.org/other.git"))
    assert Task.objects.get().repo.source.startswith("https://example.org/other")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"prompt": " "}, "Say what is to be done"),
        ({"agent-shell": ""}, "Choose at least one agent."),
        ({"attempts-shell": "99"}, "less than or equal to 20"),
        ({"repo": ""}, "Choose a repository"),
        ({"source": "ssh://git@example.org/x"}, "ssh addresses are not supported"),
        ({"branch": "--upload-pack=x"}, "branch"),
    ],
)
def test_what_is_wrong_is_said_and_what_was_typed_is_kept(as_alice: Client, repo: Repo, wrong: dict[str, str], sentence: str) -> None:
    data = {key: value for key, value in (filled(repo) | wrong).items() if value}
    response = as_alice.post(CREATE, data)
    page = response.content.decode()
    assert response.status_code == 422
    assert sentence in page
    if "prompt" not in wrong:
        assert "make it\r\nwork</textarea>" in page
    assert not Task.objects.exists()


def test_nobody_can_use_somebody_elses_repository(as_bob: Client, repo: Repo) -> None:
    assert as_bob.post(CREATE, filled(repo)).status_code == 422
    assert not Task.objects.exists()


def test_paths_on_this_machine_are_for_operators(as_bob: Client, as_alice: Client) -> None:
    answer = as_bob.post(CREATE, {"prompt": "x", "source": "/etc", "agent-shell": "on"})
    assert answer.status_code == 422
    assert "local path" not in as_bob.get(HOME).content.decode()
    assert "local path" in as_alice.get(HOME).content.decode()


def test_every_page_forbids_scripts_and_styles_within_it(as_alice: Client) -> None:
    response = as_alice.get(HOME)
    policy = response.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "style-src 'self'" in policy
    page = response.content.decode()
    assert " style=" not in page
    assert "<style" not in page
    assert " onclick" not in page
