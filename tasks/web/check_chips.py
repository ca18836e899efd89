"""What a repository's check says of a patch: a chip on a run's card, a panel beside its changes."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.safestring import SafeString

from tasks.models import ACTIVE, Check, CheckStatus, Patch, Run, RunStatus, Verdict
from tasks.running.checks import can_check
from tasks.web.shown import log_html, took

_MARKS: dict[str, tuple[str, str]] = {
    Verdict.QUEUED: ("clock", ""),
    Verdict.RUNNING: ("clock", ""),
    Verdict.PASSED: ("check", "good"),
    Verdict.FIXED: ("check", "good"),
    Verdict.FAILED: ("x", "bad"),
    Verdict.WAS_FAILING: ("x", ""),
    Verdict.ERRORED: ("triangle-alert", "bad"),
    Verdict.CANCELED: ("minus", ""),
}
_MEANING: dict[str, str] = {
    Verdict.QUEUED: "It starts when there is a free place.",
    Verdict.RUNNING: "It is at work in a sandbox of its own, from the base commit with this patch.",
    Verdict.FIXED: "It fails on the base commit, and passes with this patch.",
    Verdict.WAS_FAILING: "It fails with this patch, as it does on the base commit.",
    Verdict.ERRORED: "It came to no result, which says nothing of this patch.",
    Verdict.CANCELED: "It was stopped before it came to a result.",
}
_BESIDE: dict[str, str] = {  # what the base commit's own says of one that passed or failed
    CheckStatus.UNDER_WAY: "The base commit is still being checked.",
    CheckStatus.PASSED: "It passes on the base commit.",
    CheckStatus.ERRORED: "On the base commit it came to no result.",
    CheckStatus.CANCELED: "On the base commit it was stopped.",
}

_SHOWN = ("status", "command", "error", "exit_code", "seconds", "output", "run__status", "base__status", "base__run__id")  # of a panel


@dataclass(frozen=True)
class CheckChip:
    row: Check

    @property
    def icon(self) -> str:
        return _MARKS[self.row.verdict][0]

    @property
    def tone(self) -> str:
        """good, bad or ""."""
        return _MARKS[self.row.verdict][1]

    @property
    def words(self) -> str:
        return Verdict(self.row.verdict).label

    @property
    def meaning(self) -> str:
        """The verdict in a sentence."""
        return _MEANING.get(self.row.verdict) or _BESIDE.get(self.row.base.status if self.row.base else "", "")


@dataclass(frozen=True)
class CheckPanel:
    """The check of a run's newest patch; without a `row` there was none yet. `can_begin`: whether it can be done (again)."""

    row: Check | None
    can_begin: bool

    @classmethod
    def of(cls, run: Run, patch: Patch | None) -> CheckPanel | None:
        """None where there is nothing to say. One query."""
        if patch is None or not patch.files:
            return None
        shown = Check.objects.select_related("run", "base__run").only(*_SHOWN)
        row = shown.filter(patch=patch).order_by("-pk").first()
        patch.run = run  # whose task and repository are here already
        is_idle = run.status not in (RunStatus.QUEUED, *ACTIVE) and (row is None or row.is_over)
        can_begin = is_idle and run.task.archived_at is None and can_check(patch)
        return cls(row, can_begin) if row or can_begin else None

    @property
    def chip(self) -> CheckChip | None:
        return CheckChip(self.row) if self.row else None

    @property
    def version(self) -> str:
        """Changes with what is shown."""
        row = self.row
        return f"{row.pk}-{row.run_id}-{row.verdict}-{row.is_base_unknown}-{self.can_begin}" if row else f"{self.can_begin}"

    @property
    def ended(self) -> str:
        """How the command ended, and when."""
        row = self.row
        if row is None or row.seconds is None or row.status not in (CheckStatus.PASSED, CheckStatus.FAILED):
            return ""
        code = f"exit code {row.exit_code}" if row.exit_code is not None else "ended"
        return f"{code} after {took(max(0.1, row.seconds))}"

    @property
    def output(self) -> SafeString:
        """The end of what it said."""
        return log_html(self.row.output) if self.row and self.row.output else SafeString()

    @property
    def is_open(self) -> bool:
        """Whether what it said is what one wants to read."""
        return self.row is not None and self.row.status in (CheckStatus.FAILED, CheckStatus.ERRORED)

    @property
    def log(self) -> str:
        """The address of the whole log, once there is one."""
        return self.row.run.get_absolute_url() if self.row and self.row.run else ""

    @property
    def base_log(self) -> str:
        base = self.row.base if self.row else None
        return base.run.get_absolute_url() if base and base.run else ""
