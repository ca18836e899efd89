"""A run's events by the API: every page without gap or double, and bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks.api import events
from tasks.models import Event, Run
from tests.tasks.api.conftest import Program

pytestmark = pytest.mark.django_db


@pytest.fixture
def log(make_run: Callable[..., Run]) -> Callable[..., Run]:
    """A run with so many events."""

    def make(count: int, **data: Any) -> Run:
        run = make_run(status="running", next_seq=count + 1)
        turn = run.turns.get()
        Event.objects.bulk_create(
            Event(run=run, seq=seq, turn=turn, kind="log", data={"stream": "stdout", "text": f"{seq}"} | data, at=timezone.now())
            for seq in range(1, count + 1)
        )
        return run

    return make


def test_an_event_tells_what_happened_in_which_turn(alices: Program, log: Callable[..., Run]) -> None:
    said = alices.get(f"/runs/{log(1).pk}/events").body
    event = said["items"][0]
    assert event.pop("at").endswith("Z")
    assert event == {"seq": 1, "turn": 1, "kind": "log", "data": {"stream": "stdout", "text": "1"}}
    assert (said["last"], said["next"]) == (1, None)


def test_pages_follow_each_other_without_gap(alices: Program, log: Callable[..., Run]) -> None:
    address: str | None = f"/runs/{log(57).pk}/events?limit=25"
    seen, pages = [], 0
    while address:
        said = alices.get(address).body
        seen += [event["seq"] for event in said["items"]]
        address, pages = said["next"], pages + 1
    assert (seen, pages, said["last"]) == (list(range(1, 58)), 3, 57)


def test_after_the_end_there_is_nothing_yet(alices: Program, log: Callable[..., Run]) -> None:
    assert alices.get(f"/runs/{log(3).pk}/events?after=3").body == {"items": [], "last": 3, "next": None}


def test_a_page_is_bounded_in_bytes_but_holds_one_event_at_least(
    alices: Program, log: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MOST_CHARACTERS", 10_000)
    run = log(30, text="x" * 3000)
    first = alices.get(f"/runs/{run.pk}/events").body
    assert (len(first["items"]), first["next"] is not None) == (3, True)
    monkeypatch.setattr(events, "MOST_CHARACTERS", 10)
    assert [event["seq"] for event in alices.get(f"/runs/{run.pk}/events?after=3").body["items"]] == [4]


def test_a_page_asks_a_bounded_number_of_times(alices: Program, log: Callable[..., Run]) -> None:
    run = log(1500)
    with CaptureQueriesContext(connection) as asked:
        assert len(alices.get(f"/runs/{run.pk}/events?limit=1000").body["items"]) == 1000
    assert len(asked) <= 12
