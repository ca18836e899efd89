"""The list of tasks: which of them, as the address says, and how each row tells of its runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.http import QueryDict
from django.urls import reverse

from agents.registry import ADAPTERS
from tasks.listing import STATES, find_tasks
from tasks.models import ACTIVE, Mode, Repo, Run, RunStatus, Task, User
from tasks.models.addresses import address_of
from tasks.review.checks import checks_of
from tasks.web.cards import Figures, RunCard, cards_of, for_cards, time_of
from tasks.web.check_chips import CheckChip
from tasks.web.pull_chips import PullChip, chip_of

PAGE = 20
MOST_SHOWN = 300  # rows that a list which was paged on keeps when it is fetched anew
MOST_CHIPS = 4

SHOWS = {"": "All", "working": "Working", "waiting": "Waiting for you", "done": "Done", "failed": "Failed", "archived": "Archived"}


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 19 else None


@dataclass(frozen=True)
class Choice:
    """A filter's value as a link."""

    label: str
    address: str
    is_current: bool


@dataclass(frozen=True)
class Filters:
    """Which tasks: `?show=…&in=REPO&agent=…&q=…`. What makes no sense is left out."""

    show: str = ""
    repo: int | None = None
    agent: str = ""
    text: str = ""

    @classmethod
    def of(cls, asked: QueryDict) -> Filters:
        show, agent = asked.get("show", ""), asked.get("agent", "")
        return cls(
            show if show in SHOWS else "",
            _number(asked.get("in", "")),
            agent if agent in ADAPTERS else "",
            " ".join(asked.get("q", "").replace("\0", " ").split())[:200],
        )

    @property
    def pairs(self) -> list[tuple[str, Any]]:
        """What the address says of them, without the search."""
        given = {"show": self.show, "in": self.repo, "agent": self.agent}
        return [(name, value) for name, value in given.items() if value]

    @property
    def query(self) -> str:
        """`?show=done&q=upload`, or ""."""
        pairs = [*self.pairs, *([("q", self.text)] if self.text else [])]
        return f"?{urlencode(pairs)}" if pairs else ""

    @property
    def address(self) -> str:
        return reverse("home") + self.query

    @property
    def older(self) -> str:
        """The address to which the id to page on from is appended."""
        return f"{self.address}{'&' if self.query else '?'}before="

    @property
    def is_archive(self) -> bool:
        return self.show == "archived"

    @property
    def is_narrow(self) -> bool:
        """Whether more than the whole list, or the whole archive, is asked for."""
        return bool(self.text or self.repo or self.agent) or self.show not in ("", "archived")

    @property
    def cleared(self) -> str:
        """The address without the search; without anything, when there is none."""
        return replace(self, text="").address if self.text else reverse("home")

    @property
    def shows(self) -> list[Choice]:
        return [Choice(label, replace(self, show=show).address, show == self.show) for show, label in SHOWS.items()]

    @property
    def agents(self) -> list[Choice]:
        names = {"": "All agents", **{adapter.name: adapter.label for adapter in ADAPTERS.values()}}
        return [Choice(label, replace(self, agent=name).address, name == self.agent) for name, label in names.items()]

    def repos(self, known: Iterable[Repo]) -> list[Choice]:
        found = sorted((repo.name.casefold(), repo.name, repo.pk) for repo in known)
        named: list[tuple[int | None, str]] = [(None, "All repositories"), *((pk, name) for _, name, pk in found)]
        return [Choice(label, replace(self, repo=pk).address, pk == self.repo) for pk, label in named]

    def tasks(self, user: User) -> QuerySet[Task]:
        """Newest first."""
        state = self.show if self.show in STATES else ""
        return find_tasks(user, state=state, repo=self.repo, agent=self.agent, text=self.text, is_archived=self.is_archive)


@dataclass(frozen=True)
class Chip:
    """Attempts of one agent and model that stand alike."""

    cards: Sequence[RunCard]
    has_model: bool

    @property
    def first(self) -> RunCard:
        return self.cards[0]

    @property
    def id(self) -> str:
        """Of its element on a page."""
        return f"tag-{self.first.run.pk}"

    @property
    def status(self) -> str:
        return self.first.run.status

    @property
    def label(self) -> str:
        """`Claude opus ×2`."""
        label = f"{self.first.agent} {self.first.run.model}" if self.has_model and self.first.run.model else self.first.agent
        return f"{label} ×{len(self.cards)}" if len(self.cards) > 1 else label

    @property
    def address(self) -> str:
        run = self.first.run
        return address_of("run", run.pk) if len(self.cards) == 1 else address_of("task", run.task_id)

    @property
    def dot(self) -> str:
        """What the dot says, in words."""
        return RunStatus(self.status).label.lower()

    @cached_property
    def state(self) -> str:
        """What the dot does not say by itself."""
        card = self.first
        ahead = [card.place.position - 1 for card in self.cards if card.place]
        if ahead:
            return f"waits: {min(ahead)} ahead" if min(ahead) else "waits: next"
        if card.is_stopping:
            return "stopping"
        return "" if self.status in (*ACTIVE, RunStatus.SUCCEEDED) else self.dot

    @property
    def has_chosen(self) -> bool:
        return any(card.run.chosen_at for card in self.cards)

    @property
    def check(self) -> CheckChip | None:
        return self.first.check_chip

    @cached_property
    def figures(self) -> tuple[str, str] | None:
        """Lines added and removed, from the least to the most where attempts differ: ("+12–88", "−3")."""
        found = [card.figures for card in self.cards if card.figures and card.figures.files]
        if not found:
            return None
        added, removed = sorted({f.additions for f in found}), sorted({f.deletions for f in found})
        return f"+{_spread(added)}", f"−{_spread(removed)}"


