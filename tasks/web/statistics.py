"""Which agents and models win, how long they take and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET

from tasks.review.statistics import DAYS, Score, recent_scores
from tasks.web import plots
from tasks.web.access import Request
from tasks.web.cards import dollars, time_of


@dataclass(frozen=True)
class ScoreRow:
    number: int
    score: Score

    @property
    def time(self) -> str:
        return time_of(self.score.median_s)

    @property
    def cost(self) -> str:
        return _dollars(self.score.median_cost)

    @property
    def total_cost(self) -> str:
        return dollars(self.score.total_cost)

    @property
    def success(self) -> str:
        return _percent(self.score.success)

    @property
    def success_bar(self) -> SafeString:
        return plots.bar(self.score.success or 0)

    @property
    def win_rate(self) -> str:
        return _percent(self.score.win_rate)

    @property
    def win_bar(self) -> SafeString:
        return plots.bar(self.score.win_rate or 0)


def _dollars(cost: float | None) -> str:
    return "" if cost is None else dollars(Decimal(str(round(cost, 6))))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


@login_required
@require_GET
def statistics(request: Request) -> HttpResponse:
    """`days` is 30, 90 or all; operators may ask for `of=all`, the whole installation."""
    days = next((days for days in DAYS if str(days) == request.GET.get("days", str(DAYS[0]))), None)
    everybody = request.user.is_operator and request.GET.get("of") == "all"
    found, as_of = recent_scores(user=request.user, everybody=everybody, days=days)
    rows = [ScoreRow(number, score) for number, score in enumerate(found, 1)]
    context = {
        "rows": rows,
        "as_of": as_of,
        "days": days,
        "spans": DAYS,
        "everybody": everybody,
        "plot": _plot(rows),
        "wins": sum(score.wins for score in found),
    }
    return render(request, "tasks/statistics.html", context)


def _plot(rows: Sequence[ScoreRow]) -> SafeString:
    """Median time against median cost; "" where fewer than two agents have both."""
    known = [row for row in rows if row.score.median_s is not None and row.score.median_cost is not None]
    if len(known) < 2:
        return SafeString()
    most = max(row.score.runs for row in known)
    points = [
        plots.Point(
            row.number,
            row.score.label,
            row.score.median_s or 0,
            row.score.median_cost or 0,
            row.score.runs / most,
            row.score.wins > 0,
        )
        for row in known
    ]
    return plots.scatter(
        points,
        x="Median time",
        y="Median cost",
        x_end=plots.nice_time(max(point.x for point in points)),
        y_end=plots.nice_end(max(point.y for point in points)),
        x_text=lambda seconds: time_of(seconds) if seconds else "0",
        y_text=_dollars,
        title="Median time and cost of each agent and model; the table has the numbers",
    )
