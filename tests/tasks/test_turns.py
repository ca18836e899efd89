"""Branching a run and going back in it; what a conversation consists of then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from tasks import services, turns
from tasks.errors import Conflict, InvalidInput
from tasks.models import Event, Patch, Run, RunStatus, SandboxStatus, Turn, User
from tasks.running import patches, transcripts

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]


@pytest.fixture
def run(make_run: MakeRun) -> Run:
    """Three turns that are over, each with a patch of its own and something said."""
    run = make_run(status=RunStatus.SUCCEEDED, sandbox=True)
    for number in (1, 2, 3):
        over = {"status": RunStatus.SUCCEEDED, "started_at": timezone.now(), "generation": 1, "conversation": "c-1"}
        turn, _ = Turn.objects.update_or_create(run=run, number=number, defaults={"prompt": f"prompt {number}", **over})
        Patch.objects.create(run=run, turn=turn, kind="final", content=f"patch {number}".encode(), sha256=str(number), additions=number)
        say(run, turn, number, f"answer {number}")
    return run


def say(run: Run, turn: Turn, seq: int, text: str) -> None:
    Event.objects.create(run=run, turn=turn, seq=seq, kind="message", data={"text": text})
    Run.objects.filter(pk=run.pk).update(next_seq=seq + 1)


def next_turn(run: Run, **more: Any) -> Turn:
    return Turn.objects.create(run=run, number=run.turns.count() + 1, prompt="next", **more)


def content(patch: Patch | None) -> bytes | None:
    return bytes(patch.content) if patch else None


def test_in_the_same_sandbox_the_conversation_is_resumed(run: Run) -> None:
    turn = next_turn(run)
    assert transcripts.conversation(turn, 1) == "c-1"
    assert transcripts.conversation(turn, 2) == ""


def test_a_transcript_holds_what_was_asked_and_said(run: Run) -> None:
    said = transcripts.text(next_turn(run))
    assert [said.index(text) for text in ("prompt 1", "answer 1", "prompt 2", "answer 2", "answer 3")] == sorted(
        said.index(text) for text in ("prompt 1", "answer 1", "prompt 2", "answer 2", "answer 3")
    )


def test_a_long_transcript_keeps_its_end(run: Run) -> None:
    turn = next_turn(run)
    say(run, run.turns.get(number=3), 9, "x" * transcripts.MOST + "the end")
    said = transcripts.text(turn)
    assert said.startswith("(The beginning was left out.)")
    assert said.endswith("the end")


def test_a_branch_goes_on_from_an_earlier_turn(run: Run, alice: User) -> None:
    branch = turns.branch_run(run=run, by=alice, after=2, prompt="Another way")
    assert (branch.status, branch.attempt, branch.parent, branch.parent_turn) == (RunStatus.QUEUED, 2, run, 2)
    assert content(patches.newest(branch)) == b"patch 2"
    said = transcripts.text(branch.turns.get())
    assert "answer 2" in said
    assert "answer 3" not in said
    assert transcripts.conversation(branch.turns.get(), 1) == ""  # that of the run is in another sandbox
    run.refresh_from_db()
    assert run.status == RunStatus.SUCCEEDED


def test_a_branch_of_a_branch_knows_it_all(run: Run, alice: User) -> None:
    first = turns.branch_run(run=run, by=alice, after=1, prompt="Another way")
    first.turns.update(status=RunStatus.SUCCEEDED, started_at=timezone.now())
    second = turns.branch_run(run=first, by=alice, after=1, prompt="Yet another")
    said = transcripts.text(second.turns.get())
    assert "answer 1" in said
    assert "Another way" in said
    assert "answer 2" not in said
    assert content(patches.newest(second)) == b"patch 1"


def test_a_branch_needs_a_turn_that_is_over_and_a_prompt(run: Run, alice: User) -> None:
    next_turn(run, status=RunStatus.QUEUED)
    with pytest.raises(Conflict):
        turns.branch_run(run=run, by=alice, after=4, prompt="Go")
    with pytest.raises(InvalidInput):
        turns.branch_run(run=run, by=alice, after=1, prompt=" ")
    assert Run.objects.count() == 1


def test_going_back_takes_later_changes_out_and_deletes_nothing(run: Run, alice: User) -> None:
    turn = turns.revert_run(run=run, by=alice, to=1)
    run.refresh_from_db()
    assert (run.status, run.generation, turn.number) == (RunStatus.SUCCEEDED, 2, 4)
    assert run.sandboxes.get().status == SandboxStatus.LOST
    assert content(patches.newest(run)) == b"patch 1"
    assert Patch.objects.filter(run=run).count() == 4
    following = services.send_follow_up(run=run, by=alice, prompt="Now differently")
    said = transcripts.text(following)
    assert "answer 1" in said
    assert "answer 2" not in said
    assert transcripts.conversation(following, 2) == ""


def test_going_back_to_the_beginning_leaves_the_base(run: Run, alice: User) -> None:
    turns.revert_run(run=run, by=alice, to=0)
    assert patches.newest(run) is None
    assert patches.after(run, 4) is not None
    assert transcripts.text(next_turn(run)) == ""


def test_nobody_goes_back_under_a_turn_at_work_or_one_that_waits(run: Run, alice: User) -> None:
    services.send_follow_up(run=run, by=alice, prompt="More")
    with pytest.raises(Conflict):
        turns.revert_run(run=run, by=alice, to=1)


def test_a_plan_that_waits_is_set_aside_with_its_turn(run: Run, alice: User) -> None:
    Run.objects.filter(pk=run.pk).update(status=RunStatus.WAITING)
    turns.revert_run(run=run, by=alice, to=2)
    with pytest.raises(Conflict):
        turns.approve_plan(run=run, by=alice, plan="1. Do it")


@pytest.mark.parametrize("to", [-1, 3, 99])
def test_going_back_to_where_one_is_makes_nothing(run: Run, alice: User, to: int) -> None:
    with pytest.raises(Conflict):
        turns.revert_run(run=run, by=alice, to=to)
    assert run.turns.count() == 3


def test_a_plan_is_approved_only_while_the_run_waits(run: Run, alice: User) -> None:
    with pytest.raises(Conflict):
        turns.approve_plan(run=run, by=alice, plan="1. Do it")
    Run.objects.filter(pk=run.pk).update(status=RunStatus.WAITING)
    with pytest.raises(InvalidInput):
        turns.approve_plan(run=run, by=alice, plan="  ")


def test_a_message_cannot_be_sent_now_when_nothing_is_at_work(run: Run, alice: User) -> None:
    turn = services.send_follow_up(run=run, by=alice, prompt="More")
    with pytest.raises(Conflict):
        turns.send_now(turn=turn, by=alice)
    assert turns.stop_and_send(run=run, by=alice, prompt="And more") == "queued"
