"""A run as lists and cards show it: its state, where it is, its newest patch's figures, what it has cost, its place in the queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cache
from math import ceil

from django.db.models import Count, F, Func, IntegerField, Max, OuterRef, Q, QuerySet, Subquery, prefetch_related_objects
from django.db.models.functions import Coalesce, JSONObject
from django.db.models.lookups import GreaterThanOrEqual
from django.utils import timezone

from agents.adapters.base import ErrorClass
from agents.registry import ADAPTERS
from tasks.choices import COMBINES
from tasks.models import ACTIVE, Check, EndReason, Patch, PullRequest, Run, RunStatus, Stage, Turn, TurnKind
from tasks.running.scheduler import Place, places
from tasks.running.verdicts import MOST_RETRIES
from tasks.services import FAILED
from tasks.web.check_chips import CheckChip
from tasks.web.pull_chips import PullChip
from tasks.web.shown.text import duration
from tasks.web.where import Where, sandboxes, where_is

_ADVICE_ON_CLASS = {
    ErrorClass.AUTH: "Check this agent's key, then retry.",
    ErrorClass.CREDIT: "Top up the account that the agent's key belongs to, then retry.",
    ErrorClass.RATE_LIMIT: "Wait a few minutes, then retry.",
    ErrorClass.OVERLOADED: "The model's provider is busy. Retry in a few minutes.",
    ErrorClass.MODEL: "Start a new task with another model.",
    ErrorClass.CONTEXT: "Ask for less at once, or name the files that matter.",
    ErrorClass.HUNG: "Retry, or ask for less at once.",
    ErrorClass.CRASHED: "Open the run: the end of its log says why. Follow up there, or retry.",
    ErrorClass.KILLED: "Open the run to see how far it came, or retry.",
}
_ADVICE_ON_BUDGET = "Ask an operator for a larger budget, or follow up once there is room in it again."
_OF_KEYS = (ErrorClass.AUTH, ErrorClass.CREDIT)
_ADVICE_ON_STAGE = {  # where the error itself does not say what to do
    Stage.SETUP: "Correct the repository's setup script, then retry.",
    Stage.COLLECT: "The last checkpoint is kept. Retry, or follow up.",
}
_WITH_PATCH = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELED)  # that their last turn made; others have a checkpoint
_SHORT: dict[str, str] = {
    Stage.MIRROR.label: "Fetching",
    Stage.PROVISION.label: "Making sandbox",
    Stage.SETUP.label: "Setting up",
    Stage.COLLECT.label: "Collecting",
}


@dataclass(frozen=True)
class Figures:
    """How much a patch changes."""

    files: int
    additions: int
    deletions: int


@dataclass(frozen=True)
class RunCard:
    """`turns` counts all turns, `follow_ups` those that wait, `retries` how often the one that waits was tried before by itself.
    `is_over_budget`: the newest turn was ended because a budget was used up."""

    run: Run
    figures: Figures | None = None
    place: Place | None = None
    pull_request: PullRequest | None = None
    parent_attempt: int | None = None  # of a branch
    where: Where = field(default_factory=Where)
    check: Check | None = None
    turns: int = 1
    follow_ups: int = 0
    retries: int = 0
    is_over_budget: bool = False

    @property
    def agent(self) -> str:
        adapter = ADAPTERS.get(self.run.agent)
        return adapter.label if adapter else self.run.agent

    @property
    def name(self) -> str:
        """What tells this run from the others of its task."""
        model = f" {self.run.model}" if self.run.model else ""
        return f"{self.agent}{model}, attempt {self.run.attempt}"

    @property
    def is_stopping(self) -> bool:
        return self.run.stop_requested_at is not None and self.run.status in ACTIVE

    @property
    def can_stop(self) -> bool:
        return not self.run.is_over and not self.is_stopping

    @property
    def can_follow_up(self) -> bool:
        """As far as the run itself goes; an archived task's take none."""
        return not self.is_stopping

    @property
    def has_failed(self) -> bool:
        return self.run.status in FAILED

    @property
    def status(self) -> str:
        """The status in words, with the stage that says more."""
        run = self.run
        if self.is_stopping:
            return "Stopping"
        if run.status in (RunStatus.STARTING, RunStatus.RUNNING) and run.stage in Stage.values:
            return Stage(run.stage).label
        return RunStatus(run.status).label

    @property
    def short_status(self) -> str:
        """The status where there is room for two or three words."""
        return _SHORT.get(self.status, self.status)

    @property
    def failed_while(self) -> str:
        """The stage a run failed in, where that tells something."""
        run = self.run
        if run.status not in (RunStatus.FAILED, RunStatus.ERRORED) or run.stage not in Stage.values or run.stage == Stage.AGENT:
            return ""
        return Stage(run.stage).label.lower()

    @property
    def advice(self) -> str:
        """What to do about the error; "" where there is none."""
        if not self.has_failed:
            return ""
        if self.is_over_budget:
            return _ADVICE_ON_BUDGET
        by_class = _ADVICE_ON_CLASS.get(self.run.error_class)  # type: ignore[call-overload]  # (a StrEnum's keys are strings)
        return str(by_class or _ADVICE_ON_STAGE.get(self.run.stage, ""))  # type: ignore[call-overload]

    @property
    def needs_key(self) -> bool:
        """Whether the settings' keys are where the error is mended."""
        return self.has_failed and self.run.error_class in _OF_KEYS and not self.is_over_budget

    @property
    def waits_for(self) -> str:
        """Why a queued run has not started; "" for others."""
        if self.place is None:
            return ""
        until = self.run.not_before if self.retries else None  # else the reason says what it waits for
        if until and (seconds := (until - timezone.now()).total_seconds()) > 0:
            return f"Tries again in {ceil(seconds)} s ({self.retries + 1} of {MOST_RETRIES + 1})."
        return f"Number {self.place.position} in the queue. {self.place.reason}"

    @property
    def origin(self) -> str:
        """Of a branch, where it came from."""
        return f"turn {self.run.parent_turn} of attempt {self.parent_attempt}" if self.parent_attempt else ""

    @property
    def combines(self) -> list[int]:
        """The ids of the runs whose patches it was given."""
        return list(self.run.options.get(COMBINES, []))

    @property
    def since(self) -> datetime | None:
        """Since when the clock runs; None when it stands."""
        return self.run.started_at if self.run.is_active else None

    @property
    def time(self) -> str:
        """How long the newest turn has taken, up to now; "" for a run that waits to start."""
        return "" if self.run.status == RunStatus.QUEUED else time_of(self.run.duration_s)

    @property
    def tokens(self) -> str:
        """`41k in · 7k out`, or ""."""
        run = self.run
        return f"{amount(run.input_tokens)} in · {amount(run.output_tokens)} out" if run.input_tokens or run.output_tokens else ""

    @property
    def cost(self) -> str:
        """`$0.62`, or "" when it is not known."""
        return dollars(self.run.cost_usd)

    @property
    def check_chip(self) -> CheckChip | None:
        return CheckChip(self.check) if self.check else None

    @property
    def check_verb(self) -> str:
        """What to do about the check of its patch, as the button says it; "" where nothing can be done now."""
        if (
            self.run.status in (RunStatus.QUEUED, *ACTIVE)
            or not (self.figures and self.figures.files)
            or not self.run.task.repo.check_command
        ):
            return ""
        if self.check is None:
            return "Run check" if self.run.status in _WITH_PATCH else ""
        return "Check again" if self.check.is_over else ""

    @property
    def pull(self) -> PullChip | None:
        return PullChip(self.pull_request) if self.pull_request else None

    @property
    def pull_request_name(self) -> str:
        """`PR #482 open`, `Merged #97`, or ""."""
        return self.pull.name if self.pull else ""

    @property
    def pull_request_url(self) -> str:
        """Where the pull request is; "" for an address that no browser should be sent to."""
        return self.pull.url if self.pull else ""


