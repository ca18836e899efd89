"""Events as the pieces of the log: what belongs together is one piece, and no event breaks a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from django.template.loader import render_to_string
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.models import Event, EventKind, RunStatus, Turn
from tasks.web import shown
from tasks.web.shown import Shown

START = datetime(2026, 1, 1, tzinfo=UTC)


def event(kind: str, seq: int = 7, *, at: float = 0, turn: int = 3, **data: object) -> Event:
    return Event(run_id=1, seq=seq, turn_id=turn, kind=kind, data=data, at=START + timedelta(seconds=at))


def show(*events: Event, status: str = RunStatus.SUCCEEDED, later: Sequence[Event] = ()) -> list[Shown]:
    return shown.show(events, {3: Turn(pk=3, status=status)}, later)


def html_of(*pieces: Shown) -> str:
    return render_to_string("tasks/events.html", {"page": {"pieces": pieces, "run_id": 1}})


def text_of(*pieces: Shown) -> str:
    return " ".join(re.sub("<[^>]*>", " ", html_of(*pieces)).split())


@pytest.mark.parametrize(
    ("data", "look", "text"),
    [
        ({"status": "succeeded"}, "divider", "Succeeded"),
        ({"status": "errored", "error": "No <disk>."}, "error", "Errored No &lt;disk&gt;."),
        ({"stage": "setup"}, "divider", "Running the setup script"),
        ({"step": "setup", "ended": {"reason": "exit", "code": 0, "signal": None, "seconds": 1.24}}, "note", "Setup done after 1.2 s"),
        (
            {"step": "agent", "ended": {"reason": "exit", "code": 3, "seconds": 1}},
            "error",
            "Error Agent ended with exit code 3 after 1.0 s",
        ),
        (
            {"step": "agent", "ended": {"reason": "silence", "code": None, "seconds": 90}},
            "error",
            "Error Agent ended with silence after 1 min 30 s",
        ),
        ({"step": "agent", "ended": {"reason": "stop", "signal": 15}}, "error", "Error Agent was ended by signal 15 (stop)"),
        ({"patch": "final", "files": 1, "additions": 2, "deletions": 0}, "patch", "Patch: 1 file, +2 −0"),
        ({"patch": "checkpoint", "files": 3, "additions": 12, "deletions": 3}, "patch", "Checkpoint: 3 files, +12 −3"),
        ({"patch": "checkpoint", "files": 0}, "patch", "Checkpoint: no changes"),
        (
            {"prepared": {"at": "2026-11-24T14:02:33.5+00:00", "seconds": 42.3}},
            "note",
            "Setup: prepared environment of 24 November 2026, 14:02 UTC; saved 42 s",
        ),
        ({"notice": "The <key> is inside."}, "notice", "The &lt;key&gt; is inside."),
        ({"prepared": {"at": "never", "seconds": "<b>"}}, "note", "Setup: prepared environment"),
        ({"something": "new"}, "note", "{ &quot;something&quot;: &quot;new&quot; }"),
    ],
)
def test_status_events_are_sentences(data: dict[str, Any], look: str, text: str) -> None:
    (piece,) = show(event("status", **data))
    assert piece.look == look
    assert text_of(piece).removeprefix("00:00:00 ") == text


def test_a_stage_says_how_long_it_took_once_the_next_has_begun() -> None:
    first, second = show(event("status", 1, stage="setup"), event("status", 2, at=4.2, stage="agent"))
    assert (first.took, second.took) == ("4.2 s", "")


# --- tools ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"tool": "read", "title": "Read x.py", "locations": [{"path": "src/x.py", "line": 41}]}, "Read src/x.py:41"),
        ({"tool": "edit", "title": "Edit", "locations": [{"path": "a"}, {"path": "b"}, {"path": "c"}]}, "Edit a and 2 more"),
        ({"tool": "delete", "title": "Delete `old.py`"}, "Delete old.py"),
        ({"tool": "move", "title": "Move", "locations": [{"path": "a"}, {"path": "b"}]}, "Move a → b"),
        ({"tool": "search", "title": "grep", "input": {"pattern": "x+"}}, "Search x+"),
        ({"tool": "execute", "title": "Run tests", "input": {"command": ["pytest", "-q"]}}, "Run pytest -q"),
        ({"tool": "execute", "input": "ls\nrm x"}, "Run ls"),
        ({"tool": "execute", "title": "`make check`"}, "Run make check"),
        ({"tool": "think", "title": "Think about it"}, "Think about it"),
        ({"tool": "fetch", "input": {"url": "https://x.org"}}, "Fetch https://x.org"),
        ({"tool": "other", "title": "mcp__issue"}, "Tool mcp__issue"),
        ({}, "Tool without a name"),
        ({"tool": "edit", "title": "a\u202eb\nc"}, "Edit a U+202E b"),
    ],
)
def test_a_call_is_one_line(data: dict[str, Any], line: str) -> None:
    html = html_of(*show(event("tool_call", **data)))
    summary = re.search("<summary>(.*?)</summary>", html, re.DOTALL)
    assert summary
    assert " ".join(re.sub("<[^>]*>", " ", summary[1]).split()).startswith(line)


def test_a_call_has_its_result_on_its_line() -> None:
    (piece,) = show(
        event("tool_call", 1, id="a", tool="execute", input="pytest"),
        event("tool_result", 2, at=4.8, id="a", is_error=True, exit_code=1, output="\x1b[31mfailed\x1b[0m <b>"),
    )
    assert piece.result
    assert (piece.result.failure, piece.result.time) == ("exit 1", "4.8 s")
    html = html_of(piece)
    assert '<span class="ink-1">failed</span> &lt;b&gt;' in html
    assert "data-has-result" in html


def test_what_a_result_says_of_its_time_goes_before_the_clock() -> None:
    (piece,) = show(event("tool_call", 1, id="a"), event("tool_result", 2, at=9, id="a", seconds=0.25))
    assert piece.result
    assert piece.result.time == "0.2 s"


def test_results_go_to_the_calls_of_their_own_turn() -> None:
    call, other = show(event("tool_call", 1, id="item_1"), event("tool_result", 2, turn=4, id="item_1"))
    assert call.result is None
    assert other.call is None


def test_a_result_whose_call_is_elsewhere_is_a_line_of_its_own() -> None:
    (piece,) = show(event("tool_result", id='x"]<', is_error=True, output="no"))
    html = html_of(piece)
    assert 'data-result-of="3:x&quot;]&lt;"' in html
    assert "failed" in html


def test_a_call_takes_its_result_from_beyond_the_page() -> None:
    (piece,) = show(event("tool_call", 1, id="a"), later=[event("tool_result", 900, at=2, id="a")])
    assert piece.result
    assert piece.result.time == "2.0 s"


def test_a_call_runs_only_as_long_as_its_turn() -> None:
    assert "data-open" in html_of(*show(event("tool_call", id="a"), status=RunStatus.RUNNING))
    html = html_of(*show(event("tool_call", id="a"), status=RunStatus.FAILED))
    assert "data-open" not in html
    assert "no result" in html


def test_a_result_shows_what_changed_in_small() -> None:
    old = "".join(f"line {number}\n" for number in range(1, 21))
    new = old.replace("line 10\n", "line <ten>\nand more\n")
    (piece,) = show(event("tool_call", 1, id="a"), event("tool_result", 2, id="a", diffs=[{"path": "x.py", "old": old, "new": new}]))
    assert piece.result
    (diff,) = piece.result.diffs
    assert (diff.additions, diff.deletions, diff.is_new, diff.is_cut) == (2, 1, False, False)
    assert re.sub("<[^>]*>", "", diff.html).splitlines() == [
        *("@@ 7 @@", " line 7", " line 8", " line 9", "-line 10", "+line &lt;ten&gt;", "+and more", " line 11", " line 12", " line 13")
    ]


@pytest.mark.parametrize(
    ("old", "new", "figures"), [(None, "a\nb\n", (2, 0)), ("a\nb\n", "", (0, 2)), ("a\n", "a\n", (0, 0)), ("", "", (0, 0))]
)
def test_new_emptied_and_equal_files(old: str | None, new: str, figures: tuple[int, int]) -> None:
    (piece,) = show(event("tool_result", diffs=[{"path": "x", "old": old, "new": new}]))
    assert piece.result
    assert (piece.result.additions, piece.result.deletions) == figures
    assert piece.result.diffs[0].is_new == (old is None)


def test_files_that_are_costly_to_compare_are_shown_as_replaced() -> None:
    old, new = "same\nother\n" * 5_000, "other\nsame\n" * 5_000
    (piece,) = show(event("tool_result", diffs=[{"path": "x", "old": old, "new": new}]))
    assert piece.result
    (diff,) = piece.result.diffs
    assert diff.is_cut
    assert len(diff.html) < 40_000


def test_long_output_is_folded_and_very_long_output_is_fetched() -> None:
    assert "Show all 41 lines" in html_of(*show(event("tool_result", output="x\n" * 41)))
    html = html_of(*show(event("tool_result", output="x" * (shown.MOST_SHOWN + 1500))))
    assert "1,500 more characters" in html
    assert 'href="/runs/1/events/7"' in html


# --- messages, thoughts, plans ----------------------------------------------------------------------------------------------


def test_chunks_of_one_text_are_joined_as_they_are() -> None:
    (piece,) = show(event("message", 1, id="m", chunk="**The "), event("message", 2, id="m", chunk="storage**"), status=RunStatus.RUNNING)
    assert piece.html == "**The storage**"
    html = html_of(piece)
    assert 'data-chunk-of="3:m"' in html
    assert 'aria-live="off" aria-busy="true"' in html


def test_a_final_text_replaces_its_chunks() -> None:
    call, final = show(
        event("message", 1, id="m", chunk="The "), event("tool_call", 2, id="a"), event("message", 3, id="m", text="**The** end")
    )
    assert (call.look, final.html) == ("tool", "<p><strong>The</strong> end</p>\n")
    assert "aria-busy" not in html_of(final)


def test_chunks_whose_final_text_is_beyond_the_page_are_left_to_it() -> None:
    assert show(event("message", 1, id="m", chunk="The "), later=[event("message", 9, id="m", text="The end")]) == []


def test_texts_of_different_ids_are_told_apart() -> None:
    one, two = show(event("message", 1, id="m", chunk="a"), event("thought", 2, id="n", chunk="b"))
    assert (one.html, two.html) == ("a", "b")


def test_a_thought_says_how_long_it_took_where_that_is_known() -> None:
    pieces = show(event("thought", 1, id="t", chunk="Hm"), event("thought", 2, at=12, id="t", text="**Looking**\n\nfurther"))
    assert text_of(*pieces).startswith("Thought for 12 s Looking ")
    assert text_of(*show(event("thought", text="Hm"))).startswith("Thought Hm ")


def test_of_several_plans_the_last_is_open() -> None:
    steps = [{"content": "a", "status": "completed"}, {"content": "<b>", "status": "in_progress"}, {"content": "c", "status": "odd"}]
    first, last = show(event("plan", 1, entries=steps), event("plan", 2, entries=steps))
    assert (first.is_open, last.is_open) == (False, True)
    assert text_of(last) == "Plan, 1 of 3 done Done: a In progress: &lt;b&gt; To do: c"


# --- the rest -----------------------------------------------------------------------------------------------------------------


def test_an_error_says_its_class_and_what_to_do() -> None:
    data: dict[str, Any] = {"text": "402 <no>", "class": "credit", "advice": "Add credit."}
    (piece,) = show(event("error", **data))
    assert text_of(piece) == "00:00:00 Out of credit 402 &lt;no&gt; What to do: Add credit."


def test_usage_is_a_quiet_note() -> None:
    (piece,) = show(event("usage", input_tokens=41_200, output_tokens=6_900, cost_usd=0.71))
    assert (piece.look, piece.html) == ("note", "48k tokens · $0.71")
    assert show(event("usage")) == []


def test_refused_attempts_are_marked_with_a_word() -> None:
    allowed, refused = show(
        event("log", 1, stream="network", text="CONNECT pypi.org:443: 1 bytes up\n", attempt={"is_allowed": True}),
        event("log", 2, stream="network", text="Refused: CONNECT x.org:443. Not allowed.\n", attempt={"is_allowed": False}),
    )
    assert "refused" not in text_of(allowed)
    assert text_of(refused) == "00:00:00 refused CONNECT x.org:443. Not allowed."


def test_colours_go_on_within_a_stream_only() -> None:
    out, err, more = show(
        event("log", 1, stream="stdout", text="\x1b[31mred\n"),
        event("log", 2, stream="stderr", text="plain\n"),
        event("log", 3, stream="stdout", text="red\n"),
    )
    assert [out.html, err.html, more.html] == ['<span class="ink-1">red</span>', "plain", '<span class="ink-1">red</span>']


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(["<script>", '"><b>', "\x1b[31m<i>", "\u202e"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
WORDS = (
    "id text chunk title tool input locations is_error output exit_code seconds diffs entries stream attempt class advice "
    "status stage step ended patch files additions deletions cost_usd input_tokens error"
)
names = st.sampled_from(WORDS.split())
TOOLS = "read edit delete move search execute think fetch other"
tools = st.sampled_from(TOOLS.split())
known = st.fixed_dictionaries(
    {},
    optional={
        "tool": tools,
        "locations": st.lists(st.fixed_dictionaries({"path": json_values, "line": json_values}), max_size=2),
        "diffs": st.lists(st.fixed_dictionaries({"path": json_values, "old": json_values, "new": json_values}), max_size=2),
        "entries": st.lists(st.fixed_dictionaries({"content": json_values, "status": json_values}), max_size=2),
        "attempt": st.fixed_dictionaries({"is_allowed": json_values}),
        "ended": st.dictionaries(st.sampled_from(["reason", "code", "signal", "seconds"]), json_values),
        "stream": st.sampled_from(["stdout", "network"]),
    },
)


TAGS = "div details summary span p pre code time a b ul ol li svg use strong em s h3 h4 h5 h6 blockquote hr br table thead tbody tr th td"


class Tags(HTMLParser):
    """The tags of some HTML, and whether anything in it could do something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS.split(), tag
        assert not {name for name, _ in attrs if name.startswith("on") or name in ("style", "src")}
        if tag not in ("hr", "br", "use"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("hr", "br", "use"):
            assert self.open.pop() == tag


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(EventKind.values), st.dictionaries(names, json_values, max_size=5), known), max_size=4))
def test_whatever_an_event_holds_it_is_shown_and_does_nothing(rows: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> None:
    events = [event(kind, seq, **data | more) for seq, (kind, data, more) in enumerate(rows, 1)]
    html = html_of(*show(*events))
    tags = Tags()
    tags.feed(html)
    tags.close()
    assert not tags.open
    assert "\u202e" not in html
    for each in events:
        shown.whole(each, None)


@given(json_values)
def test_data_that_is_no_object_is_shown_too(data: Any) -> None:
    for kind in EventKind.values:
        row = event(kind)
        row.data = data
        html_of(*show(row))
