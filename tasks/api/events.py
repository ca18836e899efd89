"""A run's events, in pages."""

from __future__ import annotations

import json
from typing import Annotated, Any

from django.db.models import QuerySet
from django.http import HttpResponse
from ninja import Query, Router
from ninja.responses import NinjaJSONEncoder

from tasks.api import schemas
from tasks.api.auth import Request
from tasks.api.finding import find_run
from tasks.api.paging import BIGGEST, Id, address
from tasks.models import Event

router = Router(tags=["events"])
MOST = 1000  # events of a page
MOST_CHARACTERS = 2_000_000  # of a page, in JSON; one event that is larger is a page of its own
After = Annotated[int, Query(ge=0, le=BIGGEST, description="The seq to go on after.")]


@router.get("/runs/{int:run_id}/events", response=schemas.Events, operation_id="list_events", summary="List a run's events")
def list_events(request: Request, run_id: Id, after: After = 0, limit: Annotated[int, Query(ge=1, le=MOST)] = 200) -> HttpResponse:
    """Events in the order they were written, without gap: `after=last` goes on where the page ended."""
    run = find_run(request, run_id)
    found = read(run.pk, after, limit)
    last = found[-1][0] if found else after
    has_more = bool(found) and Event.objects.filter(run=run, seq__gt=last).exists()
    following = json.dumps(address(request, after=last) if has_more else None)
    items = ",".join(text for _, text in found)
    return HttpResponse(f'{{"items":[{items}],"last":{last},"next":{following}}}', content_type="application/json; charset=utf-8")


def read(run_id: int, after: int, limit: int) -> list[tuple[int, str]]:
    """The events just after a seq, as (seq, JSON): up to a number and a size, fetched in growing handfuls, since one may hold a
    megabyte."""
    found: list[tuple[int, str]] = []
    characters, handful = 0, 16
    while len(found) < limit:
        most = min(handful, limit - len(found))
        events = _events(run_id, found[-1][0] if found else after)[:most]
        for event in (rows := list(events)):
            text = as_json(event)
            characters += len(text)
            if found and characters > MOST_CHARACTERS:
                return found
            found.append((event.seq, text))
        if len(rows) < most:
            break
        handful *= 2
    return found


def _events(run_id: int, after: int) -> QuerySet[Event]:
    events = Event.objects.filter(run=run_id, seq__gt=after).order_by("seq").select_related("turn")
    return events.only("seq", "kind", "at", "data", "turn__number")


def as_json(event: Event) -> str:
    """One line, as schemas.Event says."""
    turn = event.turn.number if event.turn else None
    record: dict[str, Any] = {"seq": event.seq, "turn": turn, "kind": event.kind, "at": event.at, "data": event.data}
    return json.dumps(record, cls=NinjaJSONEncoder, separators=(",", ":"))
