"""A run's events in pages, numbered by seq: bounded in number and in size, whatever a run has written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from django.db.models import Prefetch, Q, QuerySet, prefetch_related_objects

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
    is_newest: bool = False  # it was the end when it was read; what came since, the socket tells

    @cached_property
    def has_older(self) -> bool:
        return self.first > 1 and Event.objects.filter(run=self.run_id, seq__lt=self.first).exists()

    @cached_property
    def has_newer(self) -> bool:
        return not self.is_newest and Event.objects.filter(run=self.run_id, seq__gt=self.last).exists()


def newest(run: Run) -> LogPage:
    run.refresh_from_db(fields=["next_seq"])
    return replace(before(run, run.next_seq), is_newest=True)


def before(run: Run, seq: int) -> LogPage:
    """The events just before `seq`."""
    events = _take(Event.objects.filter(run=run, seq__lt=seq).order_by("-seq"))[::-1]
    return _page(run, events, seq - 1)


def after(run: Run, seq: int) -> LogPage:
    """The events just after `seq`."""
    return _page(run, _take(Event.objects.filter(run=run, seq__gt=seq).order_by("seq")), seq)


def _take(events: QuerySet[Event]) -> list[Event]:
    """The first events, up to a number and a size; fetched in growing handfuls, since one may hold a megabyte."""
    taken: list[Event] = []
    characters, handful = 0, 16
    while len(taken) < MOST_EVENTS and characters < MOST_CHARACTERS:
        found = list(events[len(taken) : min(len(taken) + handful, MOST_EVENTS)])
        for event in found:
            taken.append(event)
            characters += _size(event.data)
            if characters >= MOST_CHARACTERS:
                return taken
        if len(found) < handful:
            break
        handful *= 2
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
    if not any(event.turn_id for event in events):
        return {}
    fields = ("run", "number", "kind", "mode", "generation", "reverts_to", "started_at")
    return standings(run, Turn.objects.filter(run=run).order_by("number").only(*fields))


def _page(run: Run, events: list[Event], last: int) -> LogPage:
    last = events[-1].seq if events else last
    later = _later(run, events) if last < run.next_seq - 1 else []
    return LogPage(
        run_id=run.pk,
        pieces=show(events, turns_of(events), later, agent=run.agent, standings=_standings(run, events)),
        first=events[0].seq if events else last + 1,
        last=last,
        has_status=any(event.kind == EventKind.STATUS for event in events),
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
