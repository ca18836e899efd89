"""What turns took: tokens and cost, by day, agent, model or user."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any, Literal

from django.db.models import Count, F, Sum
from django.db.models.expressions import Combinable
from django.db.models.functions import Now, TruncDay
from ninja import Query, Router

from tasks.api import schemas
from tasks.api.auth import Request
from tasks.api.errors import Refusal
from tasks.models import Turn
from tasks.running.events import TOKENS

router = Router(tags=["usage"])
By = Literal["day", "agent", "model", "user"]
MOST_ROWS = 1000
_KEYS: dict[str, Combinable] = {
    "day": TruncDay("started_at"),
    "agent": F("run__agent"),
    "model": F("run__model"),
    "user": F("run__task__owner__username"),
}


@router.get("/usage", response=schemas.Usages, operation_id="get_usage", summary="Show what was used")
def get_usage(
    request: Request,
    by: Annotated[By, Query()] = "day",
    days: Annotated[int, Query(ge=1, le=366, description="Turns that began in the last so many days.")] = 30,
    everybody: Annotated[bool, Query(description="Of all users; for operators.")] = False,
) -> schemas.Usages:
    """Tokens and cost of your turns, by day (newest first), or by agent, model or user (the most expensive first)."""
    if everybody and not request.user.is_operator:
        raise Refusal(HTTPStatus.FORBIDDEN, "Only operators may see what everybody used.")
    turns = Turn.objects.all() if everybody else Turn.objects.filter(run__task__owner=request.user)
    sums: dict[str, Any] = {f"all_{name}": Sum(name) for name in TOKENS}
    rows: Any = turns.filter(started_at__gte=Now() - timedelta(days=days)).order_by().annotate(key=_KEYS[by]).values("key")
    rows = rows.annotate(turns=Count("pk"), cost=Sum("cost_usd"), **sums)
    rows = rows.order_by("-key" if by == "day" else F("cost").desc(nulls_last=True), "key")[:MOST_ROWS]
    return schemas.Usages(items=[_shown(row, by) for row in rows])


def _shown(row: dict[str, Any], by: By) -> schemas.Usage:
    return schemas.Usage(
        key=row["key"].date().isoformat() if by == "day" else row["key"],
        turns=row["turns"],
        cost_usd=None if row["cost"] is None else float(row["cost"]),
        **{name: row[f"all_{name}"] for name in TOKENS},
    )
