"""The composer: what it offers, what it takes, what it refuses, and that nothing typed is lost."""

from __future__ import annotations

import re
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings as django_settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from agents.registry import ADAPTERS
from tasks import repositories, services
from tasks.models import Attachment, Operation, Quota, Repo, Run, Task, Turn, User
from tasks.running import jobs
from tasks.services import AgentChoice
from tasks.web.prompts import split_prompts

pytestmark = pytest.mark.django_db
HOME = "/"
CREATE = "/tasks/new"
SEVERAL = "/tasks/new/several"


@pytest.fixture
def repo(alice: User) -> Repo:
    """A repository whose first mirror is still under way, so that nothing is fetched."""
    return Repo.objects.create(owner=alice, source="https://example.org/repo", name="repo")


def filled(repo: Repo, **more: str) -> dict[str, str]:
    return {"prompt": "make it\r\nwork", "repo": str(repo.pk), "runs-shell": "2"} | more


# --- one task -----------------------------------------------------------------------------------------------------------


def test_the_composer_starts_a_task(as_alice: Client, repo: Repo) -> None:
    response = as_alice.post(CREATE, filled(repo, branch="main"))
    task = Task.objects.get()
    assert (response.status_code, response.headers["Location"]) == (302, task.get_absolute_url())
    assert (task.prompt, task.base_branch, task.repo, task.runs.count(), task.mode) == ("make it\nwork", "main", repo, 2, "code")


def test_an_address_that_is_typed_in_counts_before_the_chosen_repository(as_alice: Client, repo: Repo) -> None:
    as_alice.post(CREATE, filled(repo, source="https://example.org/other.git"))
    assert Task.objects.get().repo.source.startswith("https://example.org/other")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"prompt": " "}, "Say what is to be done"),
        ({"runs-shell": ""}, "Choose at least one agent."),
        ({"runs-shell": "99"}, "Runs of Shell script: 20 are the most."),
        ({"runs-shell": "-1"}, "greater than or equal to 0"),
        ({"runs-shell": "many"}, "Enter a whole number"),
        ({"repo": ""}, "Choose a repository"),
        ({"repo": "99999999999999999999"}, "Select a valid choice"),
        ({"source": "ssh://git@example.org/x"}, "ssh addresses are not supported"),
        ({"branch": "--upload-pack=x"}, "branch"),
        ({"mode": "plan"}, "Shell script cannot do &#x27;plan&#x27;"),
    ],
)
def test_what_is_wrong_is_said_and_what_was_typed_is_kept(as_alice: Client, repo: Repo, wrong: dict[str, str], sentence: str) -> None:
    key = str(uuid.uuid4())
    data = {key: value for key, value in (filled(repo, submission=key) | wrong).items() if value}
    response = as_alice.post(CREATE, data)
    page = response.content.decode()
    assert response.status_code == 422
    assert sentence in page
    assert key in page
    if "prompt" not in wrong:
        assert "make it\r\nwork</textarea>" in page
    if "branch" in wrong:
        assert 'value="--upload-pack=x"' in page
    assert not Task.objects.exists()
    assert Repo.objects.count() == 1


def test_without_a_prompt_no_repository_is_added(as_alice: Client) -> None:
    assert as_alice.post(CREATE, {"prompt": "", "source": "https://example.org/new", "runs-shell": "1"}).status_code == 422
    assert not Repo.objects.exists()


def test_nobody_can_use_somebody_elses_repository(as_bob: Client, repo: Repo) -> None:
    assert as_bob.post(CREATE, filled(repo)).status_code == 422
    assert not Task.objects.exists()


def test_paths_on_this_machine_are_for_operators(as_bob: Client, as_alice: Client) -> None:
    answer = as_bob.post(CREATE, {"prompt": "x", "source": "/etc", "runs-shell": "1"})
    assert answer.status_code == 422
    assert "local path" not in as_bob.get(HOME).content.decode()
    assert "local path" in as_alice.get(HOME).content.decode()


