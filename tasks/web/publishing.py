"""How far a run is on its way to GitHub, as pages show it."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.errors import AppError
from tasks.github import pulls
from tasks.models import Operation, OperationStatus, Patch, Publication, Run
from tasks.web.cards import RunCard

# Errors that are mended where the user's account at GitHub is connected.
_OF_ACCOUNT = ("github_not_connected", "github_token_refused", "github_permission_missing", "token_refused")


@dataclass(frozen=True)
class Publishing:
    """How far a run is on its way to GitHub. `why_not`: why its newest patch cannot be published, "" when it can."""

    run: Run
    card: RunCard
    patch: Patch | None
    publication: Publication | None
    operation: Operation | None
    why_not: str

    @classmethod
    def of(cls, run: Run, card: RunCard, patch: Patch | None) -> Publishing:
        why_not = ""
        try:
            pulls.check_state(run, patch, card.pull_request)
        except AppError as error:
            why_not = error.message
        publication = getattr(run, "publication", None)  # there may be none
        operation = pulls.operation_of(run) if publication else None
        return cls(run, card, patch, publication, operation, why_not)

    @property
    def is_at_work(self) -> bool:
        return self.operation is not None and self.operation.status in (OperationStatus.QUEUED, OperationStatus.RUNNING)

    @property
    def error(self) -> str:
        return self.publication.error if self.publication and not self.is_at_work else ""

    @property
    def needs_account(self) -> bool:
        return self.publication is not None and self.publication.error_code in _OF_ACCOUNT

    @property
    def conflicts(self) -> list[str]:
        return self.publication.conflicts if self.publication and self.error else []

    @property
    def is_pushed(self) -> bool:
        """Whether the branch on GitHub has the newest patch."""
        return self.patch is not None and self.publication is not None and self.publication.pushed == self.patch.sha256

    @property
    def can_update(self) -> bool:
        return bool(self.card.pull_request) and not self.why_not and not self.is_at_work and not (self.is_pushed and not self.error)

    @property
    def can_open(self) -> bool:
        return not self.card.pull_request and not self.why_not and not self.is_at_work
