"""A run's events in pages, numbered by seq: bounded in number and in size, whatever a run has written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from django.db.models import F, Func, IntegerField, Prefetch, Q, QuerySet, prefetch_related_objects

from tasks.models import Attachment, Event, EventKind, Run, RunStatus, Turn
from tasks.web.shown import MOST_SHOWN, Shown, Standing, data_of, key_of, show, standings

MOST_EVENTS = 500
MOST_CHARACTERS = 400_000
MOST_LATER = 2000  # events after a page among which the ends of what begins on it are looked for
MOST_BEGUN = 100


@dataclass(frozen=True)
class LogPage:
    """Events `first` to `last`, without a gap; of an empty page `last` is the seq it was asked to begin after."""

    run_id: int
    pieces: list[Shown]
    first: int
    last: int
    has_status: bool
    has_older: bool
    has_newer: bool  # not of the newest page: it was the end when it was read; what came since, the socket tells


def newest(run: Run) -> LogPage:
    events, has_older = _take(Event.objects.filter(run=run).order_by("-seq"))
    return _page(run, events[::-1], run.next_seq - 1, has_older=has_older, has_newer=False)


def before(run: Run, seq: int) -> LogPage:
    """The events just before `seq`."""
    events, has_older = _take(Event.objects.filter(run=run, seq__lt=seq).order_by("-seq"))
    last = events[0].seq if events else seq - 1
    has_newer = Event.objects.filter(run=run, seq__gt=last).exists()
    return _page(run, events[::-1], seq - 1, has_older=has_older, has_newer=has_newer)


def after(run: Run, seq: int) -> LogPage:
    """The events just after `seq`."""
    events, has_newer = _take(Event.objects.filter(run=run, seq__gt=seq).order_by("seq"))
    first = events[0].seq if events else seq + 1
    has_older = first > 1 and Event.objects.filter(run=run, seq__lt=first).exists()
    return _page(run, events, seq, has_older=has_older, has_newer=has_newer)


def _take(events: QuerySet[Event]) -> tuple[list[Event], bool]:
    """The first events, up to a number and a size, and whether there are more. One may hold a megabyte, so what they take in the
    database, compressed, is asked first."""
    stored = Func(F("data"), function="pg_column_size", output_field=IntegerField())
    sizes = list(events.values_list("seq", stored)[: MOST_EVENTS + 1])
    if not sizes:
        return [], False
    sums = accumulate(min(size, MOST_SHOWN) for _, size in sizes)
    reach = next((place for place, size in enumerate(sums, 1) if size >= MOST_CHARACTERS), MOST_EVENTS)
    ends = sorted((sizes[0][0], sizes[:reach][-1][0]))
    taken: list[Event] = []
    characters = 0
    for event in events.filter(seq__range=ends)[:MOST_EVENTS]:
        taken.append(event)
        characters += _size(event.data)
        if characters >= MOST_CHARACTERS:
            break
    return taken, len(taken) < len(sizes)


def _size(data: Any) -> int:
    """The characters that an event may take on the page, roughly."""
    size, values = 0, [data]
    while values and size < MOST_CHARACTERS:
        value = values.pop()
        if isinstance(value, str):
            size += min(len(value), MOST_SHOWN)
        elif isinstance(value, dict):
            values.extend(value.values())
        elif isinstance(value, list):
            values.extend(value)
        size += 4
    return size


def turns_of(events: Sequence[Event]) -> dict[int, Turn]:
    """The turns of events by id: with the attachments (without their content) where a prompt is shown."""
    turns = (
        Turn.objects.filter(pk__in={event.turn_id for event in events if event.turn_id}).select_related("author").defer("answer").in_bulk()
    )
    starting = {event.turn_id for event in events if event.kind == EventKind.STATUS and data_of(event).get("status") == RunStatus.STARTING}
    attachments = Prefetch("attachments", Attachment.objects.defer("content"))
    prefetch_related_objects([turn for pk, turn in turns.items() if pk in starting], attachments)
    return turns


def _standings(run: Run, events: Sequence[Event]) -> dict[int, Standing]:
    return standings(run, run.turns.all()) if any(event.turn_id for event in events) else {}


def _page(run: Run, events: list[Event], last: int, *, has_older: bool, has_newer: bool) -> LogPage:
    last = events[-1].seq if events else last
    later = _later(run, events) if last < run.next_seq - 1 else []
    return LogPage(
        run_id=run.pk,
        pieces=show(events, turns_of(events), later, agent=run.agent, standings=_standings(run, events)),
        first=events[0].seq if events else last + 1,
        last=last,
        has_status=any(event.kind == EventKind.STATUS for event in events),
        has_older=has_older,
        has_newer=has_newer,
    )


def _later(run: Run, events: Sequence[Event]) -> list[Event]:
    """Results of calls and final texts that lie beyond the page on which they began."""
    begun: dict[str, Any] = {}
    for event in events:
        key, data = key_of(event), data_of(event)
        if key and (event.kind == EventKind.TOOL_CALL or "chunk" in data):
            begun[key] = data["id"]
        elif event.kind in (EventKind.TOOL_RESULT, EventKind.MESSAGE, EventKind.THOUGHT):
            begun.pop(key, None)
    if not begun:
        return []
    seqs = Q(seq__gt=events[-1].seq, seq__lte=events[-1].seq + MOST_LATER)
    ends = Q(kind=EventKind.TOOL_RESULT) | Q(kind__in=[EventKind.MESSAGE, EventKind.THOUGHT], data__has_key="text")
    found = Event.objects.filter(seqs & ends, run=run, data__id__in=list(begun.values())[-MOST_BEGUN:]).order_by("seq")
    return list(found[:MOST_BEGUN])
