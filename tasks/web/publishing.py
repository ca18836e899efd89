"""How far a run is on its way to GitHub, as pages show it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.errors import AppError
from tasks.github import pulls
from tasks.models import Operation, OperationStatus, Patch, Publication, Run
from tasks.web.cards import RunCard

# Kinds of errors, by what mends them: connecting the user's account anew, another name for the branch, doing it by hand.
OF_ACCOUNT = frozenset(
    {"github_not_connected", "github_token_refused", "github_permission_missing", "token_refused", "workflow", "sign_in", "sso"}
)
_OF_PATTERN = frozenset({"name_taken", "protected", "rules", "rejected"})  # other names of the same kind would be refused too
OF_NAME = _OF_PATTERN | {"branch_moved"}
OF_ACCESS = frozenset({"push_missing", "archived", "denied", "gone", "ip_refused", "github_not_found"})


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
    def error_code(self) -> str:
        return self.publication.error_code if self.publication and self.error else ""

    @property
    def needs_account(self) -> bool:
        return self.error_code in OF_ACCOUNT

    @property
    def needs_name(self) -> bool:
        """Whether the branch's name is what is in the way."""
        return self.error_code in OF_NAME

    @property
    def needs_hands(self) -> bool:
        return self.error_code in OF_ACCESS

    @property
    def branch(self) -> str:
        return self.publication.branch_name if self.publication else self.run.branch

    @property
    def branch_to_offer(self) -> str:
        """The branch, or another name where this one is in the way."""
        if not self.needs_name:
            return self.branch
        if self.error_code in _OF_PATTERN and "/" in self.branch:
            return self.branch.replace("/", "-")
        stem, number = re.fullmatch(r"(.*?)(?:\.(\d{1,3}))?", self.branch, re.DOTALL).groups()  # type: ignore[union-attr]  # it matches all
        return f"{stem}.{int(number or 1) + 1}"

    @property
    def conflicts(self) -> list[str]:
        return self.publication.conflicts if self.publication and self.error else []

    @property
    def refused(self) -> list[str]:
        """Why labels or reviewers are missing from the pull request."""
        return self.publication.refused if self.publication and not self.is_at_work and not self.error else []

    @property
    def is_pushed(self) -> bool:
        """Whether the branch on GitHub has the newest patch."""
        return self.patch is not None and self.publication is not None and self.publication.pushed == self.patch.sha256

    @property
    def can_update(self) -> bool:
        is_all_there = self.is_pushed and not self.error and not self.refused
        return bool(self.card.pull_request) and not self.why_not and not self.is_at_work and not is_all_there

    @property
    def can_open(self) -> bool:
        return not self.card.pull_request and not self.why_not and not self.is_at_work
