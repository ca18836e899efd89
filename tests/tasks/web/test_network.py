"""What a run tried to reach, on its page: newest first, counted, and a bounded look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tasks.models import EventKind, Run
from tasks.running import events
from tasks.web import network

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]


def attempt(run: Run, host: str, **fields: Any) -> None:
    data = {"at": 0.0, "method": "CONNECT", "host": host, "port": 443, "is_allowed": True, "reason": "", "bytes_up": 1, "bytes_down": 2}
    events.append(run.pk, EventKind.LOG, {"stream": "network", "text": "x", "attempt": data | {"count": 1} | fields})


def look(run: Run, before: int | None = None) -> network.Attempts:
    run.refresh_from_db()
    return network.attempts_of(run, before)


def test_attempts_are_shown_newest_first_and_counted(as_alice: Client, make_run: MakeRun) -> None:
    run = make_run()
    attempt(run, "pypi.org")
    events.append(run.pk, EventKind.LOG, {"stream": "stdout", "text": "between"})
    attempt(run, "<b>evil</b>.example", is_allowed=False, reason="It is not on the list.", count=7)
    attempt(run, "slow.example", reason="The other end hung up.")
    found = look(run)
    assert [one.place for one in found.tries] == ["slow.example:443", "<b>evil</b>.example:443", "pypi.org:443"]
    assert (found.allowed, found.refused, found.older, found.is_bounded) == (2, 7, 0, False)
    page = as_alice.get(f"{run.get_absolute_url()}?tab=network").content.decode()
    for text in ("2 allowed", "7 refused", "&lt;b&gt;evil", "× 7", "It is not on the list.", "no answer"):
        assert text in page
    assert "among the events" not in page


def test_one_looks_back_page_by_page_without_gap_or_double(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "LOOK_BACK", 20)
    monkeypatch.setattr(network, "MOST_ATTEMPTS", 4)
    run = make_run()
    for number in range(30):
        attempt(run, f"h{number}")
        events.append(run.pk, EventKind.LOG, {"stream": "stdout", "text": "between"})
    seen: list[str] = []
    before: int | None = None
    while True:
        found = look(run, before)
        assert found.last - found.first < 20
        seen += [one.place for one in found.tries]
        if not found.older:
            break
        before = found.older
    assert seen == [f"h{number}:443" for number in reversed(range(30))]


def test_a_look_among_many_events_says_that_it_is_bounded(as_alice: Client, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "LOOK_BACK", 5)
    run = make_run()
    attempt(run, "early.example")
    for _ in range(9):
        events.append(run.pk, EventKind.LOG, {"stream": "stdout", "text": "x"})
    page = as_alice.get(f"{run.get_absolute_url()}?tab=network").content.decode()
    assert "Among the events 6 to 10 there are none." in page
    assert "until=6" in page
    page = as_alice.get(f"{run.get_absolute_url()}?tab=network&until=6").content.decode()
    assert "early.example:443" in page


def test_odd_data_is_no_error(make_run: MakeRun) -> None:
    run = make_run()
    for data in ({"attempt": {}}, {"attempt": None}, {"attempt": {"host": "::1", "port": 1}}, {}):
        events.append(run.pk, EventKind.LOG, {"stream": "network", "text": "x"} | data)
    assert [one.place for one in look(run).tries] == ["[::1]:1", "many hosts"]


def test_it_is_one_query_however_many_there_are(make_run: MakeRun) -> None:
    run = make_run()
    for number in range(30):
        attempt(run, f"h{number}")
    run.refresh_from_db()
    with CaptureQueriesContext(connection) as queries:
        network.attempts_of(run)
    assert len(queries) == 1
