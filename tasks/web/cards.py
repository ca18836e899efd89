"""A run as lists and cards show it: its state, its newest patch's figures, and its place in the queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.registry import ADAPTERS
from tasks.models import ACTIVE, Patch, Run, RunStatus, Stage
from tasks.running.scheduler import Place, places


@dataclass(frozen=True)
class RunCard:
    """`patch` comes without its content."""

    run: Run
    patch: Patch | None
    place: Place | None

    @property
    def agent(self) -> str:
        adapter = ADAPTERS.get(self.run.agent)
        return adapter.label if adapter else self.run.agent

    @property
    def is_stopping(self) -> bool:
        return self.run.stop_requested_at is not None and self.run.status in ACTIVE

    @property
    def can_stop(self) -> bool:
        return not self.run.is_over and not self.is_stopping

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
    def failed_while(self) -> str:
        """The stage a run failed in, where that tells something."""
        run = self.run
        if run.status not in (RunStatus.FAILED, RunStatus.ERRORED) or run.stage not in Stage.values or run.stage == Stage.AGENT:
            return ""
        return Stage(run.stage).label.lower()


def newest_patches(run_ids: Sequence[int]) -> dict[int, Patch]:
    """The newest patch of each run, without its content: a turn's final one counts before its checkpoints."""
    found = Patch.objects.filter(run__in=run_ids).order_by("run_id", "-turn__number", "-kind").distinct("run_id").defer("content")
    return {patch.run_id: patch for patch in found}


def cards_of(runs: Sequence[Run]) -> list[RunCard]:
    patches = newest_patches([run.pk for run in runs])
    queued = [run.pk for run in runs if run.status == RunStatus.QUEUED]
    waiting = places(queued) if queued else {}
    return [RunCard(run, patches.get(run.pk), waiting.get(run.pk)) for run in runs]
