"""What GitHub says of pull requests, put into their rows: the one way for what webhooks bring and for what is asked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from tasks.models import FINAL, PullRequest, PullRequestState, Sandbox, SandboxStatus
from tasks.running import announcing, nudge

UNDECIDED = (PullRequestState.DRAFT, PullRequestState.OPEN)
MERGEABLE = {"clean": "clean", "unstable": "clean", "has_hooks": "clean", "dirty": "conflicts", "blocked": "blocked", "behind": "behind"}
"""By GitHub's `mergeable_state`; whatever else it says is not known yet."""


@dataclass(frozen=True)
class Sighting:
    """What was said of a pull request, as of `at`. None: nothing was said of it.

    `etag` is that of an answer with all of it; "" for what comes from elsewhere, after which the next answer has to be whole.
    """

    at: datetime
    state: PullRequestState | None = None
    base: str | None = None
    checks: str | None = None
    review: str | None = None
    mergeable: str | None = None
    etag: str | None = ""


class Seen(Enum):
    NEWS = auto()
    SAME = auto()
    OLD = auto()  # something newer is known already; nothing was changed


def rows(repository: str) -> QuerySet[PullRequest]:
    """The pull requests of a repository (owner/name; case does not matter to GitHub)."""
    return PullRequest.objects.filter(repository__iexact=repository)


def state_of(*, state: str, is_draft: bool, is_merged: bool) -> PullRequestState:
    if is_merged:
        return PullRequestState.MERGED
    if state == "closed":
        return PullRequestState.CLOSED
    return PullRequestState.DRAFT if is_draft else PullRequestState.OPEN


def see(pull_request_id: int, sighting: Sighting) -> Seen:
    """Put what was said into the row, unless what is known is newer: what comes in the wrong order sets nothing back, and what has
    been merged stays merged. With a merge the run's sandbox is given back. Pages are told of news.

    GitHub's times are whole seconds, so what was said within the same one is taken as it comes.
    """
    at = min(sighting.at, timezone.now()).replace(microsecond=0)  # one that claims the future must not silence all that follows
    with transaction.atomic():
        row = PullRequest.objects.select_for_update().filter(pk=pull_request_id).first()
        if row is None or (row.seen_at is not None and at < row.seen_at.replace(microsecond=0)):
            return Seen.OLD
        if row.state == PullRequestState.MERGED and sighting.state not in (None, PullRequestState.MERGED):
            return Seen.OLD
        before, state = _shown(row), row.state
        for name in ("state", "base", "checks", "review", "mergeable", "etag"):
            if (value := getattr(sighting, name)) is not None:
                setattr(row, name, value)
        row.seen_at = at
        row.save(update_fields=["state", "base", "checks", "review", "mergeable", "etag", "seen_at"])
        if _shown(row) == before:
            return Seen.SAME
        if row.state != state:
            announcing.pull_request_has_changed(row)
        if row.state == PullRequestState.MERGED:
            _give_back_sandbox(row.run_id)
        tell([row])
        return Seen.NEWS


def mark(pull_requests: QuerySet[PullRequest], **fields: str) -> None:
    """Set what follows from an event that is not about the pull requests as such, whenever it was. When GitHub is asked next, its
    answer has to be whole."""
    with transaction.atomic():
        found = list(pull_requests.select_for_update(of=("self",)).select_related("run__task"))
        changed = [row for row in found if any(getattr(row, name) != value for name, value in fields.items())]
        PullRequest.objects.filter(pk__in=[row.pk for row in found]).update(**fields, etag="")
        if changed:
            tell(changed)


def tell(pull_requests: list[PullRequest]) -> None:
    runs = {row.run for row in pull_requests}
    nudge.tell([*(nudge.run_group(run.pk) for run in runs), *{nudge.user_group(run.task.owner_id) for run in runs}])


def _shown(row: PullRequest) -> tuple[str, ...]:
    return row.state, row.base, row.checks, row.review, row.mergeable


def _give_back_sandbox(run_id: int) -> None:
    """Let the sandbox of a run go that nothing is left to do in. One whose run has another turn before it is kept; a follow-up later
    begins in a new one, from the newest patch."""
    for box in Sandbox.objects.filter(run=run_id, run__status__in=FINAL).exclude(status=SandboxStatus.DESTROYED):
        # A lost sandbox is one that reconcile destroys, should the nudge get lost.
        kept = Sandbox.objects.filter(pk=box.pk, run__status__in=FINAL).exclude(status=SandboxStatus.DESTROYED)
        if kept.update(status=SandboxStatus.LOST):
            nudge.enqueue(f"host-{box.host}" if box.host else settings.QUEUE_RUNS, "destroy_sandbox", box.pk)
