"""A run's events in pages, numbered by seq: bounded in number and in size, whatever a run has written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from django.db.models import QuerySet

from tasks.models import Event, EventKind, Run, Turn
from tasks.web.shown import MOST_SHOWN, Shown, show

MOST_EVENTS = 500
MOST_CHARACTERS = 400_000


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
            characters += min(len(str(event.data.get("text", ""))), MOST_SHOWN)
            if characters >= MOST_CHARACTERS:
                return taken
        if len(found) < handful:
            break
        handful *= 2
    return taken


def _page(run: Run, events: list[Event], last: int) -> LogPage:
    prompts = dict(Turn.objects.filter(pk__in={event.turn_id for event in events if event.turn_id}).values_list("pk", "prompt"))
    last = events[-1].seq if events else last
    return LogPage(
        run_id=run.pk,
        pieces=[piece for event in events for piece in show(event, prompts)],
        first=events[0].seq if events else last + 1,
        last=last,
        has_status=any(event.kind == EventKind.STATUS for event in events),
    )
