"""How long runs took, and how soon they began to change something."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import DurationField, ExpressionWrapper, F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, Now

from tasks.models import Event, EventKind, Run, Turn, TurnKind

_EDITS = ("edit", "delete", "move")  # kinds of tool calls
_LOOKED_THROUGH = 20_000  # events of a run, for its first edit


def first_edits(runs: Sequence[Run]) -> dict[int, float]:
    """Seconds from a run's first start to the first thing it did to a file, as far as events tell."""
    edits = Q(kind=EventKind.TOOL_CALL, data__tool__in=_EDITS) | Q(kind=EventKind.STATUS, data__files__gt=0)
    first = Event.objects.filter(edits, run=OuterRef("pk"), seq__lt=_LOOKED_THROUGH).order_by("seq").values("at")[:1]
    begun = Turn.objects.filter(run=OuterRef("pk"), started_at__isnull=False).order_by("number").values("started_at")[:1]
    rows: Any = Run.objects.filter(pk__in=[run.pk for run in runs]).order_by().annotate(edit=Subquery(first), begun=Subquery(begun))
    return {pk: _seconds(begun, edit) for pk, begun, edit in rows.values_list("pk", "begun", "edit") if begun and edit}


def _seconds(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start).total_seconds())


def totals(runs: Sequence[Run]) -> dict[int, float]:
    """Seconds that the turns of each run took together, those at work until now."""
    span = ExpressionWrapper(Coalesce(F("finished_at"), Now()) - F("started_at"), output_field=DurationField())
    turns = Turn.objects.filter(run__in=[run.pk for run in runs], started_at__isnull=False).exclude(kind=TurnKind.REVERT)
    return {pk: took.total_seconds() for pk, took in turns.order_by().values("run").annotate(took=Sum(span)).values_list("run", "took")}
