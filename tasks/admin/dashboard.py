"""The first page of the administration: how the installation is, at one look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe

from tasks.admin import figures
from tasks.models import RunStatus, Stage
from tasks.running import condition
from tasks.web import plots
from tasks.web.cards import dollars, time_of


@dataclass(frozen=True)
class Measure:
    """One plot, and the numbers in it for those who do not see it."""

    title: str
    text: str
    plot: SafeString
    rows: Sequence[tuple[str, int, str, str]]  # day, runs, p50, p95


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    (costs, costs_at), (failures, failures_at), (days, days_at) = figures.costs(), figures.failures(), figures.waits()
    context = {
        "now": [(RunStatus(status), number) for status, number in figures.now().items()],
        "costs": costs,
        "spent": [("today", dollars(costs.today)), ("this month", dollars(costs.month))],
        "by": [("By person", _bars(costs.people)), ("By agent", _bars(costs.agents))],
        "failures": _failures(failures),
        "failure_days": figures.FAILURE_DAYS,
        "measures": [
            _measure("Wait in the queue", "from the prompt to a place", days, lambda day: day.queue),
            _measure("Start", "from the place to the agent's start in its sandbox", days, lambda day: day.start),
            _measure("First event", "from the agent's start to its first sign of life", days, lambda day: day.first),
        ],
        "days": figures.DAYS,
        "as_of": min((at for at in (costs_at, failures_at, days_at) if at), default=None),
        "findings": condition.recently(),
    }
    return admin.site.index(request, context)


def _bars(costs: Sequence[figures.Cost]) -> list[dict[str, Any]]:
    most = max((cost.month for cost in costs), default=0)
    return [
        {
            "name": cost.name,
            "today": dollars(cost.today),
            "month": dollars(cost.month),
            "bar": plots.bar(float(cost.month / most) if most else 0),
        }
        for cost in costs
    ]


def _failures(failures: Sequence[figures.Failure]) -> list[dict[str, Any]]:
    most = max((failure.runs for failure in failures), default=1)
    return [
        {
            "reason": failure.error_class.replace("_", " ").capitalize() or "Other",
            "stage": Stage(failure.stage).label if failure.stage else "–",
            "status": RunStatus(failure.status).label,
            "query": urlencode(
                {"status__exact": failure.status, "stage__exact": failure.stage}
                | ({"error": failure.error_class} if failure.error_class else {})
            ),
            "runs": failure.runs,
            "bar": plots.bar(failure.runs / most),
        }
        for failure in failures
    ]


def _measure(title: str, text: str, days: Sequence[figures.Day], of: Callable[[figures.Day], figures.Pair]) -> Measure:
    labels = [f"{day.day:%b} {day.day.day}" for day in days]
    p50, p95 = ([of(day)[place] for day in days] for place in (0, 1))
    known = [value for value in (*p50, *p95) if value is not None]
    plot = plots.lines(
        [plots.Line("p95", p95), plots.Line("p50", p50)],
        labels=labels,
        y_end=plots.nice_end(max(known)) if known and max(known) < 5 else plots.nice_time(max(known, default=1)),
        y_text=_seconds,
        title=f"{title}, {text}: p50 and p95 of the last {len(days)} days; the table has the numbers",
    )
    rows = [
        (label, day.runs, *(_seconds(value) if value is not None else "–" for value in of(day)))
        for label, day in zip(labels, days, strict=True)
    ]
    return Measure(title, text, plot if known else SafeString(), rows)  # type: ignore[arg-type]


def _seconds(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.2g} s" if value < 60 else time_of(value)