def test_who_comes_back_from_signing_in_finds_the_composer(as_alice: Client, client: Client, repo: Repo) -> None:
    assert client.post(CREATE, filled(repo)).headers["Location"].startswith("/sign-in/")
    for address in (CREATE, SEVERAL):
        assert as_alice.get(address).headers["Location"] == HOME


def test_a_form_that_is_sent_twice_starts_once(as_alice: Client, repo: Repo) -> None:
    data = filled(repo, submission=str(uuid.uuid4()))
    first, second = (as_alice.post(CREATE, data).headers["Location"] for _ in range(2))
    assert first == second
    assert Task.objects.count() == 1


def test_a_form_that_is_gone_back_to_and_changed_starts_another_task(as_alice: Client, repo: Repo) -> None:
    data = filled(repo, submission=str(uuid.uuid4()))
    as_alice.post(CREATE, data)
    as_alice.post(CREATE, data | {"prompt": "something else"})
    as_alice.post(CREATE, data | {"runs-shell": "1"})
    assert Task.objects.count() == 3


def test_every_form_has_a_key_of_its_own(as_alice: Client) -> None:
    keys = {as_alice.get(HOME).context["form"]["submission"].value() for _ in range(2)}
    assert len(keys) == 2


# --- agents and modes ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("agents")
def test_an_agent_may_have_several_models_at_once(as_alice: Client, repo: Repo) -> None:
    as_alice.post(CREATE, {"prompt": "x", "repo": repo.pk, "runs-claude:opus": "2", "runs-claude:sonnet": "1", "runs-codex:high": "0"})
    runs = Run.objects.values_list("agent", "model", "attempt")
    assert list(runs) == [("claude", "opus", 1), ("claude", "opus", 2), ("claude", "sonnet", 1)]


@pytest.mark.usefixtures("agents")
def test_every_agent_is_a_block_and_every_model_a_row(as_alice: Client) -> None:
    form = as_alice.get(HOME).context["form"]
    assert [(block.adapter.label, len(block.rows)) for block in form.blocks][:3] == [("Shell script", 1), ("Claude Code", 2), ("Codex", 1)]
    page = as_alice.get(HOME).content.decode()
    assert 'name="runs-claude:sonnet"' in page
    assert "Reads, plans and writes code." in page


@pytest.mark.usefixtures("agents")
def test_the_last_choice_is_remembered(as_alice: Client, alice: User, repo: Repo) -> None:
    chosen = [AgentChoice("claude", "sonnet", 2), AgentChoice("codex", "high")]
    task = services.create_task(by=alice, repo=repo, prompt="x", agents=chosen, mode="ask", branch="old")
    Run.objects.update(status="failed")
    services.retry_run(run=task.runs.get(agent="codex"), by=alice)
    other = Repo.objects.create(owner=alice, source="https://example.org/other", name="other")
    services.create_task(by=alice, repo=other, prompt="x", agents=[AgentChoice("shell")])
    Task.objects.filter(repo=other).update(is_trial=True)
    form = as_alice.get(HOME).context["form"]
    assert {row.label: row.runs for row in form.rows if row.runs} == {"Claude Code sonnet": 2, "Codex high": 1}
    assert (form.chosen_repo, form["branch"].value(), form["mode"].value()) == (repo, None, "ask")


def test_at_first_the_first_agent_is_chosen_once(as_alice: Client, repo: Repo) -> None:
    form = as_alice.get(HOME).context["form"]
    assert [(row.label, row.runs) for row in form.rows if row.runs] == [("Shell script", 1)]
    assert form.chosen_repo == repo


def test_an_address_may_choose_the_repository(as_alice: Client, as_bob: Client, alice: User, repo: Repo) -> None:
    other = Repo.objects.create(owner=alice, source="https://example.org/other", name="other")
    for chosen in (repo, other):
        assert as_alice.get(HOME, {"repo": chosen.pk}).context["form"].chosen_repo == chosen
    assert as_bob.get(HOME, {"repo": repo.pk}).context["form"].chosen_repo is None
    assert as_bob.get(HOME, {"repo": "9" * 30}).status_code == 200


