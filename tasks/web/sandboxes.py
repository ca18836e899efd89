"""Where a run's turns were done, and how long each step of them took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from django.conf import settings
from django.utils import timezone

from tasks import services
from tasks.models import ACTIVE, FINAL, Event, Run, RunStatus, Sandbox, SandboxStatus, Stage, Turn
from tasks.web.shown import duration

MOST_TURNS = 5
MOST_EVENTS = 1000  # status events looked at for them: a turn has about ten, and one a checkpoint
_LABELS = dict(Stage.choices) | {"queue": "Waiting in the queue"}


# --- sandboxes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """One sandbox of a run. `limits` are (what, how much, by what means it holds); it sleeps until `kept_until` at the latest."""

    sandbox: Sandbox
    state: str
    isolation: str
    limits: list[tuple[str, str, str]]
    kept_until: datetime | None


def places_of(run: Run) -> list[Place]:
    """The sandboxes of a run, the present one first."""
    return [
        _place(run, sandbox)
        for sandbox in Sandbox.objects.filter(run=run).select_related("prepared").order_by("-generation").defer("parse_state")
    ]


def _place(run: Run, sandbox: Sandbox) -> Place:
    means = sandbox.record.get("limits") or {}
    amounts = {
        "memory": ("Memory", f"{settings.SANDBOX_MEMORY_MB:,} MB"),
        "disk": ("Disk", f"{settings.SANDBOX_DISK_MB:,} MB"),
        "processes": ("Processes", f"{settings.SANDBOX_PROCESSES:,}"),
        "cpu": ("Processor", f"a share of weight {settings.SANDBOX_CPU_WEIGHT}"),
    }
    limits = [(*amount, str(means[name])) for name, amount in amounts.items() if name in means]
    return Place(sandbox, _state(run, sandbox), str(sandbox.record.get("isolation", "")), limits, _kept_until(run, sandbox))


def _state(run: Run, sandbox: Sandbox) -> str:
    """What has become of a sandbox, and when it goes."""
    match sandbox.status:
        case SandboxStatus.DESTROYED if sandbox.lost_at:
            return "Lost: it was gone when it was looked for, with all that was in it. The newest patch is kept."
        case SandboxStatus.DESTROYED:
            return "Destroyed, with all that was in it."
        case SandboxStatus.LOST:
            return "Lost: its host or its processes went away. What is left of it is being removed."
        case _ if run.task.archived_at:
            return "The task is archived, so it is being destroyed."
        case SandboxStatus.STARTING:
            return "It is being made." if run.is_active else "It was never ready."
        case _ if run.is_active:
            return "At work."
    return "It sleeps: its files are kept for follow-ups."


def _kept_until(run: Run, sandbox: Sandbox) -> datetime | None:
    """When a sandbox that sleeps will be destroyed; None when it does not sleep."""
    is_asleep = sandbox.status in (SandboxStatus.PAUSED, SandboxStatus.LIVE) and run.status in FINAL and not run.task.archived_at
    if not is_asleep or run.finished_at is None:
        return None
    return run.finished_at + timedelta(hours=settings.SANDBOX_RETENTION_H)


def is_gone(run: Run) -> bool:
    """Whether the sandbox that a follow-up would go on in is no more."""
    gone = (SandboxStatus.LOST, SandboxStatus.DESTROYED)
    return run.is_over and Sandbox.objects.filter(run=run, generation=run.generation, status__in=gone).exists()


# --- steps --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One step of a turn. `x` and `width` are its place in the turn's bar, as SVG has them."""

    name: str
    since: datetime
    seconds: float
    is_now: bool
    x: str
    width: str

    @property
    def label(self) -> str:
        return _LABELS[self.name]

    @property
    def time(self) -> str:
        return f"{self.seconds:.1f} s" if self.seconds < 59.95 else duration(self.seconds)


@dataclass(frozen=True)
class TurnSteps:
    turn: Turn
    steps: list[Step]

    @property
    def time(self) -> str:
        seconds = sum(step.seconds for step in self.steps)
        return f"{seconds:.1f} s" if seconds < 59.95 else duration(seconds)


Mark = tuple[datetime, str]  # from when on a turn is at which step; "" is the end


def steps_of(run: Run) -> list[TurnSteps]:
    """The steps of the last turns, newest first, from the events of their states."""
    turns = list(run.turns.order_by("-number").defer("prompt", "outcome")[:MOST_TURNS])
    events = Event.objects.filter(run=run, kind="status").order_by("-seq").values_list("turn_id", "at", "data")[:MOST_EVENTS]
    told: dict[int, list[tuple[datetime, dict[str, Any]]]] = {turn.pk: [] for turn in turns}
    for turn_id, at, data in reversed(events):
        if turn_id in told:
            told[turn_id].append((at, data))
    shown = [turn for turn in turns if told[turn.pk] or turn.status == run.status == RunStatus.QUEUED]
    return [TurnSteps(turn, _steps(_marks(run, turn, told[turn.pk]), is_going_on=_is_going_on(turn))) for turn in shown]


def _is_going_on(turn: Turn) -> bool:
    return turn.status in (*ACTIVE, RunStatus.QUEUED)


def _marks(run: Run, turn: Turn, told: Sequence[tuple[datetime, dict[str, Any]]]) -> list[Mark]:
    marks = [(turn.created_at, "queue"), *(mark for at, data in told for mark in _mark(at, data))]
    if turn.number == 1:
        marks[1:1] = _fetching(run, marks[0][0], marks[1][0] if len(marks) > 1 else timezone.now())
    if _is_going_on(turn):
        marks.append((timezone.now(), ""))
    return [mark for before, mark in pairwise([(marks[0][0], "none"), *marks]) if before[1] != mark[1]]


def _mark(at: datetime, data: dict[str, Any]) -> Iterator[Mark]:
    """What one event of a state says about the steps."""
    ended = data.get("ended")
    if (status := data.get("status")) in RunStatus.values:
        names = {RunStatus.QUEUED: "queue", RunStatus.STARTING: Stage.PROVISION}
        if status != RunStatus.RUNNING:
            yield at, names.get(RunStatus(status), "")
    elif data.get("stage") in Stage.values:
        yield at, str(data["stage"])
    elif isinstance(ended, dict) and (data.get("step") == Stage.AGENT or ended.get("code") != 0):
        yield at, Stage.COLLECT


def _fetching(run: Run, since: datetime, until: datetime) -> list[Mark]:
    """The part of the wait in which the repository was mirrored, when it was."""
    operation = services.mirror_operation(run.task.repo)
    if operation is None or (operation.finished_at or until) <= since or operation.created_at >= until:
        return []
    begun, ended = max(since, operation.created_at), operation.finished_at
    return [(begun, "mirror"), *([(ended, "queue")] if ended and ended < until else [])]


def _steps(marks: Sequence[Mark], *, is_going_on: bool) -> list[Step]:
    spans = [(name, since, max(0.0, (until - since).total_seconds())) for (since, name), (until, _) in pairwise(marks) if name]
    total = sum(seconds for _, _, seconds in spans) or 1.0
    steps: list[Step] = []
    passed = 0.0
    for number, (name, since, seconds) in enumerate(spans, 1):
        x, width = f"{100 * passed / total:.2f}%", f"{100 * seconds / total:.2f}%"
        steps.append(Step(str(name), since, seconds, is_going_on and number == len(spans), x, width))
        passed += seconds
    return steps
