"""What becomes of a turn when it is over: plans wait, what was to change nothing has changed nothing, some errors are tried again."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from agents.adapters.base import Adapter, AgentEvent, Ending, ErrorClass, Launch, ModelAccess, Outcome, ParseState, TurnRequest
from agents.registry import ADAPTERS
from sandboxes.base import FetchedPatch
from tasks import services, turns
from tasks.models import EndReason, Mode, ModelCall, Patch, PatchKind, Run, RunStatus, Turn, TurnKind, User
from tasks.running import jobs, patches, scheduler, usage, verdicts
from tasks.running.redact import Redactor

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]


class Oracle(Adapter):
    name = "oracle"
    label = "Oracle"
    modes = ("code", "plan", "ask")

    def launch(self, turn: TurnRequest, access: ModelAccess) -> Launch:
        return Launch(argv=["oracle"])

    def parse(self, line: str, state: ParseState, *, stream: str = "stdout") -> Iterator[AgentEvent]:
        yield AgentEvent("log", {"stream": stream, "text": line})

    def outcome(self, ending: Ending, state: ParseState) -> Outcome:
        if ending.code:
            return Outcome(False, ErrorClass(state.get("class", "crashed")), "The oracle is silent.")
        return super().outcome(ending, state)


@pytest.fixture(autouse=True)
def _oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADAPTERS, "oracle", Oracle())


@pytest.fixture
def end(make_run: MakeRun) -> Callable[..., Run]:
    """A run whose only turn the journal says is over, finished; `calls` are why its calls were refused, "" for one that was not."""

    def make(
        *,
        code: int | None = 0,
        mode: str = Mode.CODE,
        reason: str = "exit",
        state: dict[str, Any] | None = None,
        calls: Sequence[str] = (),
        **turn: Any,
    ) -> Run:
        run = make_run(status=RunStatus.RUNNING, sandbox=True, agent="oracle", stage="collect")
        run.sandboxes.update(parse_state={"turn": 1, "adapter": state or {}})
        outcome = {"step": "agent", "reason": reason, "code": code, "signal": None, "has_patch": False, "error": None}
        run.turns.update(status=RunStatus.RUNNING, mode=mode, outcome=outcome, generation=1, started_at=timezone.now(), **turn)
        for refused in calls:
            call = {"user": run.task.owner, "run": run, "turn": run.turns.get(), "provider": "openai", "status": 429 if refused else 200}
            ModelCall.objects.create(**call, refused=refused)
        if turn.get("end_reason"):
            Run.objects.filter(pk=run.pk).update(stop_requested_at=timezone.now())
        jobs.finish_turn(run.pk, run.generation)
        run.refresh_from_db()
        return run

    return make


End = Callable[..., Run]


def test_a_plan_waits_for_approval_and_goes_on_as_code(end: End, alice: User) -> None:
    run = end(mode=Mode.PLAN, answer="1. Do it")
    assert run.status == RunStatus.WAITING
    assert run.turns.get().status == RunStatus.SUCCEEDED
    turn = turns.approve_plan(run=run, by=alice, plan="1. Do it well")
    run.refresh_from_db()
    assert run.status == RunStatus.QUEUED
    assert turn.mode == Mode.CODE
    assert turn.prompt.endswith("1. Do it well")


def test_a_plan_that_failed_does_not_wait(end: End) -> None:
    assert end(mode=Mode.PLAN, code=1).status == RunStatus.FAILED


def test_an_ask_is_over_and_can_go_on_as_code(end: End, alice: User) -> None:
    run = end(mode=Mode.ASK, answer="It is blue.")
    assert run.status == RunStatus.SUCCEEDED
    assert services.send_follow_up(run=run, by=alice, prompt="And why?").mode == Mode.ASK
    assert services.send_follow_up(run=run, by=alice, prompt="Paint it.", mode=Mode.CODE).mode == Mode.CODE


PATCH = b"diff --git a/x b/x\nnew file mode 100644\nindex 0000000..e69de29\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+hello\n"


def fetched(content: bytes) -> FetchedPatch:
    return FetchedPatch(content, hashlib.sha256(content).hexdigest(), [])


def test_changes_of_a_turn_that_was_to_make_none_are_named(make_run: MakeRun) -> None:
    turn = make_run(status=RunStatus.RUNNING).turns.get()
    assert verdicts.disobeyed(turn, fetched(b"")) == ""
    assert "(x)" in verdicts.disobeyed(turn, fetched(PATCH))


def test_what_an_earlier_turn_changed_is_no_disobedience(make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.RUNNING)
    Patch.objects.create(run=run, turn=run.turns.get(), kind="final", content=PATCH, sha256="x")
    later = Turn.objects.create(run=run, number=2, prompt="And?", mode=Mode.ASK)
    assert verdicts.disobeyed(later, fetched(PATCH)) == ""
    assert "thrown away" in verdicts.disobeyed(later, fetched(b""))


@pytest.mark.parametrize("error_class", ["rate_limit", "overloaded"])
def test_what_goes_away_by_waiting_is_tried_again_twice(end: End, error_class: str) -> None:
    run = end(code=1, state={"class": error_class}, conversation="c-1")
    again = run.turns.get(number=2)
    assert (run.status, again.kind, again.retries, again.prompt) == (RunStatus.QUEUED, TurnKind.RETRY, 1, "Go on where you were cut off.")
    assert run.not_before is not None
    assert run.not_before > timezone.now()
    assert run.turns.get(number=1).error_class == error_class
    assert scheduler.dispatch() == 0
    assert scheduler.places([run.pk])[run.pk].reason.startswith("Tries again in")
    Run.objects.filter(pk=run.pk).update(not_before=timezone.now() - timedelta(seconds=1))
    assert scheduler.dispatch() == 1
    assert end(code=1, state={"class": error_class}, retries=2).status == RunStatus.FAILED


def test_without_a_conversation_the_prompt_is_sent_again(end: End) -> None:
    run = end(code=1, state={"class": "overloaded"})
    assert run.turns.get(number=2).prompt == run.task.prompt


@pytest.mark.parametrize("error_class", ["auth", "credit", "model", "context", "crashed"])
def test_what_waiting_does_not_mend_is_not_tried_again(end: End, error_class: str) -> None:
    run = end(code=1, state={"class": error_class})
    assert (run.status, run.error_class, run.turns.count()) == (RunStatus.FAILED, error_class, 1)


@pytest.mark.parametrize("reason", ["silence", "total"])
def test_an_agent_that_never_said_that_it_was_refused_was_refused(end: End, reason: str) -> None:
    run = end(code=None, reason=reason, calls=["", "rate_limit", "credit"])
    assert (run.status, run.error_class) == (RunStatus.FAILED, "credit")
    assert run.error.startswith("Oracle was stopped: ")
    assert "Add credit" in run.error


def test_an_agent_that_was_refused_for_a_while_is_given_time(end: End) -> None:
    run = end(code=None, reason="silence", calls=["rate_limit"])
    assert (run.status, run.turns.get(number=2).kind) == (RunStatus.QUEUED, TurnKind.RETRY)


@pytest.mark.parametrize("calls", [[], [""], ["credit", ""]])
def test_an_agent_that_was_answered_and_fell_silent_hung(end: End, calls: list[str]) -> None:
    assert end(code=None, reason="silence", calls=calls).error_class == "hung"


def test_what_an_agent_that_left_said_counts_more_than_what_it_was_refused(end: End) -> None:
    assert end(code=1, state={"class": "crashed"}, calls=["credit"]).error_class == "crashed"


def test_an_agent_that_hung_after_its_result_has_finished(end: End) -> None:
    assert end(code=None, reason="finished").status == RunStatus.SUCCEEDED


@pytest.mark.parametrize(("code", "reason"), [(None, "stop"), (1, "exit")])
def test_a_used_up_budget_says_so_whether_the_agent_was_stopped_or_left(end: End, code: int | None, reason: str) -> None:
    run = end(code=code, reason=reason, end_reason=EndReason.BUDGET, end_text="The budget of this run ($1.00) is used up.")
    assert (run.status, run.error_class, run.error) == (RunStatus.FAILED, "credit", "The budget of this run ($1.00) is used up.")


def test_a_turn_that_was_stopped_for_a_follow_up_lets_it_go_next(make_run: MakeRun, alice: User) -> None:
    """Those that were sent before it go after it."""
    run = make_run(status=RunStatus.RUNNING, sandbox=True, agent="oracle")
    first = services.send_follow_up(run=run, by=alice, prompt="First")
    turn = services.send_follow_up(run=run, by=alice, prompt="At once")
    assert turns.send_now(turn=turn, by=alice) == "interrupted"
    outcome = {"step": "agent", "reason": "stop", "code": None, "signal": 15, "has_patch": False, "error": None}
    run.turns.filter(number=1).update(outcome=outcome)
    jobs.finish_turn(run.pk, run.generation)
    run.refresh_from_db()
    first.refresh_from_db()
    assert (run.status, run.stop_requested_at) == (RunStatus.QUEUED, None)
    assert [t.prompt for t in run.turns.filter(status=RunStatus.QUEUED)] == ["At once", "First"]
    assert (turn.number, first.number) == (3, 4)
    assert run.turns.get(number=1).status == RunStatus.INTERRUPTED


def test_stop_after_stop_and_send_stops_for_good(make_run: MakeRun, alice: User) -> None:
    run = make_run(status=RunStatus.RUNNING, sandbox=True, agent="oracle")
    assert turns.stop_and_send(run=run, by=alice, prompt="At once") == "interrupted"
    assert services.cancel_run(run=run, by=alice)
    outcome = {"step": "agent", "reason": "stop", "code": None, "signal": 15, "has_patch": False, "error": None}
    run.turns.filter(number=1).update(outcome=outcome)
    jobs.finish_turn(run.pk, run.generation)
    run.refresh_from_db()
    assert run.status == RunStatus.CANCELED
    assert not run.turns.filter(status=RunStatus.QUEUED).exists()


def test_what_the_broker_counted_counts_where_the_agent_said_less(make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.RUNNING, input_tokens=1100, output_tokens=70)
    turn = run.turns.get()
    Turn.objects.filter(pk=turn.pk).update(input_tokens=1000, output_tokens=70)  # the run had 100 before
    call = {"user": run.task.owner, "run": run, "turn": turn, "provider": "anthropic", "status": 200}
    for _ in range(2):
        ModelCall.objects.create(**call, input_tokens=900, cached_tokens=300, output_tokens=30, cost_usd="0.25")
    for _ in range(2):  # again is fine
        with transaction.atomic():
            usage.settle(turn)
    for row in (turn, run):
        row.refresh_from_db()
    assert (turn.input_tokens, turn.cached_tokens, turn.output_tokens, str(turn.cost_usd)) == (1800, 600, 70, "0.500000")
    assert (run.input_tokens, run.cached_tokens, run.output_tokens, str(run.cost_usd)) == (1900, 600, 70, "0.500000")


def test_the_cost_that_an_agent_says_stays(make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.RUNNING)
    turn = run.turns.get()
    Turn.objects.filter(pk=turn.pk).update(cost_usd="0.1")
    ModelCall.objects.create(user=run.task.owner, run=run, turn=turn, provider="openai", status=200, cost_usd="0.3")
    with transaction.atomic():
        usage.settle(turn)
    turn.refresh_from_db()
    assert str(turn.cost_usd) == "0.100000"


@pytest.fixture
def end_without_sandbox(make_run: MakeRun) -> Callable[..., Run]:
    """A run whose sandbox has made the patch `made` and was gone before it was fetched, finished; `checkpoint` had been."""

    def make(made: bytes, *, checkpoint: bytes | None = None) -> Run:
        run = make_run(status=RunStatus.RUNNING, sandbox=True, agent="oracle", stage="collect")
        if checkpoint is not None:
            patches.store(run.turns.get(), PatchKind.CHECKPOINT, fetched(checkpoint), Redactor({}))
        outcome = {"step": "agent", "reason": "exit", "code": 0, "has_patch": True, "error": None, "sha256": fetched(made).sha256}
        run.turns.update(status=RunStatus.RUNNING, outcome=outcome, generation=1, started_at=timezone.now())
        jobs.finish_turn(run.pk, run.generation)
        run.refresh_from_db()
        return run

    return make


def test_a_turn_whose_work_was_lost_with_its_sandbox_is_interrupted_with_its_checkpoint(end_without_sandbox: End) -> None:
    run = end_without_sandbox(PATCH + PATCH.replace(b"x\n", b"y\n"), checkpoint=PATCH)
    assert (run.status, run.stage) == (RunStatus.INTERRUPTED, "collect")
    assert "The last checkpoint is kept" in run.error
    assert [(patch.kind, bytes(patch.content)) for patch in run.patches.all()] == [(PatchKind.CHECKPOINT, PATCH)]


def test_a_turn_that_changed_nothing_has_nothing_to_lose(end_without_sandbox: End) -> None:
    run = end_without_sandbox(b"")
    assert run.status == RunStatus.SUCCEEDED
    assert [(patch.kind, bytes(patch.content)) for patch in run.patches.all()] == [(PatchKind.FINAL, b"")]


def test_a_turn_that_changed_nothing_after_its_checkpoint_has_nothing_to_lose(end_without_sandbox: End) -> None:
    run = end_without_sandbox(PATCH, checkpoint=PATCH)
    assert run.status == RunStatus.SUCCEEDED
    assert bytes(run.patches.get(kind=PatchKind.FINAL).content) == PATCH


@pytest.mark.django_db(transaction=True)
def test_two_jobs_that_end_the_same_turn_try_it_again_once(make_run: MakeRun) -> None:
    """The follower and reconcile may both ask for it; both have read that the turn is at work before either has ended it."""
    run = make_run(status=RunStatus.RUNNING, sandbox=True, agent="oracle", stage="collect")
    run.sandboxes.update(parse_state={"turn": 1, "adapter": {"class": "overloaded"}})
    outcome = {"step": "agent", "reason": "exit", "code": 1, "signal": None, "has_patch": False, "error": None}
    run.turns.update(status=RunStatus.RUNNING, outcome=outcome, generation=1, started_at=timezone.now())
    both_have_read = threading.Barrier(2)

    class Slow(Oracle):
        def outcome(self, ending: Ending, state: ParseState) -> Outcome:
            both_have_read.wait(20)
            return super().outcome(ending, state)

    def end_it() -> None:
        try:
            jobs.finish_turn(run.pk, run.generation)
        finally:
            connection.close()

    ADAPTERS["oracle"] = Slow()  # taken back with the fixture's own
    threads = [threading.Thread(target=end_it) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    run.refresh_from_db()
    assert run.status == RunStatus.QUEUED
    assert [turn.kind for turn in run.turns.order_by("number")] == [TurnKind.PROMPT, TurnKind.RETRY]
