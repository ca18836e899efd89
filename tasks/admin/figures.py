"""What the dashboard says. Each figure is asked for by an index, and what takes a while is kept for a while (`review/statistics.py`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from django.db import connection
from django.db.models import Count, Q, Sum
from django.utils import timezone

from agents.registry import ADAPTERS
from tasks.models import UNFINISHED, ModelCall, Run, RunStatus
from tasks.review.statistics import recently
from tasks.running.model_access import month_began

DAYS = 14  # of waits
FAILURE_DAYS = 7
MOST_ROWS = 20  # people that are named, and reasons
_LONG_S = 0.01
_FAILED = (RunStatus.FAILED, RunStatus.ERRORED, RunStatus.INTERRUPTED)

# First turns only: a follow-up waits for the turn before it, which says nothing of the queue. The times of a turn: when it was asked for,
# when a place was given to it, when it was handed to its supervisor, and when its journal had something to say.
_WAITS = """
SELECT day, count(*), percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY queue),
    percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY start), percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY first)
FROM (
    SELECT (t.created_at AT TIME ZONE 'UTC')::date AS day,
        greatest(extract(epoch FROM t.started_at - t.created_at), 0)::float AS queue,
        extract(epoch FROM running.at - t.started_at)::float AS start,
        extract(epoch FROM said.at - running.at)::float AS first
    FROM tasks_turn t
    LEFT JOIN LATERAL (
        SELECT e.seq, e.at FROM tasks_event e
        WHERE e.run_id = t.run_id AND e.kind = 'status' AND e.data ->> 'status' = 'running' ORDER BY e.seq LIMIT 1
    ) running ON true
    LEFT JOIN LATERAL (
        SELECT e.at FROM tasks_event e WHERE e.run_id = t.run_id AND e.seq > running.seq AND e.kind <> 'status' ORDER BY e.seq LIMIT 1
    ) said ON true
    WHERE t.number = 1 AND t.created_at >= %s AND t.started_at IS NOT NULL
) waits GROUP BY day ORDER BY day
"""

Pair = tuple[float | None, float | None]  # p50 and p95, in seconds


@dataclass(frozen=True)
class Day:
    """How long the first turns that were asked for on a day waited for their place, for their sandbox, and for a first event."""

    day: date
    runs: int = 0
    queue: Pair = (None, None)
    start: Pair = (None, None)
    first: Pair = (None, None)


@dataclass(frozen=True)
class Cost:
    """What somebody's or an agent's calls cost, in USD."""

    name: str
    today: Decimal
    month: Decimal


@dataclass(frozen=True)
class Costs:
    """`people` are those who spent most; the sums are everybody's."""

    today: Decimal
    month: Decimal
    people: Sequence[Cost]
    agents: Sequence[Cost]


@dataclass(frozen=True)
class Failure:
    error_class: str
    stage: str
    status: str
    runs: int


def now() -> dict[str, int]:
    """Status → how many unfinished runs have it."""
    found = dict(Run.objects.filter(status__in=UNFINISHED).order_by().values_list("status").annotate(Count("pk")))
    return {str(status): found.get(status, 0) for status in UNFINISHED}


def costs() -> tuple[Costs, datetime | None]:
    """Of this day and month, of UTC, as the broker counted them; that is what budgets are held to."""
    return recently("admin:costs", count_costs, long_s=_LONG_S)


def count_costs() -> Costs:
    moment = timezone.now()
    today = Sum("cost_usd", filter=Q(at__gte=moment.replace(hour=0, minute=0, second=0, microsecond=0)), default=Decimal(0))
    calls = ModelCall.objects.filter(at__gte=month_began(moment), cost_usd__isnull=False).order_by()
    rows = calls.values_list("user__username", "run__agent").annotate(today=today, month=Sum("cost_usd"))
    people, agents = (defaultdict[str, list[Decimal]](lambda: [Decimal(0), Decimal(0)]) for _ in range(2))
    for person, agent, of_today, of_month in rows:
        label = ADAPTERS[agent].label if agent in ADAPTERS else agent
        for sums in (people[person], agents[label]):
            sums[0] += of_today
            sums[1] += of_month
    whole = _sorted(agents)
    return Costs(sum((c.today for c in whole), Decimal(0)), sum((c.month for c in whole), Decimal(0)), _sorted(people)[:MOST_ROWS], whole)


def _sorted(sums: dict[str, list[Decimal]]) -> list[Cost]:
    return sorted((Cost(name, today, month) for name, (today, month) in sums.items()), key=lambda cost: (-cost.month, cost.name))


def failures() -> tuple[Sequence[Failure], datetime | None]:
    """Why runs failed in the last FAILURE_DAYS, the most frequent reason first."""
    return recently("admin:failures", count_failures, long_s=_LONG_S)


def count_failures() -> Sequence[Failure]:
    since = timezone.now() - timedelta(days=FAILURE_DAYS)
    rows = Run.objects.filter(finished_at__gte=since, status__in=_FAILED).order_by().values_list("error_class", "stage", "status")
    return [Failure(*row) for row in rows.annotate(runs=Count("pk")).order_by("-runs", "error_class", "stage", "status")[:MOST_ROWS]]


def waits() -> tuple[Sequence[Day], datetime | None]:
    """Each of the last DAYS, today last."""
    return recently("admin:waits", count_waits, long_s=_LONG_S)


def count_waits() -> Sequence[Day]:
    today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    since = today - timedelta(days=DAYS - 1)
    with connection.cursor() as cursor:
        cursor.execute(_WAITS, [since])
        found = {day: Day(day, runs, *(tuple(pair or (None, None)) for pair in pairs)) for day, runs, *pairs in cursor.fetchall()}
    days = [(since + timedelta(days=n)).date() for n in range(DAYS)]
    return [found.get(day, Day(day)) for day in days]