@pytest.mark.usefixtures("agents")
def test_only_modes_that_some_agent_can_are_there(as_alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [button.mode for button in as_alice.get(HOME).context["form"].modes] == ["ask", "plan", "code"]
    monkeypatch.delitem(ADAPTERS, "claude")
    assert [button.mode for button in as_alice.get(HOME).context["form"].modes] == ["ask", "code"]
    monkeypatch.delitem(ADAPTERS, "codex")
    assert [(button.mode, button.is_primary) for button in as_alice.get(HOME).context["form"].modes] == [("code", True)]


@pytest.mark.usefixtures("agents")
@pytest.mark.parametrize("mode", ["ask", "plan", "code"])
def test_the_button_that_is_pressed_is_the_mode(as_alice: Client, repo: Repo, mode: str) -> None:
    as_alice.post(CREATE, {"prompt": "x", "repo": repo.pk, "runs-claude:opus": "1", "mode": ["code", mode]})
    assert Task.objects.get().mode == mode


@pytest.mark.usefixtures("agents")
def test_a_mode_that_one_of_the_agents_cannot_do_is_refused(as_alice: Client, repo: Repo) -> None:
    answer = as_alice.post(CREATE, {"prompt": "x", "repo": repo.pk, "runs-claude:opus": "1", "runs-codex:high": "1", "mode": "plan"})
    assert answer.status_code == 422
    assert "Codex cannot do" in answer.content.decode()


@pytest.mark.usefixtures("agents")
def test_too_many_runs_are_refused(as_alice: Client, repo: Repo) -> None:
    names = ("shell", "claude:opus", "claude:sonnet", "codex:high", "agent0", "agent1")
    answer = as_alice.post(CREATE, {"prompt": "x", "repo": repo.pk} | {f"runs-{name}": "20" for name in names})
    assert answer.status_code == 422
    assert "These are 120 runs; 100 are the most" in answer.content.decode()


def test_the_places_that_are_free_are_said(as_alice: Client, make_run: Callable[..., Run], settings: Settings) -> None:
    settings.MAX_ACTIVE_RUNS, settings.MAX_ACTIVE_RUNS_PER_USER = 8, 3
    make_run(status="running")
    page = " ".join(as_alice.get(HOME).content.decode().split())
    assert 'data-free-local="2"' in page
    assert "You may have 3 runs at work at once; 1 is." in page
    assert "today" not in page


def test_what_is_left_of_a_day_is_said_and_more_is_refused_with_what_was_typed(
    as_alice: Client, make_run: Callable[..., Run], repo: Repo
) -> None:
    Quota.objects.create(scope="user", a_day=2)
    make_run()
    assert "You: 1 of 2 begun today." in " ".join(as_alice.get(HOME).content.decode().split())
    answer = as_alice.post(CREATE, filled(repo, prompt="Keep this") | {"runs-shell": "2"})
    assert answer.status_code == 422
    page = " ".join(answer.content.decode().split())
    assert "You may begin 2 runs a day, and have begun 1 today; these are 2 more." in page
    assert "Keep this" in page
    assert Run.objects.count() == 1


# --- attachments --------------------------------------------------------------------------------------------------------


def test_files_go_with_the_prompt(as_alice: Client, alice: User, repo: Repo) -> None:
    stored = Attachment.objects.create(owner=alice, name="shot.png", content_type="image/png", content=b"x", size=1)
    as_alice.post(CREATE, filled(repo) | {"attachments": [str(stored.pk)], "files": SimpleUploadedFile("notes.txt", b"hello")})
    assert {tuple(turn.attachments.values_list("name", flat=True)) for turn in Turn.objects.all()} == {("shot.png", "notes.txt")}


def test_files_are_kept_when_something_else_is_wrong(as_alice: Client, repo: Repo) -> None:
    answer = as_alice.post(CREATE, filled(repo, prompt="") | {"files": SimpleUploadedFile("notes.txt", b"hello")})
    assert answer.status_code == 422
    assert "notes.txt" in answer.content.decode()


def test_somebody_elses_file_is_not_there(as_alice: Client, bob: User, repo: Repo) -> None:
    theirs = Attachment.objects.create(owner=bob, name="secret.txt", content_type="text/plain", content=b"x", size=1)
    answer = as_alice.post(CREATE, filled(repo) | {"attachments": [str(theirs.pk)]})
    assert answer.status_code == 422
    assert "secret.txt" not in answer.content.decode()


# --- several tasks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ("one", ["one"]),
        ("one\nstill one\n\n\n  \ntwo\r\n\r\nthree\n", ["one\nstill one", "two", "three"]),
        ("- one\n- two\n\n* three", ["one", "two", "three"]),
        ("- one\n  goes on\n- [ ] two\n-", ["one\ngoes on", "two\n-"]),
        ("- one\n- two\n\nNot a list", ["- one\n- two", "Not a list"]),
        ("Do:\n- this\n- that", ["Do:\n- this\n- that"]),
        (" \n\n", []),
    ],
)
def test_prompts_are_blocks_or_items_of_a_list(text: str, prompts: list[str]) -> None:
    assert split_prompts(text) == prompts


