"""A run's events in pages, numbered by seq: bounded in number and in size, whatever a run has written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import F, Func, IntegerField, Prefetch, Q, QuerySet, RowRange, Sum, Window, prefetch_related_objects
from django.db.models.expressions import OrderBy
from django.db.models.functions import Coalesce, Least

from tasks.models import Attachment, Event, EventKind, Run, RunStatus, Turn
from tasks.web.shown import MOST_SHOWN, Shown, data_of, key_of, show, standings

MOST_EVENTS = 300
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
    return before(run, run.next_seq)


def before(run: Run, seq: int) -> LogPage:
    """The events just before `seq`."""
    end = min(seq, run.next_seq)
    events = _take(Event.objects.filter(run=run, seq__range=(end - MOST_EVENTS, end - 1)), F("seq").desc())
    return _page(run, events[::-1], seq - 1)


def after(run: Run, seq: int) -> LogPage:
    """The events just after `seq`."""
    events = _take(Event.objects.filter(run=run, seq__range=(seq + 1, seq + MOST_EVENTS)), F("seq").asc())
    return _page(run, events, seq)


def _take(events: QuerySet[Event], order: OrderBy) -> list[Event]:
    """The first of these events, up to a size. One may hold a megabyte, so the database goes by what they take there, compressed, and
    hands out no more than that."""
    stored = Least(Func(F("data"), function="pg_column_size", output_field=IntegerField()), MOST_SHOWN)
    before = Window(Sum(stored), order_by=order, frame=RowRange(end=-1))
    taken: list[Event] = []
    characters = 0
    for event in events.annotate(before=Coalesce(before, 0)).filter(before__lt=MOST_CHARACTERS).order_by(order):
        taken.append(event)
        characters += _size(event.data)
        if characters >= MOST_CHARACTERS:
            break
    return taken


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


def load_turns(run: Run) -> None:
    """All turns of a run at once, in their order with their authors, without what may be long."""
    turns = Turn.objects.order_by("number").select_related("author").defer("prompt", "outcome", "answer", "end_text")
    prefetch_related_objects([run], Prefetch("turns", turns))


def turns_of(run: Run, events: Sequence[Event]) -> dict[int, Turn]:
    """The turns of a run by id: with the prompt and the attachments (without their content) where one of the events shows them."""
    load_turns(run)
    turns = {turn.pk: turn for turn in run.turns.all()}
    starting = {event.turn_id for event in events if event.kind == EventKind.STATUS and data_of(event).get("status") == RunStatus.STARTING}
    if shown := {pk for pk in turns if pk in starting}:
        for pk, prompt in Turn.objects.filter(pk__in=shown).values_list("pk", "prompt"):
            turns[pk].prompt = prompt
        prefetch_related_objects([turns[pk] for pk in shown], Prefetch("attachments", Attachment.objects.defer("content")))
    return turns


def _page(run: Run, events: list[Event], last: int) -> LogPage:
    """`last` is where a page without events ends. As events are numbered without a gap, nothing has to be asked of those around it."""
    last = events[-1].seq if events else last
    later = _later(run, events) if last < run.next_seq - 1 else []
    has_turns = any(event.turn_id for event in events)
    turns = turns_of(run, events) if has_turns else {}
    return LogPage(
        run_id=run.pk,
        pieces=show(events, turns, later, agent=run.agent, standings=standings(run, turns.values())),
        first=(first := events[0].seq if events else last + 1),
        last=last,
        has_status=any(event.kind == EventKind.STATUS for event in events),
        has_older=1 < first <= run.next_seq,
        has_newer=last < run.next_seq - 1,
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
