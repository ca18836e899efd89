"""Text of agents, users and repositories as HTML: nothing of it works, nothing of it hides."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tasks.models import Event
from tasks.web import shown


def event(kind: str, **data: object) -> Event:
    return Event(run_id=1, seq=7, turn_id=3, kind=kind, data=data, at=datetime(2026, 1, 1, tzinfo=UTC))


def test_markup_is_escaped() -> None:
    assert shown.text_html("<script>&'\"") == "&lt;script&gt;&amp;&#x27;&quot;"


@pytest.mark.parametrize("character", ["\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\x00", "\x08", "\x7f", "\x9b", "\U000e0041"])
def test_what_cannot_be_seen_is_marked(character: str) -> None:
    html = shown.text_html(f"a{character}b")
    assert character not in html
    assert 'class="mark"' in html


def test_a_windows_title_is_without_them() -> None:
    assert shown.bare("a\u202e<b>") == "a<b>"


def test_joiners_of_emoji_and_scripts_stay() -> None:
    assert shown.text_html("👩\u200d💻 می\u200cخواهم") == "👩\u200d💻 می\u200cخواهم"


def test_lines_and_tabs_stay_in_text_and_are_marked_in_names() -> None:
    assert shown.text_html("a\n\tb") == "a\n\tb"
    assert "\n" not in shown.name_html("a\nb")
    assert "\t" not in shown.name_html("a\tb")


@pytest.mark.parametrize(
    ("output", "left"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;https://evil.example\x07link\x1b]8;;\x07", "link"),
        ("\x1b]0;title\x1b\\text", "text"),
        ("\x1bPsecret\x1b\\after", "after"),
        ("\x1b(Bplain\x1b7", "plain"),
        ("10 %\r50 %\r100 %\nend\r\n", "100 %\nend"),
        ("half \x1b[", "half "),
        ("alone \x1b", 'alone <span class="mark" title="control character">\\x1b</span>'),
    ],
)
def test_terminal_escapes_are_taken_out(output: str, left: str) -> None:
    assert shown.log_html(output) == left


def test_a_huge_line_is_cut_and_says_so() -> None:
    html = shown.log_html("x" * (shown.MOST_SHOWN + 1234))
    assert len(html) < shown.MOST_SHOWN + 100
    assert "1,234 more characters" in html


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (0, "0:00"), (65.9, "1:05"), (3723, "1:02:03"), (-1, "0:00")])
def test_durations(seconds: float | None, text: str) -> None:
    assert shown.duration(seconds) == text


@pytest.mark.parametrize(
    ("data", "look", "text"),
    [
        ({"status": "succeeded"}, "divider", "Succeeded"),
        ({"status": "errored", "error": "No <disk>."}, "error", "Errored. No &lt;disk&gt;."),
        ({"stage": "setup"}, "divider", "Running the setup script"),
        ({"step": "setup", "ended": {"reason": "exit", "code": 0, "signal": None, "seconds": 1.24}}, "note", "Setup done after 1.2 s"),
        ({"step": "agent", "ended": {"reason": "exit", "code": 3, "seconds": 1}}, "error", "Agent ended with exit code 3 after 1.0 s"),
        ({"step": "agent", "ended": {"reason": "silence", "code": None, "seconds": 9}}, "error", "Agent ended with silence after 9.0 s"),
        ({"patch": "final", "files": 1, "additions": 2, "deletions": 0}, "note", "Patch: 1 file, +2 −0"),
        ({"patch": "checkpoint", "files": 0}, "note", "Checkpoint: no changes"),
        ({"something": "new"}, "note", "{&quot;something&quot;: &quot;new&quot;}"),
    ],
)
def test_status_events_are_sentences(data: dict[str, object], look: str, text: str) -> None:
    (piece,) = shown.show(event("status", **data), {})
    assert (piece.look, piece.html) == (look, text)


def test_a_turn_begins_with_its_prompt() -> None:
    prompt, status = shown.show(event("status", status="starting"), {3: "rm -rf <dir>"})
    assert (prompt.look, prompt.html) == ("prompt", "rm -rf &lt;dir&gt;")
    assert status.html == "Starting"


@pytest.mark.parametrize("kind", ["tool_call", "tool_result", "plan", "usage", "message", "thought", "log", "error", "status"])
@pytest.mark.parametrize("data", [{}, {"text": None}, {"ended": {}}, {"patch": "final"}, {"status": ["odd"]}])
def test_odd_events_are_shown_all_the_same(kind: str, data: dict[str, object]) -> None:
    assert isinstance(shown.show(event(kind, **data), {}), list)


def test_a_patch_has_its_lines_told_apart() -> None:
    patch = (
        b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n--- <old>\n+new\n same\n\\ No newline at end of file\ndiff --git a/y b/y\n"
    )
    html = shown.patch_html(patch)
    assert '<span class="file">diff --git a/x b/x\n</span>' in html
    assert '<span class="quiet">--- a/x\n</span>' in html
    assert '<span class="removed">--- &lt;old&gt;\n</span>' in html
    assert '<span class="added">+new\n</span>' in html
    assert '<span class="file">diff --git a/y b/y\n</span>' in html


def test_a_patch_that_is_no_text_is_shown() -> None:
    assert "\ufffd" in shown.patch_html(b"@@ -1 +1 @@\n+\xff\xfe\x00")