def preview(client: Client, repo: Repo, text: str = "one\n\ntwo", **more: object) -> dict[str, object]:
    """The fields of the preview's form, as a browser would send them."""
    answer = client.post(CREATE, {"prompt": text, "repo": repo.pk, "runs-shell": "2", "several": "on", "branch": "dev", **more})
    assert answer.status_code == 200
    entries = answer.context["entries"]
    fields: dict[str, object] = {"prompts": [entry.prompt for entry in entries], "keep": [str(n) for n in range(len(entries))]}
    return dict(answer.context["form"].carried) | fields


def test_several_are_shown_before_they_start(as_alice: Client, repo: Repo) -> None:
    answer = as_alice.post(CREATE, {"prompt": "one\n\ntwo\n\nthree", "repo": repo.pk, "runs-shell": "2", "several": "on"})
    page = " ".join(answer.content.decode().split())
    assert answer.status_code == 200
    assert "3 tasks × 2 runs = 6 runs" in page
    assert "<span data-tasks>3 tasks</span>" in page
    assert not Task.objects.exists()


def test_those_that_stay_start_as_they_were_edited(as_alice: Client, repo: Repo) -> None:
    fields = preview(as_alice, repo, "one\n\ntwo\n\nthree")
    answer = as_alice.post(SEVERAL, fields | {"prompts": ["one", "two", "three\r\n\r\nedited"], "keep": ["0", "2"]})
    assert answer.headers["Location"] == HOME
    assert list(Task.objects.order_by("pk").values_list("prompt", "base_branch")) == [("one", "dev"), ("three\n\nedited", "dev")]
    assert Run.objects.count() == 4
    assert "Started 2 tasks with 4 runs." in as_alice.get(HOME).content.decode()


def test_several_that_are_sent_twice_start_once(as_alice: Client, repo: Repo) -> None:
    fields = preview(as_alice, repo, submission=str(uuid.uuid4()))
    for _ in range(2):
        as_alice.post(SEVERAL, fields)
    assert Task.objects.count() == 2


