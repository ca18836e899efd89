"""What a turn took, when it is over: what the agent said of it, and what the broker counted."""

from __future__ import annotations

from django.db.models import F, Sum

from tasks.models import ModelCall, Run, Turn
from tasks.running.events import TOKENS


def settle(turn: Turn) -> None:
    """Bring a turn's and its run's figures up to what the broker counted, where that is more: some agents tell of their last
    request only, and one that was killed tells nothing. Within a transaction; again is fine.

    The agent's own cost stays: it knows prices that our table does not.
    """
    Run.objects.select_for_update().get(pk=turn.run_id)
    turn.refresh_from_db(fields=[*TOKENS, "cost_usd"])
    counted = ModelCall.objects.filter(turn=turn).aggregate(*(Sum(column, default=0) for column in TOKENS), cost=Sum("cost_usd"))
    missing = {column: more for column in TOKENS if (more := counted[f"{column}__sum"] - getattr(turn, column)) > 0}
    if turn.cost_usd is None and counted["cost"] is not None:
        Turn.objects.filter(pk=turn.pk).update(cost_usd=counted["cost"])
        costs = Turn.objects.filter(run=turn.run_id).aggregate(all=Sum("cost_usd"))
        Run.objects.filter(pk=turn.run_id).update(cost_usd=costs["all"])
    if missing:
        for rows in (Turn.objects.filter(pk=turn.pk), Run.objects.filter(pk=turn.run_id)):
            rows.update(**{column: F(column) + more for column, more in missing.items()})
