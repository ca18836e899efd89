"""What there is to compare of a task's runs: of each its figures, in rows, with the best of each row marked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tasks.errors import AppError
from tasks.git import mirrors
from tasks.models import Patch, Run, Task
from tasks.review import compare, times
from tasks.review.checks import checks_of
from tasks.web.cards import RunCard, cards_of, time_of


@dataclass(frozen=True)
class Fit:
    """Whether a patch goes together with what its base branch holds now; `files` are those that conflict."""

    files: Sequence[str]
    has_moved: bool

    @property
    def words(self) -> str:
        if not self.files:
            return "Applies"
        return f"Conflicts in {len(self.files)} file{'' if len(self.files) == 1 else 's'}"


@dataclass(frozen=True)
class Head:
    """One run of the comparison. Times are in seconds, None where they are not known."""

    card: RunCard
    patch: Patch
    first_edit_s: float | None = None
    total_s: float | None = None
    fit: Fit | None = None

    @property
    def run(self) -> Run:
        return self.card.run

    @property
    def tokens(self) -> int:
        return self.run.input_tokens + self.run.output_tokens

    @property
    def file_count(self) -> int:
        return self.card.figures.files if self.card.figures else 0

    @property
    def lines(self) -> int:
        return self.patch.additions + self.patch.deletions


@dataclass(frozen=True)
class Value:
    text: str
    note: str = ""
    best: str = ""  # what it is the best in, in a word


@dataclass(frozen=True)
class Fact:
    """A row of figures, a value for each run."""

    label: str
    values: Sequence[Value]


@dataclass(frozen=True)
class Base:
    """Where the base branch stands in our copy. `moved`: elsewhere than the task began; `trouble` says why that is not known."""

    head: str = ""
    moved: bool = False
    trouble: str = ""


@dataclass
class Comparison:
    """Runs that have a patch, in their order; `others` have none yet, or are not asked for."""

    task: Task
    heads: list[Head]
    base: Base = field(default_factory=Base)
    trouble: str = ""

    @property
    def patches(self) -> list[Patch]:
        return [head.patch for head in self.heads]

    @property
    def has_checks(self) -> bool:
        """Whether there is a row for them: one was made, or can be."""
        return any(head.card.check or head.card.check_verb for head in self.heads)

    @property
    def facts(self) -> list[Fact]:
        heads = self.heads
        return [
            _fact("First edit", heads, lambda head: head.first_edit_s, time_of, "first"),
            _fact("Time", heads, lambda head: head.total_s, time_of, "fastest"),
            Fact("Turns", [Value(str(head.card.turns)) for head in heads]),
            _fact("Tokens", heads, lambda head: head.tokens or None, lambda _: "", "fewest", lambda head: head.card.tokens),
            _fact("Cost", heads, lambda head: head.run.cost_usd, lambda _: "", "cheapest", lambda head: head.card.cost),
            _fact("Files", heads, lambda head: head.file_count, str, ""),
        ]

    @property
    def smallest(self) -> set[int]:
        """The runs whose patch changes the fewest lines."""
        return _least([head.lines or None for head in self.heads])


def comparison(task: Task, runs: Sequence[Run], patches: Mapping[int, Patch]) -> Comparison:
    """These runs of a task, which all have one of these newest patches; the number of queries does not depend on theirs."""
    took = times.times_of(runs)
    cards = cards_of(runs, checks=checks_of(runs))
    return Comparison(task, [Head(card, patches[card.run.pk], *took[card.run.pk]) for card in cards])


def add_fits(found: Comparison) -> None:
    """Say of each run whether it applies to its base branch as our copy has it; and why not, where that cannot be told."""
    task = found.task
    try:
        head = mirrors.resolve(task.repo.mirror_path, task.base_branch)
        told = compare.conflicts(task, head, found.patches)
    except AppError as error:
        found.base = Base(trouble=error.message)
        return
    moved = head != task.base_commit
    found.base = Base(head, moved)
    found.heads = [replace(h, fit=Fit(files, moved)) for h, files in zip(found.heads, told, strict=True)]


def _fact(
    label: str,
    heads: Sequence[Head],
    value: Callable[[Head], Any],
    text: Callable[[Any], str],
    best: str,
    said: Callable[[Head], str] | None = None,
) -> Fact:
    values = [value(head) for head in heads]
    least = _least(values) if best else set()
    texts = [said(head) if said else "" if value is None else text(value) for head, value in zip(heads, values, strict=True)]
    return Fact(label, [Value(text, best=best if place in least else "") for place, text in enumerate(texts)])


def _least(values: Sequence[Any]) -> set[int]:
    """The places of the least value, where there are several values that differ."""
    known = [value for value in values if value is not None]
    if len(known) < 2 or min(known) == max(known):
        return set()
    return {place for place, value in enumerate(values) if value == min(known)}
