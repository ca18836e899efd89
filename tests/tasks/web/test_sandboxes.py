"""Where a run's turns were done and how long each step took, as its page tells."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tasks.models import Event, Operation, PreparedEnvironment, Run, Sandbox, SandboxStatus, Task, Turn
from tasks.web import sandboxes

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
START = datetime.fromisoformat("2026-01-01T12:00:00+00:00")


def tell(run: Run, turn: Turn, *told: tuple[float, dict[str, Any]]) -> None:
    """Status events of a turn, each so many seconds after START."""
    first = run.next_seq
    Event.objects.bulk_create(
        Event(run=run, seq=first + n, turn=turn, kind="status", data=data, at=START + timedelta(seconds=at))
        for n, (at, data) in enumerate(told)
    )
    run.next_seq = first + len(told)
    run.save(update_fields=["next_seq"])


def ended(step: str, code: int = 0) -> dict[str, Any]:
    return {"step": step, "ended": {"reason": "exit", "code": code, "signal": None, "seconds": 1.0}}


TOLD = [
    (4, {"status": "starting", "stage": "provision"}),
    (5, {"status": "running"}),
    (6, {"stage": "checkout"}),
    (7, ended("checkout")),
    (7, {"stage": "setup"}),
    (17, ended("setup")),
    (17, {"stage": "agent"}),
    (47, {"patch": "checkpoint", "files": 1}),
    (77, ended("agent")),
    (79, {"patch": "final", "files": 1}),
    (80, {"status": "succeeded"}),
]


def first_turn(run: Run, **fields: Any) -> Turn:
    Turn.objects.filter(run=run).update(created_at=START, **fields)
    return Turn.objects.get(run=run)


def steps(run: Run) -> list[tuple[str, float]]:
    return [(step.name, step.seconds) for step in sandboxes.steps_of(run)[0].steps]


def test_a_turns_steps_add_up_to_its_time(make_run: MakeRun) -> None:
    run = make_run(status="succeeded")
    tell(run, first_turn(run), *TOLD)
    assert steps(run) == [("queue", 4), ("provision", 2), ("checkout", 1), ("setup", 10), ("agent", 60), ("collect", 3)]
    (shown,) = sandboxes.steps_of(run)
    assert shown.time == "1:20"
    assert [step.x for step in shown.steps][:3] == ["0.00%", "5.00%", "7.50%"]


def test_a_step_that_fails_is_followed_by_collecting(make_run: MakeRun) -> None:
    run = make_run(status="failed")
    tell(run, first_turn(run), *TOLD[:5], (9, ended("setup", 1)), (10, {"status": "failed", "error": "No."}))
    assert steps(run) == [("queue", 4), ("provision", 2), ("checkout", 1), ("setup", 2), ("collect", 1)]


def test_the_step_a_turn_is_at_goes_on(as_alice: Client, make_run: MakeRun) -> None:
    run = make_run(status="running", stage="agent")
    tell(run, first_turn(run), *TOLD[:7])
    last = sandboxes.steps_of(run)[0].steps[-1]
    assert (last.name, last.is_now) == ("agent", True)
    page = as_alice.get(f"{run.get_absolute_url()}?tab=sandbox").content.decode()
    assert 'aria-current="step"' in page
    assert "Agent at work" in page


def test_a_turn_whose_sandbox_was_lost_begins_again(make_run: MakeRun) -> None:
    run = make_run(status="succeeded")
    tell(run, first_turn(run), *TOLD[:3], (10, {"status": "queued"}), (12, {"status": "starting"}), (13, {"status": "succeeded"}))
    assert steps(run) == [("queue", 4), ("provision", 2), ("checkout", 4), ("queue", 2), ("provision", 1)]


def test_fetching_the_repository_is_told_from_waiting(make_run: MakeRun) -> None:
    run = make_run(status="succeeded")
    tell(run, first_turn(run), *TOLD)
    Operation.objects.create(
        kind="mirror", subject=f"repo:{run.task.repo_id}", status="succeeded", created_at=START, finished_at=START + timedelta(seconds=3)
    )
    assert steps(run)[:3] == [("queue", 0), ("mirror", 3), ("queue", 1)]


def test_a_follow_up_that_waits_for_the_present_turn_has_no_steps_yet(make_run: MakeRun) -> None:
    run = make_run(status="running")
    tell(run, first_turn(run), *TOLD[:7])
    Turn.objects.create(run=run, number=2, prompt="x")
    assert [shown.turn.number for shown in sandboxes.steps_of(run)] == [1]


def test_only_the_last_turns_are_shown(make_run: MakeRun) -> None:
    run = make_run(status="succeeded")
    tell(run, first_turn(run), *TOLD)
    for number in range(2, 9):
        tell(run, Turn.objects.create(run=run, number=number, prompt="x", status="succeeded"), *TOLD)
    assert [shown.turn.number for shown in sandboxes.steps_of(run)] == [8, 7, 6, 5, 4]


def test_a_clock_that_runs_behind_makes_no_negative_step(make_run: MakeRun) -> None:
    run = make_run(status="succeeded")
    tell(run, first_turn(run), (4, {"status": "starting"}), (3, {"stage": "checkout"}), (5, {"status": "succeeded"}))
    assert [seconds for _, seconds in steps(run)] == [4, 0, 2]


# --- sandboxes ---


def test_isolation_limits_and_when_it_goes_are_said(as_alice: Client, make_run: MakeRun, settings: Any) -> None:
    settings.SANDBOX_RETENTION_H, settings.SANDBOX_MEMORY_MB = 48, 2048
    run = make_run(status="succeeded", sandbox=True, finished_at=START)
    record = {"isolation": "bubblewrap 0.11", "limits": {"memory": "cgroup v2", "disk": "watchdog"}}
    Sandbox.objects.update(status=SandboxStatus.PAUSED, record=record)
    page = as_alice.get(f"{run.get_absolute_url()}?tab=sandbox").content.decode()
    for text in ("It sleeps", "3 January 2026, 12:00 UTC", "bubblewrap 0.11", "2,048 MB", "by cgroup v2", "by watchdog"):
        assert text in page
    assert "Processes" not in page


def test_without_a_sandbox_it_says_so(as_alice: Client, make_run: MakeRun) -> None:
    assert "No sandbox yet" in as_alice.get(f"{make_run().get_absolute_url()}?tab=sandbox").content.decode()
    assert "ended before one was made" in as_alice.get(f"{make_run(status='canceled').get_absolute_url()}?tab=sandbox").content.decode()


def test_a_new_generation_is_said(as_alice: Client, make_run: MakeRun) -> None:
    run = make_run(status="running", generation=2, sandbox=True)
    Sandbox.objects.create(run=run, generation=1, backend="local", status=SandboxStatus.LOST, ref="old")
    page = as_alice.get(f"{run.get_absolute_url()}?tab=sandbox").content.decode()
    assert "Local sandbox 2" in page
    assert "Local sandbox 1" in page
    assert "the run went on in a new one" in page
    assert "Lost: its host or its processes went away." in page


@pytest.mark.parametrize("how", ["destroyed", "archived"])
def test_what_is_gone_is_said(as_alice: Client, make_run: MakeRun, how: str) -> None:
    run = make_run(status="succeeded", sandbox=True, finished_at=timezone.now())
    if how == "destroyed":
        Sandbox.objects.update(status=SandboxStatus.DESTROYED, destroyed_at=timezone.now())
    else:
        Task.objects.update(archived_at=timezone.now())
    page = as_alice.get(f"{run.get_absolute_url()}?tab=sandbox").content.decode()
    assert ("Destroyed, with all that was in it." if how == "destroyed" else "it is being destroyed") in page
    assert ("A follow-up goes on in a new one" in page) == (how == "destroyed")
    assert "It is destroyed at" not in page


def test_a_sandbox_that_began_with_a_prepared_environment_says_so(as_alice: Client, make_run: MakeRun) -> None:
    run = make_run(sandbox=True)
    address = f"{run.get_absolute_url()}?tab=sandbox"
    assert "prepared environment" not in as_alice.get(address).content.decode()
    environment = PreparedEnvironment.objects.create(repo=run.task.repo, backend="local", key="0" * 64, base_commit="a" * 40)
    run.sandboxes.update(prepared=environment)
    page = as_alice.get(address).content.decode()
    assert re.search(f"prepared environment</a> of\\s*<time[^>]*>{environment.created_at:%-d %B %Y, %H:%M} UTC", page)


def test_a_sandbox_elsewhere_says_what_its_user_should_know_and_when_it_ends(as_alice: Client, make_run: MakeRun) -> None:
    run = make_run(status="running", backend="e2b")
    end = datetime.fromisoformat("2026-01-01T14:32:00+00:00")
    row = Sandbox.objects.create(
        run=run, generation=1, backend="e2b", ref="e-1", status=SandboxStatus.LIVE, expires_at=end, notice="The <key> is inside."
    )
    page = as_alice.get(f"{run.get_absolute_url()}?tab=sandbox").content.decode()
    assert "The &lt;key&gt; is inside." in page
    assert "1 January 2026, 14:32 UTC</time> by the plan of E2B" in page
    Sandbox.objects.filter(pk=row.pk).update(status=SandboxStatus.DESTROYED, lost_at=end, destroyed_at=end)
    assert sandboxes.places_of(run)[0].state.startswith("Lost: it was gone")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("broker", "It stays with us: the agent asks its model through the gateway"),
        ("headers", "It is at E2B, which adds it to the requests for the model&#x27;s host"),
        ("environment", "It is in the environment of the agent, inside the sandbox."),
        ("", ""),
    ],
)
def test_what_a_sandbox_of_e2b_is_and_where_the_models_key_is(as_alice: Client, make_run: MakeRun, keys: str, said: str) -> None:
    run = make_run(status="running", backend="e2b")
    record = {"isolation": "E2B microVM", "template": "asynccode-<1f2e>", "cpus": 2, "memory_mb": 2048, **({"keys": keys} if keys else {})}
    Sandbox.objects.create(run=run, generation=1, backend="e2b", ref="e-1", status=SandboxStatus.LIVE, record=record)
    page = " ".join(as_alice.get(f"{run.get_absolute_url()}?tab=sandbox").content.decode().split())
    for text in (
        "E2B sandbox 1",
        "E2B microVM",
        "asynccode-&lt;1f2e&gt;",
        "2,048 MB",
        'Processors</dt> <dd> 2 <span class="quiet">by the template',
    ):
        assert text in page
    assert ("Model key" in page) == bool(keys)
    assert said in page


# --- earlier generations ---


def generations(run: Run, number: int, **fields: Any) -> None:
    """Sandboxes before the present one, destroyed meanwhile."""
    for generation in range(1, number):
        values = {"backend": run.backend, "ref": f"{run.pk}-{generation}", "status": SandboxStatus.DESTROYED} | fields
        Sandbox.objects.create(run=run, generation=generation, **values)
    Sandbox.objects.create(run=run, generation=number, backend=run.backend, ref=f"{run.pk}-{number}", status=SandboxStatus.LIVE)


def why(run: Run) -> list[str]:
    """What is said of the earlier sandboxes, the first one first."""
    return [place.state.split(":")[0] + ":" + place.state.partition(":")[2].split(".")[0] for place in sandboxes.places_of(run)[:0:-1]]


def test_a_sandbox_that_a_turn_lost_says_so(make_run: MakeRun) -> None:
    run = make_run(status="running", generation=3)
    generations(run, 3)
    run.turns.update(generation=3, losses=2)
    assert why(run) == ["Lost: its host or its processes went away"] * 2


def test_a_sandbox_that_was_found_gone_says_so(make_run: MakeRun) -> None:
    run = make_run(status="running", generation=2, backend="e2b")
    generations(run, 2, lost_at=timezone.now())
    assert why(run) == ["Lost: it was gone when it was looked for, with all that was in it"]


def test_a_sandbox_that_was_left_to_go_back_says_so(make_run: MakeRun) -> None:
    run = make_run(status="running", generation=2)
    generations(run, 2)
    run.turns.update(generation=1)
    Turn.objects.create(run=run, number=2, prompt="", kind="revert", status="succeeded", reverts_to=0)
    assert why(run) == ["Given up: the run went back to an earlier turn"]


def test_a_sandbox_whose_turn_was_to_change_nothing_says_so(make_run: MakeRun) -> None:
    run = make_run(status="running", generation=2)
    generations(run, 2, status=SandboxStatus.LOST)
    turn = run.turns.get()
    Turn.objects.filter(pk=turn.pk).update(generation=1)
    Event.objects.create(run=run, seq=1, turn=turn, kind="error", data={"text": "No.", "class": "mode"}, at=START)
    assert why(run) == ["Given up: its last turn was to change nothing, and did"]
