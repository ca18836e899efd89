"""Going on by hand: the command works as it is copied, on the machine of somebody who has a clone and what was downloaded."""

from __future__ import annotations

import os
import shlex
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from agents.registry import ADAPTERS
from tasks.models import Conversation, Event, Patch, Run, Task, Turn, User
from tasks.web.by_hand import MOST_BYTES, ByHand, record_of
from tests.tasks.git.conftest import Origin

pytestmark = pytest.mark.django_db
ID = "01a21e64-4c37-74f2-b382-98396d01adb1"
HOSTILE = "asynccode/1-it's;touch${IFS}owned&&`id`"
AGENTS = [name for name, adapter in ADAPTERS.items() if adapter.by_hand]


class Machine:
    """A clone and a folder for downloads; `agents` say what they were started with."""

    def __init__(self, folder: Path, origin: Path) -> None:
        self.home, self.clone, self.bin = folder / "home", folder / "clone", folder / "bin"
        (self.home / "Downloads").mkdir(parents=True)
        self.bin.mkdir()
        for name in AGENTS:
            program = self.bin / ADAPTERS[name].by_hand[0]
            program.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" > {shlex.quote(str(folder / 'started'))}\n")
            program.chmod(0o755)
        self.started = folder / "started"
        subprocess.run(["git", "clone", "-q", str(origin), str(self.clone)], check=True)

    def download(self, client: Client, run: Run, name: str, suffix: str) -> None:
        answer = client.get(f"{reverse(name, args=[run.pk])}?download")
        assert answer.headers["Content-Disposition"] == f'attachment; filename="run-{run.pk}.{suffix}"'
        (self.home / "Downloads" / f"run-{run.pk}.{suffix}").write_bytes(answer.content)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        environment = {"HOME": str(self.home), "PATH": f"{self.bin}:{os.environ['PATH']}"}
        return subprocess.run(["bash", "-c", command], cwd=self.clone, env=environment, capture_output=True, text=True, check=False)

    def git(self, *arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=self.clone, check=True, capture_output=True, text=True).stdout.strip()

    @property
    def arguments(self) -> list[str]:
        return self.started.read_text().split("\0")[:-1]


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    origin = Origin(tmp_path / "origin")
    origin.commit("price = 1\n", name="shop.py")
    return origin


@pytest.fixture
def machine(tmp_path: Path, origin: Origin) -> Machine:
    return Machine(tmp_path, origin.folder)


@pytest.fixture
def make_changed(origin: Origin, make_task: Callable[..., Task], make_run: Callable[..., Run]) -> Callable[[str], Run]:
    """A run of this agent that has made the price 2 and a new file, when others have gone on meanwhile."""

    def make(agent: str) -> Run:
        task = make_task(title="Raise", prompt="Raise the `price`", base_commit=origin.git("rev-parse", "HEAD"))
        task.repo.source = "https://github.com/acme/shop"
        run = make_run(task, agent=agent, status="succeeded", branch=HOSTILE)
        run.turns.update(started_at=timezone.now())
        (origin.folder / "shop.py").write_text("price = 2\n")
        (origin.folder / "new.py").write_text("new\n")
        origin.git("add", "-A")
        content = origin.git("diff", "--binary", "--cached", "HEAD").encode() + b"\n"
        origin.git("reset", "-q", "--hard")
        origin.commit("else", name="other.py")
        row = {"content": content, "sha256": "1" * 64, "files": [], "additions": 2, "deletions": 1}
        Patch.objects.create(run=run, turn=run.turns.get(), kind="final", **row)
        said = [("message", {"text": "It costs $(touch x) 2."}), ("tool_call", {"title": "Edit shop.py", "input": "\u202eelif\x1b[2J"})]
        for seq, (kind, data) in enumerate(said, 100):
            Event.objects.create(run=run, seq=seq, turn=run.turns.get(), kind=kind, data=data)
        return run

    return make


def read(clone: Path) -> tuple[str, str]:
    return (clone / "shop.py").read_text(), (clone / "new.py").read_text()


@pytest.mark.parametrize("agent", AGENTS)
def test_each_agent_goes_on_with_the_record_where_nothing_was_pushed(
    as_alice: Client, make_changed: Callable[[str], Run], machine: Machine, agent: str
) -> None:
    run = make_changed(agent)
    machine.download(as_alice, run, "run-patch", "patch")
    machine.download(as_alice, run, "run-transcript", "md")
    done = machine.run(ByHand.of(run, pushed="").go_on)
    assert done.returncode == 0, done.stderr
    assert machine.git("branch", "--show-current") == HOSTILE
    assert machine.git("rev-parse", "HEAD") == run.task.base_commit
    assert read(machine.clone) == ("price = 2\n", "new\n")
    *words, record = machine.arguments
    assert words == list(ADAPTERS[agent].by_hand[1:])
    assert record.startswith("This is the record of the run")
    assert "Raise the `price`" in record
    assert "It costs $(touch x) 2." in record
    assert "elif[2J" in record
    assert not (machine.clone / "x").exists()


def test_what_was_pushed_is_fetched_also_when_it_was_there_before(
    as_alice: Client, make_changed: Callable[[str], Run], machine: Machine, origin: Origin
) -> None:
    run = make_changed("claude")
    machine.download(as_alice, run, "run-transcript", "md")
    command = ByHand.of(run, pushed=HOSTILE).go_on
    origin.git("switch", "-q", "-c", HOSTILE)
    for text in ("price = 2\n", "price = 3\n"):
        head = origin.commit(text, name="shop.py")
        done = machine.run(command)
        assert done.returncode == 0, done.stderr
        assert (machine.git("branch", "--show-current"), machine.git("rev-parse", "HEAD")) == (HOSTILE, head)
    assert len(machine.arguments) == 1


