"""What a run's page offers about its pull request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tasks.github_api import limits
from tasks.models import PullRequest, PullRequestState, Run
from tasks.web.pull_chips import UNDECIDED


@dataclass(frozen=True)
class PullPanel:
    """`limited_until`: GitHub wants to hear nothing before. `updates`: it is updated by itself after the turn at work."""

    row: PullRequest
    limited_until: datetime | None
    takes_follow_ups: bool
    updates: bool

    @classmethod
    def of(cls, run: Run, row: PullRequest) -> PullPanel:
        """Asks the cache, not the database."""
        publication = getattr(run, "publication", None)  # there may be none
        return cls(
            row,
            limits.of_user(run.task.owner_id) if row.state in UNDECIDED else None,
            takes_follow_ups=run.agent != "shell" and run.task.archived_at is None and row.state in UNDECIDED,
            updates=publication is not None and publication.update_after is not None,
        )

    @property
    def can_merge(self) -> bool:
        return self.row.state == PullRequestState.OPEN

    @property
    def is_draft(self) -> bool:
        return self.row.state == PullRequestState.DRAFT

    @property
    def can_close(self) -> bool:
        return self.row.state in UNDECIDED

    @property
    def can_reopen(self) -> bool:
        return self.row.state == PullRequestState.CLOSED

    @property
    def has_branch(self) -> bool:
        """Whether a branch is left behind by the merge."""
        return self.row.state == PullRequestState.MERGED and not self.row.is_branch_gone

    @property
    def can_fix(self) -> bool:
        return self.takes_follow_ups and self.row.checks == "failure"
