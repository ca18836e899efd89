"""Follow-ups about a pull request, after which it is updated by itself if the user wants it so."""

from __future__ import annotations

import logging

from django.db import transaction

from tasks.errors import AppError, Conflict
from tasks.github import pulls, sightings
from tasks.github.merging import pull_of
from tasks.github_api.errors import RateLimited, Unavailable
from tasks.models import Mode, Publication, Run, RunStatus, Turn, TurnKind, User
from tasks.running import nudge, patches
from tasks.services import send_follow_up

logger = logging.getLogger(__name__)


def send(*, run: Run, by: User, prompt: str, updates: bool) -> Turn:
    """Send a follow-up; with `updates`, what it has changed goes to the pull request when it has succeeded."""
    row = pull_of(run)
    if run.agent == "shell":
        raise Conflict("A script cannot be told of this. Start it in a new task.")
    if row.state not in sightings.UNDECIDED:
        raise Conflict(f"Pull request #{row.number} is {row.state}. Reopen it first, or start a new task.")
    with transaction.atomic():
        turn = send_follow_up(run=run, by=by, prompt=prompt, mode=Mode.CODE)
        Publication.objects.filter(run=run).update(update_after=turn.number if updates else None)
    return turn


def update_all() -> None:
    """Update those whose turn is over: the net under the nudge at a turn's end."""
    for run_id in Publication.objects.filter(update_after__isnull=False).values_list("run", flat=True).order_by("run"):
        update(run_id)


def update(run_id: int) -> None:
    """Update a run's pull request if that was wanted after a turn that has succeeded by now. While GitHub cannot be asked, it is left
    for later; what else is in the way is told on the run's page, and the user goes on from there."""
    waits = Publication.objects.filter(run=run_id, update_after__isnull=False)
    publication = waits.select_related("run__task__repo__owner", "run__task__owner").first()
    if publication is None or not publication.run.is_over:
        return
    told = {}
    if _has_come(publication):
        if pulls.is_at_work(publication.run):  # with an older patch
            return
        try:
            pulls.update_pull_request(run=publication.run, by=publication.run.task.owner)
        except (RateLimited, Unavailable) as error:
            logger.info("The pull request of run %s is updated later: %s", run_id, error.message)
            return
        except AppError as error:
            told = {"error": error.message, "error_code": error.code}
    # Unless another follow-up was sent meanwhile, after which it is to be updated too.
    waits.filter(update_after=publication.update_after).update(update_after=None, **told)
    nudge.tell([nudge.run_group(run_id)])


def _has_come(publication: Publication) -> bool:
    """Whether the turn, or what came after it, ended well with a patch that is not there yet; nothing was taken back since."""
    run, since = publication.run, publication.update_after
    patch = patches.newest(run)
    if run.status != RunStatus.SUCCEEDED or patch is None or since is None or patch.turn.number < since:
        return False
    return patch.sha256 != publication.pushed and not run.turns.filter(kind=TurnKind.REVERT, number__gt=since).exists()
