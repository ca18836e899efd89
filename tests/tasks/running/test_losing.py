"""A sandbox of E2B's that vanishes is replaced once a turn; one that was given up on purpose is no loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from agents.adapters.base import Adapter, AgentEvent, Launch, ModelAccess, ParseState, TurnRequest
from agents.registry import ADAPTERS
from sandboxes.errors import SandboxError, SandboxGone
from tasks.models import EndReason, Event, Run, RunStatus, Sandbox, SandboxStatus
from tasks.running import jobs, lifecycle, losing
from tests.tasks.running.fake import FakeBackend, FakeBox, have_mirror

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
InCloud = Callable[..., tuple[Run, Sandbox, FakeBox]]


class Resuming(Adapter):
    name = "resuming"
    label = "Resuming"
    can_resume = True

    def launch(self, turn: TurnRequest, access: ModelAccess) -> Launch:
        return Launch(argv=["true"])

    def parse(self, line: str, state: ParseState, *, stream: str = "stdout") -> Iterator[AgentEvent]:
        yield AgentEvent("log", {"stream": stream, "text": line})


@pytest.fixture(autouse=True)
def _resuming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADAPTERS, "resuming", Resuming())


@pytest.fixture
def at_work(in_cloud: InCloud) -> Callable[..., tuple[Run, Sandbox, FakeBox]]:
    """A run whose turn has begun in its sandbox."""

    def make(**fields: object) -> tuple[Run, Sandbox, FakeBox]:
        return in_cloud(status=RunStatus.RUNNING, row={"parse_state": {"turn": 1}}, **{"agent": "resuming"} | fields)

    return make


def lost(run: Run) -> Run:
    jobs.sandbox_lost(run.pk, run.generation)
    run.refresh_from_db()
    return run


def again(run: Run, cloud: FakeBackend) -> FakeBox:
    """The run at work in its new generation."""
    box = cloud.make(f"x:{run.pk}:{run.generation}")
    Sandbox.objects.create(
        run=run, generation=run.generation, backend="e2b", ref=box.ref, status=SandboxStatus.LIVE, parse_state={"turn": 1}
    )
    Run.objects.filter(pk=run.pk).update(status=RunStatus.RUNNING)
    run.turns.update(status=RunStatus.RUNNING)
    return box


def test_the_first_loss_of_a_turn_starts_a_new_generation_and_says_so(at_work: InCloud, cloud: FakeBackend) -> None:
    run, row, _ = at_work()
    cloud.boxes.clear()
    lost(run)
    row.refresh_from_db()
    assert (run.status, run.generation, run.turns.get().losses) == (RunStatus.QUEUED, 2, 1)
    assert row.status == SandboxStatus.LOST
    assert row.lost_at is not None
    assert "from the last checkpoint" in Event.objects.get(run=run, kind="error").data["text"]


def test_the_second_loss_in_the_same_turn_ends_it(at_work: InCloud, cloud: FakeBackend) -> None:
    run, _, _ = at_work()
    cloud.boxes.clear()
    lost(run)
    again(run, cloud)
    cloud.boxes.clear()
    lost(run)
    assert (run.status, run.generation, run.turns.get().losses) == (RunStatus.INTERRUPTED, 2, 2)
    assert run.error.startswith("The sandbox was lost again in the same turn")
    assert Sandbox.objects.filter(run=run, lost_at__isnull=False).count() == 2


def test_generations_of_earlier_turns_do_not_count(at_work: InCloud, cloud: FakeBackend) -> None:
    run, _, _ = at_work(generation=losing.MOST_GENERATIONS + 3)
    cloud.boxes.clear()
    assert lost(run).status == RunStatus.QUEUED


def test_a_script_is_not_run_twice_by_itself(at_work: InCloud, cloud: FakeBackend) -> None:
    run, _, _ = at_work(agent="shell")
    cloud.boxes.clear()
    lost(run)
    assert (run.status, run.generation) == (RunStatus.INTERRUPTED, 1)


def test_told_twice_it_is_one_loss(at_work: InCloud, cloud: FakeBackend) -> None:
    run, _, _ = at_work()
    cloud.boxes.clear()
    jobs.sandbox_lost(run.pk, 1)
    jobs.sandbox_lost(run.pk, 1)
    run.refresh_from_db()
    assert (run.generation, run.turns.get().losses) == (2, 1)
    assert Event.objects.filter(run=run, kind="error").count() == 1


def test_one_that_e2b_put_to_sleep_is_not_lost(at_work: InCloud) -> None:
    run, row, box = at_work()
    box.is_awake = False
    lost(run)
    row.refresh_from_db()
    assert (run.status, row.status, row.lost_at) == (RunStatus.RUNNING, SandboxStatus.LIVE, None)


def test_one_whose_supervisor_was_killed_is_replaced_but_no_loss_of_e2b(at_work: InCloud) -> None:
    """Else an agent could keep everybody from new sandboxes."""
    run, row, _ = at_work()
    lost(run)
    row.refresh_from_db()
    assert (run.generation, row.status, row.lost_at) == (2, SandboxStatus.LOST, None)


def test_a_stopped_run_is_canceled_and_an_ended_sandbox_interrupted(at_work: InCloud, cloud: FakeBackend) -> None:
    stopped, row, _ = at_work()
    ended, other, _ = at_work()
    Run.objects.update(stop_requested_at=row.created_at)
    ended.turns.update(end_reason=EndReason.LIFETIME, end_text="Its time was up.")
    cloud.boxes.clear()
    assert lost(stopped).status == RunStatus.CANCELED
    assert (lost(ended).status, ended.error) == (RunStatus.INTERRUPTED, "Its time was up.")
    other.refresh_from_db()
    assert other.lost_at is None


def test_a_local_sandbox_may_be_lost_more_than_once_a_turn(make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.RUNNING, sandbox=True, agent="resuming")
    run.turns.update(losses=3)
    run.sandboxes.update(parse_state={"turn": 1})
    assert lost(run).generation == 2
    assert run.sandboxes.get().lost_at is not None


# --- asleep ---


def test_a_sandbox_found_gone_when_it_is_to_sleep_is_a_loss(in_cloud: InCloud, cloud: FakeBackend) -> None:
    run, row, _ = in_cloud(status=RunStatus.SUCCEEDED)
    cloud.boxes.clear()
    jobs.put_to_sleep(run.pk, 1)
    row.refresh_from_db()
    assert (row.status, row.lost_at is not None) == (SandboxStatus.LOST, True)


def test_a_backend_that_does_not_answer_loses_nothing(in_cloud: InCloud, cloud: FakeBackend) -> None:
    run, row, _ = in_cloud(status=RunStatus.SUCCEEDED)
    cloud.errors["pause"] = SandboxError("E2B could not pause a sandbox: 503")
    jobs.put_to_sleep(run.pk, 1)
    row.refresh_from_db()
    assert row.status == SandboxStatus.LIVE


def test_a_follow_up_whose_sandbox_is_gone_begins_in_a_new_one(in_cloud: InCloud, cloud: FakeBackend) -> None:
    run, row, _ = in_cloud(status=RunStatus.STARTING, row={"status": SandboxStatus.PAUSED})
    have_mirror(run)
    cloud.boxes.clear()
    jobs.start_turn(run.pk, 1)
    run.refresh_from_db()
    row.refresh_from_db()
    assert (run.status, run.generation) == (RunStatus.QUEUED, 2)
    assert row.lost_at is not None


def test_a_new_sandbox_that_vanishes_before_its_turn_begins_is_made_again(make_run: MakeRun, cloud: FakeBackend) -> None:
    run = make_run(backend="e2b", status=RunStatus.STARTING)
    have_mirror(run)
    cloud.errors["create"] = SandboxGone("It was there only just now.")
    for generation in (1, 2, 3):
        jobs.start_turn(run.pk, generation)
        if generation < 3:
            lifecycle.move(run.pk, source=[RunStatus.QUEUED], to=RunStatus.STARTING)
    run.refresh_from_db()
    assert (run.status, run.error) == (RunStatus.ERRORED, "It was there only just now.")
    assert Sandbox.objects.filter(lost_at__isnull=False).count() == 2


def test_one_that_was_given_up_on_purpose_is_no_loss(in_cloud: InCloud, cloud: FakeBackend) -> None:
    run, row, _ = in_cloud(status=RunStatus.STARTING, row={"status": SandboxStatus.LOST})
    have_mirror(run)
    jobs.start_turn(run.pk, 1)
    row.refresh_from_db()
    assert row.lost_at is None