def test_back_keeps_everything(as_alice: Client, repo: Repo) -> None:
    key = str(uuid.uuid4())
    fields = preview(as_alice, repo, submission=key, files=SimpleUploadedFile("notes.txt", b"hello"))
    answer = as_alice.post(SEVERAL, fields | {"prompts": ["one", "two, edited"], "back": "1"})
    form, page = answer.context["form"], answer.content.decode()
    assert answer.status_code == 200
    assert form["prompt"].value() == "one\n\ntwo, edited"
    assert (form["branch"].value(), form.runs, form.chosen_repo, form["submission"].value()) == ("dev", 2, repo, key)
    assert form["several"].value() is True
    assert "notes.txt" in page
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"keep": []}, "These are 0 tasks"),
        ({"prompts": ["one", " "]}, "the prompt is empty"),
        ({"branch": "a..b"}, "branch name"),
    ],
)
def test_what_is_wrong_with_several_is_said_beside_them(as_alice: Client, repo: Repo, changes: dict[str, object], sentence: str) -> None:
    answer = as_alice.post(SEVERAL, preview(as_alice, repo) | changes)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert sentence in page
    assert ">\none</textarea>" in page
    assert not Task.objects.exists()


def test_a_list_may_be_uploaded(as_alice: Client, repo: Repo) -> None:
    file = SimpleUploadedFile("todo.md", b"\xef\xbb\xbf- one\r\n- two\r\n")
    assert preview(as_alice, repo, "", list=file)["prompts"] == ["one", "two"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"\xff\xfe", "not text in UTF-8"), (b"x" * 205_000, "200 KB are the most"), (b"", "prompt is empty")],
)
def test_a_list_that_cannot_be_read_is_refused(as_alice: Client, repo: Repo, content: bytes, sentence: str) -> None:
    answer = as_alice.post(CREATE, filled(repo, prompt="", several="on") | {"list": SimpleUploadedFile("todo.md", content)})
    assert answer.status_code == 422
    assert sentence in answer.content.decode()


def test_the_text_of_a_list_is_not_lost_when_something_else_is_wrong(as_alice: Client, repo: Repo) -> None:
    file = SimpleUploadedFile("todo.md", b"- one\n- two\n")
    answer = as_alice.post(CREATE, {"prompt": "- zero", "runs-shell": "1", "list": file})
    assert answer.status_code == 422
    assert answer.context["form"]["prompt"].value() == "- zero\n\n- one\n- two"


def test_too_many_prompts_are_refused_before_the_preview(as_alice: Client, repo: Repo) -> None:
    answer = as_alice.post(CREATE, filled(repo, several="on", prompt="\n".join(f"- {n}" for n in range(51))))
    assert answer.status_code == 422
    assert "51 tasks" in answer.content.decode()


# --- pickers ------------------------------------------------------------------------------------------------------------


def names(client: Client, **query: object) -> list[str]:
    """What is offered and can be seen."""
    page = client.get("/pick/repos", query).content.decode()
    return re.findall(r'<label class="option"\s*>.*?data-name="([^"]*)"', page, re.DOTALL)


def test_repositories_are_found_by_name_the_last_used_first(
    as_alice: Client, alice: User, bob: User, make_task: Callable[..., Task]
) -> None:
    for owner, name in ((alice, "acme/api"), (alice, "acme/web"), (alice, "other/api"), (bob, "bobs/api")):
        Repo.objects.create(owner=owner, source=f"https://example.org/{name}", name=name)
    make_task(repo=Repo.objects.get(name="acme/api"))
    assert names(as_alice) == ["acme/api", "other/api", "acme/web"]
    assert names(as_alice, q="api") == ["acme/api", "other/api"]
    assert names(as_alice, q="ACME web") == ["acme/web"]


def test_at_most_twenty_repositories_are_found(as_alice: Client, alice: User) -> None:
    Repo.objects.bulk_create(Repo(owner=alice, source=f"https://example.org/{n}", name=f"r{n}") for n in range(30))
    assert len(names(as_alice)) == 20


def test_the_chosen_repository_stays_in_the_form_whatever_is_searched(as_alice: Client, as_bob: Client, repo: Repo) -> None:
    page = " ".join(as_alice.get("/pick/repos", {"q": "nothing", "repo": repo.pk}).content.decode().split())
    assert f'<label class="option" hidden> <input type="radio" name="repo" value="{repo.pk}"' in page
    assert "checked" in page
    assert names(as_bob, repo=repo.pk) == []