def test_what_was_not_downloaded_is_said_before_anything_is_done(make_changed: Callable[[str], Run], machine: Machine) -> None:
    run = make_changed("codex")
    done = machine.run(ByHand.of(run, pushed="").go_on)
    assert done.returncode != 0
    assert f"run-{run.pk}.md" in done.stderr
    assert machine.git("branch", "--show-current") == "main"
    assert not machine.started.exists()


def test_a_script_has_no_agent_to_go_on_with(make_changed: Callable[[str], Run]) -> None:
    shown = ByHand.of(make_changed("shell"), pushed="")
    assert shown.agent == ""
    assert shown.go_on.endswith(".patch")


def test_the_record_fits_into_one_argument_and_keeps_what_came_last(make_changed: Callable[[str], Run]) -> None:
    run = make_changed("claude")
    turn = run.turns.get()
    for seq in range(200, 300):
        Event.objects.create(run=run, seq=seq, turn=turn, kind="message", data={"text": f"{seq} " + "ä€" * 1_000})
    record = record_of(run)
    assert MOST_BYTES - 10 <= len(record) <= MOST_BYTES + 1
    assert "(The beginning was left out.)" in record.decode()
    assert "299 ä€" in record.decode()
    assert "200 ä€" not in record.decode()


def test_the_record_has_what_was_said_in_all_turns_and_not_what_was_taken_back(make_changed: Callable[[str], Run], alice: User) -> None:
    run = make_changed("claude")
    now = timezone.now()
    Turn.objects.create(run=run, number=2, prompt="Never mind", author=alice, status="succeeded", started_at=now)
    Turn.objects.create(run=run, number=3, prompt="", author=alice, status="succeeded", kind="revert", reverts_to=1, started_at=now)
    Turn.objects.create(run=run, number=4, prompt="And then", author=alice, status="succeeded", started_at=now)
    record = record_of(run).decode()
    assert record.index("Raise the `price`") < record.index("It costs") < record.index("And then")
    assert "Never mind" not in record


@pytest.fixture
def make_kept(make_changed: Callable[[str], Run]) -> Callable[[str], Run]:
    """Such a run whose conversation was kept."""

    def make(agent: str) -> Run:
        run = make_changed(agent)
        run.turns.update(conversation=ID)
        Conversation.objects.create(run=run, turn=run.turns.get(), content=zlib.compress(b'{"type":"user"}\n'))
        return run

    return make


PLACES = {
    "claude": ".claude/projects/{project}/{id}.jsonl",
    "codex": ".codex/sessions/rollout-2000-01-01T00-00-00-{id}.jsonl",
}


@pytest.mark.parametrize("agent", PLACES)
def test_a_conversation_that_was_kept_is_put_in_its_place_and_resumed(
    as_alice: Client, make_kept: Callable[[str], Run], machine: Machine, agent: str
) -> None:
    run = make_kept(agent)
    machine.clone = machine.clone.rename(machine.clone.with_name("we.ird Ordner_ä"))
    machine.download(as_alice, run, "run-patch", "patch")
    machine.download(as_alice, run, "run-conversation", "jsonl")
    command = ByHand.of(run, pushed="").go_on
    done = machine.run(command)
    assert done.returncode == 0, done.stderr
    assert read(machine.clone) == ("price = 2\n", "new\n")
    project = "".join(c if c.isascii() and c.isalnum() else "-" for c in str(machine.clone.resolve()))
    place = machine.home / PLACES[agent].format(project=project, id=ID)
    assert place.read_text() == '{"type":"user"}\n'
    assert ID in machine.arguments

    place.write_text("gone on\n")
    machine.git("reset", "-q", "--hard")
    machine.git("switch", "-q", "main")
    machine.git("branch", "-q", "-D", HOSTILE)
    assert machine.run(command).returncode == 0
    assert place.read_text() == "gone on\n"


def test_the_page_offers_the_conversation_instead_of_the_transcript(as_alice: Client, make_kept: Callable[[str], Run]) -> None:
    run = make_kept("claude")
    Patch.objects.update(
        files=[{"path": "shop.py", "old_path": "", "state": "modified", "additions": 1, "deletions": 1, "is_binary": False}]
    )
    page = " ".join(as_alice.get(reverse("run-pull", args=[run.pk])).content.decode().split())
    assert f"{reverse('run-conversation', args=[run.pk])}?download" in page
    assert "Download transcript" not in page
    assert f"claude --resume {ID} --permission-mode default" in page
    assert "goes on in the conversation of this run" in page


def test_a_conversation_is_shown_to_its_owner_only_and_as_text(as_alice: Client, as_bob: Client, make_kept: Callable[[str], Run]) -> None:
    address = reverse("run-conversation", args=[make_kept("claude").pk])
    answer = as_alice.get(address)
    assert answer.content == b'{"type":"user"}\n'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert as_bob.get(address).status_code == 404


def test_an_id_that_is_none_is_in_no_command(make_kept: Callable[[str], Run]) -> None:
    run = make_kept("claude")
    run.turns.update(conversation="`touch x`")
    shown = ByHand.of(run, pushed="")
    assert not shown.resumes
    assert "touch" not in shown.go_on.replace(shlex.quote(HOSTILE), "")


def test_another_users_record_is_not_there(as_bob: Client, make_changed: Callable[[str], Run]) -> None:
    assert as_bob.get(reverse("run-transcript", args=[make_changed("claude").pk])).status_code == 404
