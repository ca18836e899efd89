"""How many runs are on their way, for all that a page says of that: one question."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, Q

from tasks.models import ACTIVE, Run, RunStatus, User


@dataclass(frozen=True)
class Standing:
    """How many runs have a place (`everybodys`, and of the user's `active`); how many of those are no checks of patches (`running`), or
    are of tasks in the list (`listed`); and how many of the user's wait for a place (`queued`, no checks) or for the user (`waiting`)."""

    everybodys: int
    active: int
    running: int
    listed: int
    queued: int
    waiting: int

    @classmethod
    def of(cls, user: User) -> Standing:
        has_place, own, no_check, is_listed = Q(status__in=ACTIVE), Q(task__owner=user), Q(checks=None), Q(task__is_trial=False)
        waits = own & Q(status__in=(RunStatus.QUEUED, RunStatus.WAITING))
        counts = Run.objects.filter(has_place | waits).aggregate(
            everybodys=Count("pk", filter=has_place),
            active=Count("pk", filter=has_place & own),
            running=Count("pk", filter=has_place & own & no_check),
            listed=Count("pk", filter=has_place & own & is_listed),
            queued=Count("pk", filter=Q(status=RunStatus.QUEUED) & own & no_check),
            waiting=Count("pk", filter=Q(status=RunStatus.WAITING) & own & is_listed),
        )
        return cls(**counts)