def test_an_address_offers_itself_as_a_new_repository(as_alice: Client, as_bob: Client, repo: Repo) -> None:
    for address in ("https://github.com/acme/tool.git", "github.com/acme/tool"):
        page = as_alice.get("/pick/repos", {"q": address}).content.decode()
        assert "Add acme/tool" in page
    assert names(as_alice, q="https://example.org/repo/") == ["repo"]
    assert "are not supported. Use the repository" in as_alice.get("/pick/repos", {"q": "git@github.com:acme/tool"}).content.decode()
    assert "Only operators" in as_bob.get("/pick/repos", {"q": "/etc"}).content.decode()


@pytest.fixture
def mirrored(alice: User) -> Iterator[Repo]:
    """A repository with the branches main (oldest), release/1 and topic (newest)."""
    with tempfile.TemporaryDirectory(dir=django_settings.LOCAL_REPO_ROOTS[0]) as folder:
        subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
        git = ["git", "-C", folder, "-c", "user.name=t", "-c", "user.email=t@example.org"]
        for year, branch in ((2001, "main"), (2002, "release/1"), (2003, "topic")):
            if branch != "main":
                subprocess.run([*git, "checkout", "-q", "-b", branch, "main"], check=True)
            when = {"GIT_COMMITTER_DATE": f"{year}-01-01T00:00:00Z", "PATH": "/usr/bin:/bin"}
            subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", branch], check=True, env=when)
        subprocess.run([*git, "checkout", "-q", "main"], check=True)
        repo = repositories.add_repo(by=alice, source=folder)
        jobs.run_operation(Operation.objects.get(subject=f"repo:{repo.pk}").pk)
        repo.refresh_from_db()
        yield repo


def test_branches_are_found_the_default_one_first_then_the_newest(as_alice: Client, mirrored: Repo) -> None:
    def found(**query: object) -> list[str]:
        page = as_alice.get("/pick/branches", {"repo": mirrored.pk, **query}).content.decode()
        return [name for name in re.findall(r'data-name="([^"]*)"', page) if name != query.get("q")]

    assert found() == ["main", "topic", "release/1"]
    assert found(q="T") == ["topic"]
    assert found(q="i") == ["main", "topic"]
    assert found(q="nope") == []


def test_a_branch_may_be_typed_that_is_not_there_yet(as_alice: Client, mirrored: Repo) -> None:
    page = as_alice.get("/pick/branches", {"repo": mirrored.pk, "q": "top"}).content.decode()
    assert "Use “top”" in page
    assert "topic" in page
    assert "cannot be a branch name" in as_alice.get("/pick/branches", {"repo": mirrored.pk, "q": "a b"}).content.decode()


def test_a_repository_without_a_mirror_says_so(as_alice: Client, repo: Repo) -> None:
    assert "no copy of this repository yet" in as_alice.get("/pick/branches", {"repo": repo.pk}).content.decode()
    Repo.objects.update(mirrored_at=timezone.now())  # on another host
    assert "no copy of this repository yet" in as_alice.get("/pick/branches", {"repo": repo.pk}).content.decode()
    assert "This repository is new" in as_alice.get("/pick/branches", {"source": "https://example.org/x"}).content.decode()


def test_pickers_show_nothing_of_anybody_else(client: Client, as_bob: Client, repo: Repo) -> None:
    assert as_bob.get("/pick/branches", {"repo": repo.pk}).status_code == 404
    for address in ("/pick/repos", "/pick/branches"):
        assert client.get(address).status_code == 302
        assert as_bob.post(address).status_code == 405


def test_names_are_shown_and_never_work(as_alice: Client, alice: User) -> None:
    Repo.objects.create(owner=alice, source="https://example.org/x", name='"><img src=x onerror=alert(1)>\u202e')
    for address in (HOME, "/pick/repos", "/pick/repos?q=<img", "/pick/branches?q=<img"):
        page = as_alice.get(address).content.decode()
        assert "<img src=x" not in page
        assert "\u202e" not in page
