"""How agents and models have done: runs, successes, wins, and what they took, of everybody or of one user."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from django.core.cache import cache
from django.db.models import Aggregate, Count, F, FloatField, Q, Sum
from django.db.models.functions import Cast, Extract, Now
from django.utils import timezone
from redis.exceptions import RedisError

from agents.registry import ADAPTERS
from tasks.models import FINAL, Run, RunStatus, User

logger = logging.getLogger(__name__)
T = TypeVar("T")

MOST_ROWS = 100
DAYS = (30, 90)  # that can be asked for, besides all
LONG_S, KEPT, MOST_KEPT_S = 0.05, 100, 600  # what takes LONG_S to count is kept for KEPT times as long


class Median(Aggregate):
    function = "percentile_cont"
    name = "median"
    template = "%(function)s(0.5) WITHIN GROUP (ORDER BY %(expressions)s)"


@dataclass(frozen=True)
class Score:
    """One agent with one model. `decided` are its runs in tasks in which some run was chosen; medians are of runs that are over."""

    agent: str
    model: str
    runs: int
    over: int
    succeeded: int
    decided: int
    wins: int
    median_s: float | None
    median_cost: float | None
    total_cost: Decimal | None

    @property
    def label(self) -> str:
        adapter = ADAPTERS.get(self.agent)
        return f"{adapter.label if adapter else self.agent} {self.model}".rstrip()

    @property
    def success(self) -> float | None:
        """The share of its runs that are over which succeeded."""
        return self.succeeded / self.over if self.over else None

    @property
    def win_rate(self) -> float | None:
        """The share of its runs that were chosen, where one was."""
        return self.wins / self.decided if self.decided else None


def recent_scores(*, user: User, everybody: bool, days: int | None) -> tuple[Sequence[Score], datetime | None]:
    """`scores`, and as of when they are; None is now. Where they take long to count they are kept, so that counting takes a hundredth
    of the time at most however often somebody looks; without a cache they are counted each time."""
    key = f"scores:{'all' if everybody else user.pk}:{days}"
    return recently(key, lambda: scores(user=user, everybody=everybody, days=days), long_s=LONG_S)


def recently(key: str, count: Callable[[], T], *, long_s: float) -> tuple[T, datetime | None]:
    """What `count` gives, now or a while ago: what takes it at least `long_s` is kept."""
    try:
        if (kept := cache.get(key)) is not None:
            return kept  # type: ignore[no-any-return]
    except (RedisError, OSError) as error:
        logger.warning("Statistics are counted anew: the cache cannot be reached (%s).", error)
    at, began = timezone.now(), time.perf_counter()
    found = count()
    if (took := time.perf_counter() - began) >= long_s:
        try:
            cache.set(key, (found, at), min(took * KEPT, MOST_KEPT_S))
        except (RedisError, OSError) as error:
            logger.warning("Statistics are not kept: the cache cannot be reached (%s).", error)
    return found, None


def scores(*, user: User, everybody: bool, days: int | None) -> Sequence[Score]:
    """By agent and model, those with the most wins first: of this user's runs, or of the whole installation's, of all time or of
    the last so many days. Two queries or fewer; trials and checks do not count. `everybody` is for operators only."""
    assert not everybody or user.is_operator
    runs = Run.objects.all() if everybody else Run.objects.visible_to(user)
    runs = runs.filter(task__is_trial=False)
    if days is not None:
        runs = runs.filter(queued_at__gte=Now() - timedelta(days=days))
    is_over = Q(status__in=FINAL)
    decided = Run.objects.filter(chosen_at__isnull=False).order_by().values("task")  # looked up in one table made of them, not for each run
    seconds = Cast(Extract(F("finished_at") - F("started_at"), "epoch"), FloatField())  # numerics are slow to sort
    found: Any = (
        runs.order_by()
        .values("agent", "model")
        .annotate(
            runs=Count("pk"),
            over=Count("pk", filter=is_over),
            succeeded=Count("pk", filter=Q(status=RunStatus.SUCCEEDED)),
            decided=Count("pk", filter=Q(task__in=decided)),
            wins=Count("pk", filter=Q(chosen_at__isnull=False)),
            median_s=Median(seconds, filter=is_over & Q(started_at__isnull=False), output_field=FloatField()),
            median_cost=Median(Cast("cost_usd", FloatField()), filter=is_over, output_field=FloatField()),
            total_cost=Sum("cost_usd"),
        )
        .order_by("-wins", "-runs", "agent", "model")[:MOST_ROWS]
    )
    return [Score(**row) for row in found]
