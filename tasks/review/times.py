"""How long runs took, and how soon they began to change something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db.models import DurationField, ExpressionWrapper, F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, Now

from tasks.models import Event, EventKind, Run, Turn, TurnKind

_EDITS = ("edit", "delete", "move")  # kinds of tool calls
_LOOKED_THROUGH = 20_000  # events of a run, for its first edit


class Times(NamedTuple):
    """In seconds, None where that is not known: from a run's first start to the first thing it did to a file, as far as events tell;
    what its turns took together, those at work until now."""

    first_edit: float | None
    total: float | None


def times_of(runs: Sequence[Run]) -> dict[int, Times]:
    """The times of each run by id, by one query."""
    edits = Q(kind=EventKind.TOOL_CALL, data__tool__in=_EDITS) | Q(kind=EventKind.STATUS, data__files__gt=0)
    first = Event.objects.filter(edits, run=OuterRef("pk"), seq__lt=_LOOKED_THROUGH).order_by("seq").values("at")[:1]
    begun = Turn.objects.filter(run=OuterRef("pk"), started_at__isnull=False).order_by("number").values("started_at")[:1]
    span = ExpressionWrapper(Coalesce(F("finished_at"), Now()) - F("started_at"), output_field=DurationField())
    turns = Turn.objects.filter(run=OuterRef("pk"), started_at__isnull=False).exclude(kind=TurnKind.REVERT)
    took = turns.order_by().values("run").annotate(took=Sum(span)).values("took")
    asked = {"edit": Subquery(first), "begun": Subquery(begun), "took": Subquery(took)}
    rows: Any = Run.objects.filter(pk__in=[run.pk for run in runs]).order_by().annotate(**asked)
    return {
        pk: Times(
            max(0.0, (edit - begun).total_seconds()) if edit and begun else None,
            None if took is None else took.total_seconds(),
        )
        for pk, edit, begun, took in rows.values_list("pk", *asked)
    }
