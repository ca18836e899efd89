"""Where a run's turns were done, and how long each step of them took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from django.conf import settings
from django.utils import timezone

from tasks import repositories
from tasks.models import ACTIVE, FINAL, Event, EventKind, Run, RunStatus, Sandbox, SandboxStatus, Stage, Turn, TurnKind
from tasks.running.model_ways import Keys
from tasks.web.log import load_turns
from tasks.web.shown import duration
from tasks.web.where import label_of

MOST_TURNS = 5
MOST_EVENTS = 1000  # status events looked at for them: a turn has about ten, and one a checkpoint
_LABELS = dict(Stage.choices) | {"queue": "Waiting in the queue"}

_KEYS: dict[str, str] = {
    Keys.BROKER: "It stays with us: the agent asks its model through the gateway, which adds the key. Budgets hold.",
    Keys.HEADERS: "It is at E2B, which adds it to the requests for the model's host on their way out. Nothing in the sandbox can read "
    "it; whatever runs there can use it.",
    Keys.ENVIRONMENT: "It is in the environment of the agent, inside the sandbox. The agent can read it, and whatever it starts.",
}
_LOST = "Lost: its host or its processes went away."


# --- sandboxes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """One sandbox of a run. `limits` are (what, how much, by what means it holds); it sleeps until `kept_until` at the latest.
    `keys` says where the model's key is while the agent works."""

    sandbox: Sandbox
    state: str
    limits: list[tuple[str, str, str]]
    kept_until: datetime | None

    @property
    def name(self) -> str:
        return f"{'Local' if self.sandbox.backend == 'local' else 'E2B'} sandbox {self.sandbox.generation}"

    @property
    def where(self) -> str:
        return label_of(self.sandbox.backend, self.sandbox.host)

    @property
    def isolation(self) -> str:
        return str(self.sandbox.record.get("isolation", ""))

    @property
    def template(self) -> str:
        return str(self.sandbox.record.get("template", ""))

    @property
    def keys(self) -> str:
        return _KEYS.get(self.sandbox.record.get("keys", ""), "")


def places_of(run: Run) -> list[Place]:
    """The sandboxes of a run, the present one first."""
    found = list(Sandbox.objects.filter(run=run).select_related("prepared").order_by("-generation").defer("parse_state"))
    why = _why_given_up(run) if len(found) > 1 else {}
    return [Place(row, _state(run, row, why.get(row.generation, "")), _limits(row), _kept_until(run, row)) for row in found]


def _limits(sandbox: Sandbox) -> list[tuple[str, str, str]]:
    record = sandbox.record
    if sandbox.backend != "local":
        sizes = {"memory_mb": ("Memory", "{:,} MB"), "cpus": ("Processors", "{}")}
        return [(name, form.format(record[key]), "the template") for key, (name, form) in sizes.items() if record.get(key)]
    means = record.get("limits") or {}
    amounts = {
        "memory": ("Memory", f"{settings.SANDBOX_MEMORY_MB:,} MB"),
        "disk": ("Disk", f"{settings.SANDBOX_DISK_MB:,} MB"),
        "processes": ("Processes", f"{settings.SANDBOX_PROCESSES:,}"),
        "cpu": ("Processor", f"a share of weight {settings.SANDBOX_CPU_WEIGHT}"),
    }
    return [(*amount, str(means[name])) for name, amount in amounts.items() if name in means]


def _why_given_up(run: Run) -> dict[int, str]:
    """By generation, why the run did not go on in a sandbox, where a turn tells."""
    load_turns(run)
    turns = [(turn.kind, turn.generation, turn.losses) for turn in run.turns.all()]
    disobeyed = Event.objects.filter(run=run, kind=EventKind.ERROR, data__class="mode").values_list("turn__generation", flat=True)
    why = dict.fromkeys(filter(None, disobeyed), "Given up: its last turn was to change nothing, and did.")
    for (_, generation, _), (kind, *_) in pairwise(turns):
        if generation and kind == TurnKind.REVERT:
            why[generation] = "Given up: the run went back to an earlier turn."
    for _, generation, losses in turns:  # one that lost its sandbox began again in the next
        why |= dict.fromkeys(range((generation or 0) - losses, generation or 0), _LOST)
    return why


def _state(run: Run, sandbox: Sandbox, why: str) -> str:
    """What has become of a sandbox, and when it goes."""
    match sandbox.status:
        case SandboxStatus.DESTROYED | SandboxStatus.LOST if sandbox.lost_at:
            return "Lost: it was gone when it was looked for, with all that was in it. The newest patch is kept."
        case SandboxStatus.DESTROYED:
            return f"{why} Destroyed, with all that was in it.".lstrip()
        case SandboxStatus.LOST:
            return f"{why or _LOST} What is left of it is being removed."
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
    load_turns(run)
    turns = list(run.turns.all())[-MOST_TURNS:][::-1]
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
    operation = repositories.mirror_operation(run.task.repo)
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
