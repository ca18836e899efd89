"""The agent's own file of a conversation, as it is kept when a turn is over: redacted, bounded, and never in a turn's way."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from agents.adapters import errors
from sandboxes.base import Completed
from sandboxes.errors import SandboxError
from tasks import turns
from tasks.models import Conversation, Phase, Run, RunStatus, SandboxStatus, Turn, Variable
from tasks.models import Sandbox as Row
from tasks.running import conversations, jobs
from tests.tasks.running.fake import FakeBackend, FakeBox

pytestmark = pytest.mark.django_db
ID = "01a21e64-4c37-74f2-b382-98396d01adb1"
SECRET = 'swordfish-"9"'


class Talker(FakeBox):
    """Its commands print `said`, or raise it; `asked` are those commands."""

    said: bytes | Exception = b""
    asked: list[list[str]]

    async def run(self, argv: Any, *, timeout: float) -> Completed:  # noqa: ASYNC109 - as the contract has it
        self.asked = [*getattr(self, "asked", []), list(argv)]
        if isinstance(self.said, Exception):
            raise self.said
        return Completed(0, self.said, b"")


def lines(*said: Any) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in said)


def user(text: str) -> dict[str, Any]:
    return {"type": "user", "message": {"role": "user", "content": text}}


@pytest.fixture
def end(make_run: Callable[..., Run], local: FakeBackend) -> Callable[..., Run]:
    """A run whose newest turn is over in a sandbox where the agent's file is `said`."""

    def make(said: bytes | Exception, run: Run | None = None, **fields: Any) -> Run:
        if run is None:
            run = make_run(**{"status": RunStatus.RUNNING, "agent": "claude", "stage": "collect"} | fields)
            secret = Variable(repo=run.task.repo, name="WORD", is_secret=True, phase=Phase.SETUP)
            secret.value = SECRET
            secret.save()
            box = Talker(local, f"here:{run.pk}:1", local.make(f"here:{run.pk}:1").spec)
            local.boxes[box.ref] = box
            state: dict[str, Any] = {}
            errors.succeeded(state)
            row = {"backend": "local", "host": "here", "ref": box.ref, "status": SandboxStatus.LIVE}
            Row.objects.create(run=run, generation=1, parse_state={"turn": 1, "adapter": state}, **row)
        else:
            Run.objects.filter(pk=run.pk).update(status=RunStatus.RUNNING)
            Row.objects.filter(run=run).update(status=SandboxStatus.LIVE)
        box = talker(local, run)
        box.said = said
        outcome = {"step": "agent", "reason": "exit", "code": 0, "signal": None, "has_patch": False, "error": None}
        newest = run.turns.order_by("-number").values("pk")[:1]
        begun = {"conversation": ID, "generation": 1, "started_at": timezone.now()}
        run.turns.filter(pk__in=newest).update(status=RunStatus.RUNNING, outcome=outcome, **begun)
        jobs.finish_turn(run.pk, 1)
        run.refresh_from_db()
        return run

    return make


def talker(local: FakeBackend, run: Run) -> Talker:
    box = local.boxes[Row.objects.get(run=run).ref]
    assert isinstance(box, Talker)
    return box


End = Callable[..., Run]


def kept(run: Run) -> list[dict[str, Any]]:
    found = conversations.of_run(run)
    assert found is not None
    return [json.loads(line) for line in conversations.content(found[0]).splitlines()]


def test_what_was_said_is_kept_without_secrets_and_what_only_the_sandbox_knows(end: End, local: FakeBackend) -> None:
    run = end(lines(user(f"It is {SECRET}."), {"type": "cost-state"}, user("And then?")) + b'not json\n{"type": "user", "mess')
    assert run.status == RunStatus.SUCCEEDED
    assert kept(run) == [user("It is •••."), user("And then?")]
    assert f"/home/agent/.claude/projects/-workspace/{ID}.jsonl" in talker(local, run).asked[0][2]
    assert not talker(local, run).is_awake


def test_the_next_turn_replaces_it_and_until_then_it_is_not_gone_on_with(end: End) -> None:
    run = end(lines(user("One")))
    Turn.objects.create(run=run, number=2, prompt="Two", status=RunStatus.RUNNING, started_at=timezone.now())
    assert conversations.of_run(run) is None
    end(lines(user("One"), user("Two")), run)
    assert kept(run) == [user("One"), user("Two")]
    assert Conversation.objects.filter(run=run).count() == 1


def test_after_going_back_it_is_not_gone_on_with(end: End) -> None:
    run = end(lines(user("One")))
    turns.revert_run(run=run, by=run.task.owner, to=0)
    assert conversations.of_run(run) is None


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\xff\xfe" * 100,
        b'{"type": "user", "message": ' + b"[" * 100_000,
        b"x" * (conversations.MOST_BYTES + 1),
        SandboxError("It does not answer."),
        KeyError("stdout"),
    ],
    ids=["nothing", "no text", "deep", "too much", "no answer", "an odd answer"],
)
def test_a_turn_ends_well_whatever_its_file_is(end: End, said: bytes | Exception) -> None:
    run = end(said)
    assert run.status == RunStatus.SUCCEEDED
    assert conversations.of_run(run) is None


def test_of_an_agent_without_such_a_file_nothing_is_asked(end: End, local: FakeBackend) -> None:
    run = end(lines(user("One")), agent="gemini")
    assert run.status == RunStatus.SUCCEEDED
    assert not hasattr(talker(local, run), "asked")
    assert conversations.of_run(run) is None


def test_it_goes_with_its_run(end: End) -> None:
    run = end(lines(user("One")))
    run.task.delete()
    assert not Conversation.objects.exists()
