"""How many runs are on their way, for all that a page says of that: one question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import connection

from tasks.models import ACTIVE, RunStatus, User

MOST_WAITING = 100  # are counted: what waits for its user may wait for years, and nobody needs to know of how much more there is

_COUNTS = """
WITH active AS (
    SELECT t.owner_id = %(user)s AS is_own, t.is_trial, EXISTS (SELECT FROM tasks_check c WHERE c.run_id = r.id) AS is_check
    FROM tasks_run r JOIN tasks_task t ON t.id = r.task_id WHERE r.status = ANY(%(active)s)
), queued AS (
    SELECT FROM tasks_run r JOIN tasks_task t ON t.id = r.task_id
    WHERE r.status = %(queued)s AND t.owner_id = %(user)s AND NOT EXISTS (SELECT FROM tasks_check c WHERE c.run_id = r.id)
), waiting AS (
    SELECT FROM tasks_run r JOIN tasks_task t ON t.id = r.task_id
    WHERE r.status = %(waiting)s AND t.owner_id = %(user)s AND NOT t.is_trial
    LIMIT %(most)s
)
SELECT count(*), count(*) FILTER (WHERE is_own), count(*) FILTER (WHERE is_own AND NOT is_check),
    count(*) FILTER (WHERE is_own AND NOT is_trial), (SELECT count(*) FROM queued), (SELECT count(*) FROM waiting)
FROM active
"""


@dataclass(frozen=True)
class Standing:
    """How many runs have a place (`everybodys`, and of the user's `active`); how many of those are no checks of patches (`running`), or
    are of tasks in the list (`listed`); and how many of the user's wait for a place (`queued`, no checks) or for the user (`waiting`,
    counted up to MOST_WAITING)."""

    everybodys: int
    active: int
    running: int
    listed: int
    queued: int
    waiting: int

    @classmethod
    def of(cls, user: User) -> Standing:
        statuses: dict[str, Any] = {"active": list(ACTIVE), "queued": RunStatus.QUEUED, "waiting": RunStatus.WAITING}
        with connection.cursor() as cursor:
            cursor.execute(_COUNTS, statuses | {"user": user.pk, "most": MOST_WAITING})
            return cls(*cursor.fetchone())

    @property
    def waiting_text(self) -> str:
        return str(self.waiting) if self.waiting < MOST_WAITING else f"{MOST_WAITING - 1}+"
