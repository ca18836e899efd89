"""A run's events in pages, and one event in whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from tasks.models import Attachment, EventKind, Run, Turn
from tasks.running import events
from tasks.web import log
from tasks.web.shown import MOST_SHOWN

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]


def test_events_that_come_while_the_newest_page_is_made_are_left_to_the_socket(make_run: MakeRun) -> None:
    """A page that offers "newer events" does not follow by itself."""
    run = make_run()
    events.append(run.pk, EventKind.LOG, {"stream": "stdout", "text": "one\n"})
    run.refresh_from_db()
    page = log.newest(run)
    events.append(run.pk, EventKind.LOG, {"stream": "stdout", "text": "two\n"})
    run.refresh_from_db()
    assert (page.last, page.has_newer) == (1, False)
    assert log.before(run, 2).has_newer


def test_what_begins_on_a_page_is_completed_from_beyond_it(make_run: MakeRun) -> None:
    run = make_run()
    events.append(run.pk, EventKind.TOOL_CALL, {"id": "call", "tool": "read"})
    events.append(run.pk, EventKind.MESSAGE, {"id": "text", "chunk": "The "})
    events.append(run.pk, EventKind.MESSAGE, {"id": "text", "text": "The end"})
    events.append(run.pk, EventKind.TOOL_RESULT, {"id": "call", "output": "done"})
    run.refresh_from_db()
    (call,) = log.before(run, 3).pieces
    assert call.result is not None
    text, result = log.after(run, 2).pieces
    assert (text.html, result.call) == ("<p>The end</p>\n", None)


def test_a_page_takes_the_same_few_queries_whatever_is_on_it(
    make_run: MakeRun, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    run = make_run()
    for number in range(40):
        turn = Turn.objects.create(run=run, number=number + 2, prompt="again", author=run.task.owner)
        events.append(run.pk, EventKind.STATUS, {"status": "starting"}, turn_id=turn.pk)
        events.append(run.pk, EventKind.TOOL_CALL, {"id": f"c{number}"}, turn_id=turn.pk)
    run.refresh_from_db()
    with django_assert_max_num_queries(4):
        page = log.before(run, 81)
    assert len(page.pieces) == 120


def test_a_page_is_bounded_in_size_whatever_its_events_hold(make_run: MakeRun) -> None:
    run = make_run()
    for number in range(80):
        events.append(run.pk, EventKind.TOOL_RESULT, {"id": str(number), "diffs": [{"path": "x", "old": "a" * 9000, "new": "b" * 9000}]})
    run.refresh_from_db()
    assert 10 < len(log.newest(run).pieces) < 40


def test_a_prompt_comes_with_its_author_and_its_attachments(make_run: MakeRun, as_alice: Client) -> None:
    run = make_run()
    turn = run.turns.get()
    file = Attachment.objects.create(owner=run.task.owner, name="<shot>.png", content_type="image/png", content=b"x", size=1)
    turn.attachments.add(file)
    events.append(run.pk, EventKind.STATUS, {"status": "starting"}, turn_id=turn.pk)
    run.refresh_from_db()
    (prompt, _) = log.newest(run).pieces
    assert (prompt.author, prompt.attachments) == ("alice", [file])
    assert b"&lt;shot&gt;.png" in as_alice.get(f"/runs/{run.pk}/events").content


# --- one event in whole ---------------------------------------------------------------------------------------------------

LONG = "<b>" + "x" * MOST_SHOWN + "end"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (EventKind.LOG, {"stream": "stdout", "text": LONG}),
        (EventKind.MESSAGE, {"text": LONG}),
        (EventKind.TOOL_CALL, {"tool": "other", "input": LONG}),
        (EventKind.TOOL_RESULT, {"output": LONG}),
        (EventKind.ERROR, {"text": LONG}),
    ],
)
def test_show_all_gives_the_whole_event(make_run: MakeRun, as_alice: Client, kind: EventKind, data: dict[str, object]) -> None:
    run = make_run()
    seq = events.append(run.pk, kind, data)
    address = f"/runs/{run.pk}/events/{seq}"
    shown = as_alice.get(f"/runs/{run.pk}/events").content.decode()
    assert f'href="{address}"' in shown
    assert "end<" not in shown
    part = as_alice.get(address, headers={"HX-Request": "true"}).content.decode()
    assert "&lt;b&gt;xxx" in part
    assert "xend<" in part
    assert "<html" not in part
    page = as_alice.get(address).content.decode()
    assert "xend<" in page
    assert "<html" in page


def test_a_long_prompt_is_shown_in_whole_too(make_run: MakeRun, as_alice: Client) -> None:
    run = make_run()
    run.turns.update(prompt=LONG)
    seq = events.append(run.pk, EventKind.STATUS, {"status": "starting"}, turn_id=run.turns.get().pk)
    assert b"xend<" in as_alice.get(f"/runs/{run.pk}/events/{seq}").content


def test_beyond_two_megabytes_the_raw_log_is_named(make_run: MakeRun, as_alice: Client) -> None:
    run = make_run()
    seq = events.append(run.pk, EventKind.LOG, {"stream": "stdout", "text": "x" * 2_100_000})
    part = as_alice.get(f"/runs/{run.pk}/events/{seq}", headers={"HX-Request": "true"}).content.decode()
    assert len(part) < 2_002_000
    assert "100,000 more characters" in part
    assert f"/runs/{run.pk}/events.jsonl" in part


def test_another_users_event_is_not_there(make_run: MakeRun, as_bob: Client) -> None:
    run = make_run()
    seq = events.append(run.pk, EventKind.LOG, {"stream": "stdout", "text": "x"})
    assert as_bob.get(f"/runs/{run.pk}/events/{seq}").status_code == 404


@pytest.mark.parametrize("seq", [0, 2, 10**30])
def test_an_event_that_is_not_there(make_run: MakeRun, as_alice: Client, seq: int) -> None:
    run = make_run()
    events.append(run.pk, EventKind.LOG, {"stream": "stdout", "text": "x"})
    assert as_alice.get(f"/runs/{run.pk}/events/{seq}").status_code == 404
