"""The prepared environments of a repository as its page shows them: what has become of each, and what its script said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.utils.safestring import SafeString

from tasks.models import Patch, PatchKind, PreparedEnvironment, PreparedStatus, Repo
from tasks.running import prepared
from tasks.web.cards import RunCard, cards_of
from tasks.web.shown.ansi import log_html

MOST_SHOWN = 12
_DOTS: Mapping[str, str] = {PreparedStatus.READY: "succeeded", PreparedStatus.FAILED: "errored"}


@dataclass(frozen=True)
class PreparedRow:
    """One environment; `card` is of the run that builds it, while it does so. `log` is the end of what its script said, `changed` the
    files under version control that it changed, which are not kept."""

    environment: PreparedEnvironment
    card: RunCard | None
    log: SafeString
    changed: list[str]

    @classmethod
    def all_of(cls, repo: Repo) -> list[PreparedRow]:
        """Those that are given to runs, or will be, or could not be built; the newest first."""
        found = PreparedEnvironment.objects.filter(repo=repo).exclude(status=PreparedStatus.GONE)
        rows = list(found.select_related("run__task").order_by("-pk")[:MOST_SHOWN])
        building = [row.run for row in rows if row.status == PreparedStatus.BUILDING and row.run is not None]
        cards = {card.run.pk: card for card in cards_of(building)} if building else {}
        changed = _changed([row.run_id for row in rows if row.status == PreparedStatus.READY and row.run_id is not None])
        return [cls(row, card := cards.get(row.run_id or 0), _log(row, card), changed.get(row.run_id or 0, [])) for row in rows]

    @property
    def changes(self) -> str:
        """The first of the files that it changed."""
        return ", ".join([*self.changed[:3], *(["…"] if len(self.changed) > 3 else [])])

    @property
    def status(self) -> str:
        return self.card.status if self.card else self.environment.get_status_display()

    @property
    def dot(self) -> str:
        return self.card.run.status if self.card else _DOTS.get(self.environment.status, "queued")

    @property
    def place(self) -> str:
        return "On this machine" if self.environment.backend == "local" else "E2B"


def _changed(runs: list[int]) -> dict[int, list[str]]:
    """The files of the base commit that are not in these runs' patches as they were, by run."""
    patches = Patch.objects.filter(run__in=runs, kind=PatchKind.FINAL).values_list("run", "files")
    return {run: [file["path"] for file in files if file["state"] != "added"] for run, files in patches} if runs else {}


def _log(row: PreparedEnvironment, card: RunCard | None) -> SafeString:
    return log_html(prepared.said(card.run.pk)[0] if card else row.log)
