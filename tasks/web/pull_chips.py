"""A pull request as one small chip: its state, its checks, what reviewers say of it, whether it can be merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.models import PullRequest, PullRequestState

UNDECIDED = (PullRequestState.OPEN, PullRequestState.DRAFT)
FIELDS = ("state", "checks", "review", "mergeable", "is_branch_gone")  # of PullRequest: what a page shows of it
_ICONS: dict[str, str] = {
    PullRequestState.DRAFT: "git-pull-request-draft",
    PullRequestState.OPEN: "git-pull-request",
    PullRequestState.MERGED: "git-merge",
    PullRequestState.CLOSED: "git-pull-request-closed",
}
# What is told first of several: what the task has come to, then what can still come.
_TELLING = (PullRequestState.MERGED, PullRequestState.OPEN, PullRequestState.DRAFT, PullRequestState.CLOSED)


@dataclass(frozen=True)
class Mark:
    """An icon with what it means; `tone` is good, bad or ""."""

    icon: str
    words: str
    tone: str = ""


_CHECKS = {
    "success": Mark("check", "checks pass", "good"),
    "failure": Mark("x", "checks fail", "bad"),
    "pending": Mark("clock", "checks are under way"),
}
_REVIEWS = {
    "approved": Mark("user-round-check", "approved", "good"),
    "changes_requested": Mark("message-square", "changes are requested", "bad"),
}
_MERGEABLE = {
    "conflicts": Mark("triangle-alert", "conflicts with the base branch", "bad"),
    "blocked": Mark("lock", "may not be merged yet"),
    "behind": Mark("arrow-down", "the base branch has to be merged into it first"),
}


@dataclass(frozen=True)
class PullChip:
    """`others`: how many more pull requests there are of the same task."""

    row: PullRequest
    others: int = 0

    @property
    def id(self) -> str:
        """Of its element on a page."""
        return f"pull-{self.row.run_id}"

    @property
    def icon(self) -> str:
        return _ICONS[self.row.state]

    @property
    def state(self) -> str:
        return PullRequestState(self.row.state).label.lower()

    @property
    def name(self) -> str:
        """`PR #482 open`, `Merged #97`."""
        is_merged = self.row.state == PullRequestState.MERGED
        return f"Merged #{self.row.number}" if is_merged else f"PR #{self.row.number} {self.state}"

    @property
    def url(self) -> str:
        """Where the pull request is; "" for an address that no browser should be sent to."""
        return self.row.url if self.row.url.startswith(("https://", "http://")) else ""

    @property
    def marks(self) -> list[Mark]:
        """What there is to know of one that is neither merged nor closed."""
        if self.row.state not in UNDECIDED:
            return []
        found = (_CHECKS.get(self.row.checks), _REVIEWS.get(self.row.review), _MERGEABLE.get(self.row.mergeable))
        return [mark for mark in found if mark]

    @property
    def words(self) -> str:
        """What its marks mean."""
        return ", ".join(mark.words for mark in self.marks)

    @property
    def title(self) -> str:
        """All of it in words."""
        return ", ".join(filter(None, [self.name, self.words]))


def chip_of(pulls: Sequence[PullRequest]) -> PullChip | None:
    """The most telling of a task's pull requests: the best state, and of those alike the one that asks for something, the newest."""
    if not pulls:
        return None

    def telling(row: PullRequest) -> tuple[int, bool, int]:
        is_calm = all(mark.tone != "bad" for mark in PullChip(row).marks)
        return _TELLING.index(PullRequestState(row.state)), is_calm, -row.pk

    return PullChip(min(pulls, key=telling), len(pulls) - 1)
