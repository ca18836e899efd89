"""The runs of a task that can be compared, for pickers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.db.models import Exists, OuterRef

from tasks.models import Patch, Run, Task
from tasks.web.cards import RunCard


@dataclass(frozen=True)
class RunChoice:
    """A run that can be compared, and whether it is."""

    run: Run
    is_shown: bool

    @property
    def card(self) -> RunCard:
        return RunCard(self.run)


def choices(runs: Collection[Run], shown: Collection[Run]) -> list[RunChoice]:
    return [RunChoice(run, run in shown) for run in runs]


def comparable(task: Task) -> list[Run]:
    """Its runs that have a patch."""
    return list(task.runs.filter(Exists(Patch.objects.filter(run=OuterRef("pk")))).order_by("pk"))
