"""What a run's sandboxes tried to reach, newest first: a bounded look, however many events there are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.models import Event, EventKind, Run

LOOK_BACK = 5000  # events looked through at a time; there is no index of attempts
MOST_ATTEMPTS = 100  # of them on a page


@dataclass(frozen=True)
class Try:
    """One attempt, or `count` like ones. `place` is host:port; `is_failed`: allowed, but the other end did not answer."""

    seq: int
    at: datetime
    method: str
    place: str
    count: int
    is_allowed: bool
    reason: str
    bytes_up: int
    bytes_down: int

    @property
    def is_failed(self) -> bool:
        return self.is_allowed and bool(self.reason)


@dataclass(frozen=True)
class Attempts:
    """Attempts among the events `first` to `last`; `older` is the seq to look before for more, 0 when that is all.

    `allowed` and `refused` count single attempts among those events, shown or not.
    """

    tries: list[Try]
    first: int
    last: int
    older: int
    allowed: int
    refused: int

    @property
    def is_bounded(self) -> bool:
        """Whether there are earlier events that were not looked through."""
        return self.first > 1


def attempts_of(run: Run, before: int | None = None) -> Attempts:
    """The newest attempts before the event `before`, from the LOOK_BACK events before it."""
    end = min(before or run.next_seq, run.next_seq)
    first = max(1, end - LOOK_BACK)
    events = Event.objects.filter(run=run, seq__gte=first, seq__lt=end, kind=EventKind.LOG, data__stream="network")
    found = [_try(*row) for row in events.order_by("-seq").values_list("seq", "at", "data__attempt") if isinstance(row[2], dict)]
    shown = found[:MOST_ATTEMPTS]
    older = shown[-1].seq if len(found) > len(shown) else first
    return Attempts(
        tries=shown,
        first=first,
        last=end - 1,
        older=older if older > 1 else 0,
        allowed=sum(one.count for one in found if one.is_allowed),
        refused=sum(one.count for one in found if not one.is_allowed),
    )


def _try(seq: int, at: datetime, data: dict[str, Any]) -> Try:
    host, port = str(data.get("host") or ""), data.get("port") or ""
    return Try(
        seq=seq,
        at=at,
        method=str(data.get("method") or ""),
        place=(f"[{host}]:{port}" if ":" in host else f"{host}:{port}") if host else "many hosts",
        count=int(data.get("count") or 1),
        is_allowed=bool(data.get("is_allowed")),
        reason=str(data.get("reason") or ""),
        bytes_up=int(data.get("bytes_up") or 0),
        bytes_down=int(data.get("bytes_down") or 0),
    )
