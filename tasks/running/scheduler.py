"""Who starts next. The queue is rows; caps are counts of rows; one advisory lock makes dispatching one at a time."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush

from django.conf import settings
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Now

from tasks.models import ACTIVE, PreparedEnvironment, Run, RunStatus, Sandbox, SandboxStatus, Stage, User
from tasks.running import capacity, installs, lifecycle, nudge, quotas
from tasks.running.standing import Standing

_DISPATCHING = 0x61636F64  # advisory lock: one dispatch at a time over all workers
_HOLDING = 0x61636F68  # with a host's number: held while that host stops its sandboxes

# Fair between users: everybody's next run competes by how many the owner has active already, then by age. `needs` is what a
# run needs of a backend that is not ours: a new sandbox ("create"), or its own awake ("wake"). Those who wait for that hold up
# nobody who does not, so they are ranked among themselves. Checks of patches come after all that people have asked for.
_QUEUE = f"""
WITH active AS (
    SELECT t.owner_id, count(*) AS runs FROM tasks_run r JOIN tasks_task t ON t.id = r.task_id
    WHERE r.status IN ('starting', 'running') GROUP BY t.owner_id
), queue AS (
    SELECT r.id, t.owner_id, r.agent, w.is_ready, r.queued_at, r.generation, r.not_before, n.needs, c.is_check,
        coalesce(a.runs, 0) AS active, {quotas.CAP} AS cap,
        row_number() OVER (PARTITION BY t.owner_id, w.is_ready, n.needs ORDER BY c.is_check, r.queued_at, r.id) AS rank
    FROM tasks_run r JOIN tasks_task t ON t.id = r.task_id LEFT JOIN active a ON a.owner_id = t.owner_id
        LEFT JOIN tasks_sandbox s ON s.run_id = r.id AND s.generation = r.generation AND s.ref <> '' AND s.status IN ('live', 'paused'),
        LATERAL (SELECT EXISTS (SELECT FROM tasks_check k WHERE k.run_id = r.id) AS is_check) c,
        LATERAL (SELECT t.base_commit <> '' AND coalesce(r.not_before <= clock_timestamp(), true) AS is_ready) w,
        LATERAL (SELECT CASE WHEN r.backend = 'local' OR s.status = 'live' THEN ''
            WHEN s.status = 'paused' THEN 'wake' ELSE 'create' END AS needs) n
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


@dataclass(frozen=True)
class _Head:
    """A queued run that could start: one of the first of its owner with the same needs."""

    queued_at: datetime
    run_id: int
    owner_id: int
    generation: int
    active: int  # of its owner
    cap: int  # as many as these may be
    needs: str
    is_check: bool


def dispatch() -> int:
    """Move as many queued runs to STARTING as the caps allow, and ask workers to start them. Gives their number."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_DISPATCHING])
        if is_held(settings.HOST_NAME):
            return 0
        places = quotas.site_most() - Run.objects.filter(status__in=ACTIVE).count()
        cursor.execute(
            _QUEUE + "SELECT queued_at, id, owner_id, generation, active, cap, needs, is_check FROM queue"
            " WHERE is_ready AND rank <= %(places)s AND active + rank <= cap ORDER BY is_check, queued_at, id",
            {"places": places, "per_user": settings.MAX_ACTIVE_RUNS_PER_USER},
        )
        checks = settings.MAX_ACTIVE_CHECKS - Run.objects.filter(status__in=ACTIVE, checks__isnull=False).count()
        chosen = _choose([_Head(*row) for row in cursor.fetchall()], places, checks)
        hosts = _hosts([head.run_id for head in chosen]) if chosen else {}
        for head in chosen:
            moved = lifecycle.move(
                head.run_id,
                source=[RunStatus.QUEUED],
                to=RunStatus.STARTING,
                stage=Stage.PROVISION,
                started_at=Now(),
                finished_at=None,
                lease_owner="",
                lease_until=Now() + timedelta(seconds=settings.START_LEASE_S),
            )
            if moved:
                host = hosts.get((head.run_id, head.generation)) or hosts.get((head.run_id, None))
                nudge.enqueue(f"host-{host}" if host else settings.QUEUE_RUNS, "start_turn", head.run_id, head.generation)
    return len(chosen)


def _hosts(run_ids: Sequence[int]) -> dict[tuple[int, int | None], str]:
    """(run, generation) → the host that holds its sandbox; (run, None) → the one on which what it prepares is to lie."""
    held = Sandbox.objects.filter(run__in=run_ids, status__in=[SandboxStatus.LIVE, SandboxStatus.PAUSED])
    hosts: dict[tuple[int, int | None], str] = {(sandbox.run_id, sandbox.generation): sandbox.host for sandbox in held}
    building = PreparedEnvironment.objects.filter(run__in=run_ids)
    return hosts | {(run_id, None): host for run_id, host in building.values_list("run", "host")}


def _choose(heads: Sequence[_Head], places: int, checks: int) -> list[_Head]:
    """Who of `heads`, the oldest first and checks last, gets one of `places`, of which `checks` may be checks: always the next of
    whose owner has the fewest, who has what it needs; a check only if nobody else can have the place."""
    waiting: dict[int, deque[_Head]] = {}
    for head in heads:
        waiting.setdefault(head.owner_id, deque()).append(head)
    shares = quotas.shares(waiting.keys()) if waiting else []
    room = capacity.Room() if any(head.needs for head in heads) else None
    turns = [(own[0].is_check, own[0].active, own[0].queued_at, own[0].run_id, owner) for owner, own in waiting.items()]
    heapify(turns)
    chosen: list[_Head] = []
    while turns and len(chosen) < places:
        is_check, active, _, _, owner = heappop(turns)
        of_groups = [share for share in shares if owner in share.members]
        if active >= waiting[owner][0].cap or any(share.left <= 0 for share in of_groups):
            continue
        if is_check and checks <= 0:
            break  # only checks are left
        head = waiting[owner].popleft()
        if not head.needs or (room is not None and room.take(creates=head.needs == "create")):
            chosen.append(head)
            active += 1
            checks -= head.is_check
            for share in of_groups:
                share.left -= 1
        if waiting[owner]:
            following = waiting[owner][0]
            heappush(turns, (following.is_check, active, following.queued_at, following.run_id, owner))
    if room is not None:
        room.leave()
    return chosen


@dataclass(frozen=True)
class Place:
    """Where a queued run stands: `position` counts from 1; `reason` is a sentence that says what it waits for."""

    position: int
    reason: str


def places(run_ids: list[int]) -> dict[int, Place]:
    """The places of those of `run_ids` that are queued."""
    with connection.cursor() as cursor:
        cursor.execute(
            _QUEUE + ", placed AS (SELECT *, active + rank AS share,"
            " row_number() OVER (ORDER BY is_ready DESC, is_check, active + rank, queued_at, id) AS position,"
            " row_number() OVER (PARTITION BY is_ready, needs ORDER BY is_check, active + rank, queued_at, id) AS among FROM queue)"
            " SELECT id, position, is_ready, share <= cap, needs, among, agent,"
            " ceil(extract(epoch FROM not_before - clock_timestamp()))::int, (SELECT sum(runs) FROM active), is_check,"
            f" owner_id, cap, {quotas.SITE_MOST}, {quotas.IS_GROUPED} FROM placed WHERE id = ANY(%(runs)s)",
            {"per_user": settings.MAX_ACTIVE_RUNS_PER_USER, "all": settings.MAX_ACTIVE_RUNS, "runs": run_ids},
        )
        rows = cursor.fetchall()
    found = {}
    installing = installs.reasons({agent for _, _, _, _, _, _, agent, seconds, *_ in rows if (seconds or 0) > 0})
    shortage = capacity.Shortage.of() if any(needs for _, _, _, _, needs, *_ in rows) else None
    grouped = {owner for *_, owner, _, _, is_grouped in rows if is_grouped}
    full = [share for share in quotas.shares(grouped) if share.left <= 0] if grouped else []
    for run_id, position, is_ready, is_within_share, needs, among, agent, seconds, active, is_check, owner, cap, most, _ in rows:
        is_full = (active or 0) >= most
        group = next((share for share in full if owner in share.members), None)
        short = shortage.of_need(needs) if shortage is not None else ""
        if seconds is not None and seconds > 0 and agent in installing:
            reason = installing[agent]
        elif seconds is not None and seconds > 0:
            refusal = shortage.refusal if shortage is not None and needs == "wake" else ""
            reason = f"{refusal} Tries again in {seconds} s.".lstrip()
        elif not is_ready:
            reason = "Waits for the repository's first mirror."
        elif short:
            reason = short
        elif not is_within_share:
            reason = f"You have {cap} run{'' if cap == 1 else 's'} active, as many as one person may."
        elif group is not None:
            reason = f"The group {group.name} has as many runs active as it may together."
        elif needs == "create" and not is_full:
            reason = capacity.pace(among - 1)
        elif is_check and not is_full:
            reason = f"Of all checks, {settings.MAX_ACTIVE_CHECKS} may be at work at once."
        else:
            reason = f"Waits for a free place; {most} runs may be active at once."
        found[run_id] = Place(position, reason)
    return found


@dataclass(frozen=True)
class Quota:
    """How many runs of a user may be active at once, how many are, and for each backend how many new ones would start at once; and
    what there is of quotas for a day."""

    most: int
    active: int
    free: Mapping[str, int]
    days: tuple[quotas.Day, ...] = ()


def quota(user: User, backends: Iterable[str], standing: Standing | None = None) -> Quota:
    """What both caps leave to a user, and at E2B the plan besides. Runs of others that wait do not count: while a place is free,
    all who wait are at their own cap. Nor do checks that wait: they give way. `standing` is how
    many there are, where that is known already."""
    standing = standing or Standing.of(user)
    rows = quotas.of(user)
    most = quotas.at_once(rows)
    left = [quotas.most_of_site(rows) - standing.everybodys, most - standing.active - standing.queued]
    left += [share.left for share in quotas.shares([user.pk])] if any(row.group_id for row in rows) else []
    free = dict.fromkeys(backends, max(0, min(left)))
    if capacity.E2B in free:
        free[capacity.E2B] = max(0, min(free[capacity.E2B], settings.E2B_MAX_SANDBOXES - capacity.awake()))
    return Quota(most, standing.active, free, quotas.days(user, rows))
