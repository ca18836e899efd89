"""Who starts next. The queue is rows; caps are counts of rows; one advisory lock makes dispatching one at a time."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Count, Q
from django.db.models.functions import Now

from tasks.models import ACTIVE, Run, RunStatus, Sandbox, SandboxStatus, Stage, User
from tasks.running import installs, lifecycle, nudge

_DISPATCHING = 0x61636F64  # advisory lock: one dispatch at a time over all workers
_HOLDING = 0x61636F68  # with a host's number: held while that host stops its sandboxes

# Fair between users: everybody's next run competes by how many the owner has active already, then by age.
_QUEUE = """
WITH active AS (
    SELECT t.owner_id, count(*) AS runs FROM tasks_run r JOIN tasks_task t ON t.id = r.task_id
    WHERE r.status IN ('starting', 'running') GROUP BY t.owner_id
), queue AS (
    SELECT r.id, r.task_id, r.agent, w.is_ready, r.queued_at, r.generation, r.not_before,
        coalesce(a.runs, 0) + row_number() OVER (PARTITION BY t.owner_id, w.is_ready ORDER BY r.queued_at, r.id) AS share
    FROM tasks_run r JOIN tasks_task t ON t.id = r.task_id LEFT JOIN active a ON a.owner_id = t.owner_id,
        LATERAL (SELECT t.base_commit <> '' AND coalesce(r.not_before <= clock_timestamp(), true) AS is_ready) w
    WHERE r.status = 'queued'
)
"""


_kept: list[BaseDatabaseWrapper] = []


def _host_number(host: str) -> int:
    return zlib.crc32(host.encode()) - 2**31


def is_held(host: str) -> bool:
    """Whether a host is stopping its sandboxes, so that nothing may start there. Asked inside a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock_shared(%s, %s)", [_HOLDING, _host_number(host)])
        return not cursor.fetchone()[0]


def hold(host: str) -> None:
    """Let nothing start on `host` for as long as this process lives."""
    kept = connection.copy()  # the caller's own may be closed with its thread
    _kept.append(kept)
    with kept.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, %s)", [_HOLDING, _host_number(host)])


def dispatch() -> int:
    """Move as many queued runs to STARTING as the caps allow, and ask workers to start them. Gives their number."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_DISPATCHING])
        if is_held(settings.HOST_NAME):
            return 0
        cursor.execute(
            _QUEUE + "SELECT id, generation FROM queue WHERE is_ready AND share <= %s ORDER BY share, queued_at, id"
            " LIMIT greatest(0, %s - coalesce((SELECT sum(runs) FROM active), 0)::int)",
            [settings.MAX_ACTIVE_RUNS_PER_USER, settings.MAX_ACTIVE_RUNS],
        )
        chosen = cursor.fetchall()
        hosts = {
            (sandbox.run_id, sandbox.generation): sandbox.host
            for sandbox in Sandbox.objects.filter(run__in=[c[0] for c in chosen], status__in=[SandboxStatus.LIVE, SandboxStatus.PAUSED])
        }
        for run_id, generation in chosen:
            moved = lifecycle.move(
                run_id,
                source=[RunStatus.QUEUED],
                to=RunStatus.STARTING,
                stage=Stage.PROVISION,
                started_at=Now(),
                finished_at=None,
                lease_owner="",
                lease_until=Now() + timedelta(seconds=settings.START_LEASE_S),
            )
            if moved:
                host = hosts.get((run_id, generation))
                nudge.enqueue(f"host-{host}" if host else settings.QUEUE_RUNS, "start_turn", run_id, generation)
    return len(chosen)


@dataclass(frozen=True)
class Place:
    """Where a queued run stands: `position` counts from 1; `reason` is a sentence that says what it waits for."""

    position: int
    reason: str


def places(run_ids: list[int]) -> dict[int, Place]:
    """The places of those of `run_ids` that are queued."""
    with connection.cursor() as cursor:
        cursor.execute(
            _QUEUE + ", placed AS (SELECT *, row_number() OVER (ORDER BY is_ready DESC, share, queued_at, id) AS position FROM queue)"
            " SELECT id, position, is_ready, share <= %s, ceil(extract(epoch FROM not_before - clock_timestamp()))::int, agent"
            " FROM placed WHERE id = ANY(%s)",
            [settings.MAX_ACTIVE_RUNS_PER_USER, run_ids],
        )
        rows = cursor.fetchall()
    found = {}
    installing = installs.reasons({row[-1] for row in rows if (row[-2] or 0) > 0})
    for run_id, position, is_ready, is_within_share, seconds, agent in rows:
        if seconds is not None and seconds > 0 and agent in installing:
            reason = installing[agent]
        elif seconds is not None and seconds > 0:
            reason = f"Tries again in {seconds} s."
        elif not is_ready:
            reason = "Waits for the repository's first mirror."
        elif not is_within_share:
            reason = f"You have {settings.MAX_ACTIVE_RUNS_PER_USER} runs active, as many as one person may."
        else:
            reason = f"Waits for a free place; {settings.MAX_ACTIVE_RUNS} runs may be active at once."
        found[run_id] = Place(position, reason)
    return found


@dataclass(frozen=True)
class Quota:
    """How many runs of a user may be active at once, how many are, and how many new ones would start at once."""

    most: int
    active: int
    free: int


def quota(user: User) -> Quota:
    """What both caps leave to a user. Runs of others that wait do not count: while a place is free, all who wait are at their own cap."""
    counts = Run.objects.filter(status__in=[*ACTIVE, RunStatus.QUEUED]).aggregate(
        all=Count("pk", filter=Q(status__in=ACTIVE)),
        own=Count("pk", filter=Q(status__in=ACTIVE, task__owner=user)),
        queued=Count("pk", filter=Q(status=RunStatus.QUEUED, task__owner=user)),
    )
    most = min(settings.MAX_ACTIVE_RUNS, settings.MAX_ACTIVE_RUNS_PER_USER)
    free = min(settings.MAX_ACTIVE_RUNS - counts["all"], most - counts["own"] - counts["queued"])
    return Quota(most, counts["own"], max(0, free))
