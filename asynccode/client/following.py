"""A run's events as they are written, whatever happens to the connection: it goes on after the last one that came."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from asynccode.client.api import FIRST_PAUSE_S, LONGEST_PAUSE_S, Api, Busy

PATIENCE_S = 300.0  # with a server that is away


@dataclass(frozen=True)
class Event:
    """As schemas.Event of the API."""

    data: dict[str, Any]


@dataclass(frozen=True)
class Lost:
    """The connection is gone; the next of what `follow` gives is from a new one."""

    why: str


@dataclass(frozen=True)
class End:
    """The run is over or waits, and all events were given."""

    status: str


def follow(api: Api, run: int, after: int = 0) -> Iterator[Event | Lost | End]:
    """Every event after a seq once and in order, then End. Unreachable when nothing was heard of the server for PATIENCE_S."""
    last, pause, heard_at = after, FIRST_PAUSE_S, time.monotonic()

    def heard(lines: Iterable[str]) -> Iterator[str]:
        nonlocal pause, heard_at
        for text in lines:
            yield text
            pause, heard_at = FIRST_PAUSE_S, time.monotonic()

    while True:
        try:
            with api.stream(f"/runs/{run}/events/stream", last) as lines:
                for name, data in messages(heard(lines)):
                    record = json.loads(data)
                    if name == "end":
                        yield End(str(record["status"]))
                        return
                    if record["seq"] > last:
                        last = record["seq"]
                        yield Event(record)
            lost = Busy(f"{api.server} ends the stream of run {run} before the run is over. Try again in a moment.", None)
        except Busy as error:
            lost = error
        if time.monotonic() - heard_at > PATIENCE_S:
            raise lost
        yield Lost(lost.message)
        time.sleep(pause if lost.seconds is None else min(lost.seconds, PATIENCE_S))
        pause = min(2 * pause, LONGEST_PAUSE_S)


def messages(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The (event, data) of a text/event-stream; one that is cut off does not count."""
    name, data = "", []
    for text in lines:
        if text:
            field, _, value = text.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)
            continue
        if data:
            yield name, "\n".join(data)
        name, data = "", []