def _spread(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"


@dataclass(frozen=True)
class TaskRow:
    task: Task
    cards: list[RunCard]

    @cached_property
    def id(self) -> str:
        """The task's, as text."""
        return str(self.task.pk)

    @cached_property
    def address(self) -> str:
        return self.task.get_absolute_url()

    @cached_property
    def figures(self) -> Figures | None:
        """What the task has come to: the chosen run's patch, else what all patches agree on."""
        chosen = [card.figures for card in self.cards if card.run.chosen_at]
        found = {figures for figures in (chosen or [card.figures for card in self.cards]) if figures}
        return found.pop() if len(found) == 1 else None

    @cached_property
    def check(self) -> CheckChip | None:
        """What the check says of the task: of the chosen run's patch, else what it says of all that are checked."""
        chosen = [card for card in self.cards if card.run.chosen_at]
        found = {card.check.verdict: card.check_chip for card in chosen or self.cards if card.check}
        return found.popitem()[1] if len(found) == 1 else None

    @property
    def is_unchanged(self) -> bool:
        """Whether it has come to nothing: all is over and no patch has a file."""
        return self.figures is not None and not self.figures.files and all(card.run.is_over for card in self.cards)

    @cached_property
    def has_answer(self) -> bool:
        return self.task.mode == Mode.ASK and any(card.run.status == RunStatus.SUCCEEDED for card in self.cards)

    @property
    def where(self) -> list[str]:
        """Where its runs are, each place once."""
        return list(dict.fromkeys(card.where.label for card in self.cards))

    @cached_property
    def pull(self) -> PullChip | None:
        """The most telling of its pull requests."""
        return chip_of([card.pull_request for card in self.cards if card.pull_request])

    @cached_property
    def since(self) -> datetime | None:
        """Since when it has been at work."""
        return min((card.since for card in self.cards if card.since), default=None)

    @cached_property
    def time(self) -> str:
        """How long it is at work, or how long its slowest run took."""
        clocks = [card.run.duration_s for card in self.cards if card.since] or [
            card.run.duration_s for card in self.cards if card.run.finished_at
        ]
        return time_of(max((clock for clock in clocks if clock is not None), default=None))

    @cached_property
    def chips(self) -> list[Chip]:
        models: dict[str, set[str]] = {}
        groups: dict[tuple[Any, ...], list[RunCard]] = {}
        for card in self.cards:
            models.setdefault(card.run.agent, set()).add(card.run.model)
            verdict = card.check.verdict if card.check else ""
            key = (card.run.agent, card.run.model, card.run.status, card.is_stopping, card.run.chosen_at is not None, verdict)
            groups.setdefault(key, []).append(card)
        return [Chip(cards, len(models[cards[0].run.agent]) > 1) for cards in groups.values()]

    @property
    def shown_chips(self) -> list[Chip]:
        return self.chips[:MOST_CHIPS]

    @property
    def more_chips(self) -> int:
        return max(0, len(self.chips) - MOST_CHIPS)


@dataclass(frozen=True)
class TaskPage:
    """Rows, newest first. `before` is the id the page begins after, `last` that of its last row, `older` where the next page is."""

    filters: Filters
    rows: Sequence[TaskRow]
    before: int | None
    last: int | None
    older: str


def task_page(user: User, asked: QueryDict) -> TaskPage:
    """The page that the address asks for; with `to=ID` all rows down to that one, so that what was paged on stays."""
    filters, before, to = Filters.of(asked), _number(asked.get("before", "")), _number(asked.get("to", ""))
    tasks = filters.tasks(user).select_related("repo").defer("prompt", "search")
    if before:
        tasks = tasks.filter(pk__lt=before)
    shown = list(tasks.filter(pk__gte=to)[:MOST_SHOWN]) if to else []
    if len(shown) < PAGE:
        shown = list(tasks[: PAGE + 1])
        has_older, shown = len(shown) > PAGE, shown[:PAGE]
    else:
        has_older = tasks.filter(pk__lt=shown[-1].pk).exists()
    last = shown[-1].pk if shown else None
    rows = {task.pk: TaskRow(task, []) for task in shown}
    runs = list(for_cards(Run.objects.visible_to(user).filter(task__in=rows)).order_by("pk"))
    for card in cards_of(runs, checks=checks_of([run.pk for run in runs])):
        rows[card.run.task_id].cards.append(card)
    return TaskPage(filters, list(rows.values()), before, last, f"{filters.older}{last}" if has_older else "")
