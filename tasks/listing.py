"""Which of a user's tasks: by where their runs stand, their repository, an agent, and words."""

from __future__ import annotations

from django.db.models import Exists, OuterRef, Q, QuerySet

from tasks.models import ACTIVE, Run, RunStatus, Task, User
from tasks.services import FAILED

WORKING = (RunStatus.QUEUED, *ACTIVE)


def _with_run(*statuses: RunStatus) -> Exists:
    return Exists(Run.objects.filter(task=OuterRef("pk"), status__in=statuses))


STATES: dict[str, Q] = {
    "working": Q(_with_run(*WORKING)),
    "waiting": Q(_with_run(RunStatus.WAITING)),
    "done": ~Q(_with_run(*WORKING, RunStatus.WAITING)) & Q(_with_run(RunStatus.SUCCEEDED)),
    "failed": Q(_with_run(*FAILED)),
}


def find_tasks(
    user: User, *, state: str = "", repo: int | None = None, agent: str = "", text: str = "", is_archived: bool = False
) -> QuerySet[Task]:
    """Newest first. `state` is one of STATES, or "" for all; in `text` every word has to occur (see Task.objects.matching)."""
    found = Task.objects.visible_to(user).filter(is_trial=False, archived_at__isnull=not is_archived)
    if state:
        found = found.filter(STATES[state])
    if repo:
        found = found.filter(repo=repo)
    if agent:
        found = found.filter(Exists(Run.objects.filter(task=OuterRef("pk"), agent=agent)))
    if text:
        found = found.matching(text)
    return found.order_by("-pk")