def time_of(seconds: float | None) -> str:
    """A duration: 0.4 s, 6:12, 1:02:03; "" for None."""
    return f"{max(0.1, seconds):.1f} s" if seconds is not None and seconds < 1 else duration(seconds)


def amount(number: int) -> str:
    """A count in at most four signs: 950, 9.5k, 48k, 1.2M."""
    for size, sign in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.1f}{sign}" if number < 10 * size else f"{number // size}{sign}"
    return str(number)


def dollars(cost: Decimal | None) -> str:
    if cost is None:
        return ""
    return "<$0.01" if 0 < cost < Decimal("0.01") else f"${cost:,.2f}"


def newest_patches(run_ids: Sequence[int]) -> dict[int, Patch]:
    """The newest patch of each run, without its content: a turn's final one counts before its checkpoints."""
    return {patch.run_id: patch for patch in Patch.objects.newest_of(run_ids).defer("content")}


def counted_patches(run_ids: Sequence[int]) -> dict[int, Patch]:
    """The same without its list of files either, which may have thousands: `file_count` says how many."""
    return {patch.run_id: patch for patch in Patch.objects.newest_of(run_ids).counted()}


def _figures(patch: Patch) -> Figures:
    return Figures(len(patch.files), patch.additions, patch.deletions)


def for_cards(runs: QuerySet[Run]) -> QuerySet[Run]:
    """The same runs, with all that `cards_of` would have to ask for them otherwise."""
    return runs.select_related("pull_request").annotate(told=_told())


@cache  # the same for every query, and not made in a moment
def _told() -> JSONObject:
    """Of a query of runs, what stands in other tables of each."""
    return JSONObject(figures=_newest_figures(), turns=_turns(), sandboxes=sandboxes(), parent_attempt="parent__attempt")


def _newest_figures() -> Subquery:
    """The fields of Figures; the lists of files stay in the database."""
    newest = Patch.objects.filter(run=OuterRef("pk")).order_by("-turn__number", "-kind")
    count = Func(F("files"), function="jsonb_array_length", output_field=IntegerField())
    return Subquery(newest.values(json=JSONObject(files=count, additions="additions", deletions="deletions"))[:1])


def _turns() -> Subquery:
    """The fields of RunCard that tell of turns."""
    waits = Q(status=RunStatus.QUEUED)
    ended_by_budget = Coalesce(Max("number", filter=Q(end_reason=EndReason.BUDGET)), 0)
    counts = JSONObject(
        turns=Count("pk", filter=~Q(kind=TurnKind.REVERT) & Q(joined=None)),
        follow_ups=Count("pk", filter=waits & Q(kind=TurnKind.PROMPT, number__gt=1)),
        retries=Coalesce(Max("retries", filter=waits), 0),
        is_over_budget=GreaterThanOrEqual(ended_by_budget, Max("number")),
    )
    return Subquery(Turn.objects.filter(run=OuterRef("pk")).order_by().values("run").values(json=counts))


def cards_of(runs: Sequence[Run], patches: Mapping[int, Patch] | None = None, checks: Mapping[int, Check] | None = None) -> list[RunCard]:
    """A card for each run, in their order; the number of queries does not depend on theirs, and with runs of `for_cards` there is none
    unless one is queued. `patches` are the newest by run, where they are known already; `checks`, by run, are shown where given."""
    if not all(hasattr(run, "told") for run in runs):
        told = dict(Run.objects.filter(pk__in=[run.pk for run in runs]).order_by().annotate(told=_told()).values_list("pk", "told"))
        prefetch_related_objects(runs, "pull_request")  # unless it came with them
    else:
        told = {run.pk: run.told for run in runs}  # type: ignore[attr-defined]
    queued = [run.pk for run in runs if run.status == RunStatus.QUEUED]
    waiting = places(queued) if queued else {}
    found = []
    for run in runs:
        of_run = told.get(run.pk) or {}  # nothing, if it was deleted meanwhile
        if patches is None:
            figures = Figures(**of_run["figures"]) if of_run.get("figures") else None
        else:
            figures = _figures(patches[run.pk]) if run.pk in patches else None
        card = RunCard(
            run,
            figures,
            waiting.get(run.pk),
            getattr(run, "pull_request", None),
            of_run.get("parent_attempt"),
            where_is(run, of_run.get("sandboxes", ())),
            (checks or {}).get(run.pk),
            **(of_run.get("turns") or {}),
        )
        found.append(card)
    return found
