"""Text of agents, users and repositories as HTML: nothing of it works, nothing of it hides."""

from __future__ import annotations

import pytest

from tasks.web import shown


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


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (0, "0:00"), (65.9, "1:05"), (3723, "1:02:03"), (-1, "0:00")])
def test_durations(seconds: float | None, text: str) -> None:
    assert shown.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.04, "0.0 s"), (4.83, "4.8 s"), (59.4, "59 s"), (251, "4 min 11 s"), (7500, "2 h 5 min")],
)
def test_how_long_something_took(seconds: float | None, text: str) -> None:
    assert shown.took(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (812, "812"), (4_200, "4.2k"), (4_000, "4k"), (48_100, "48k"), (1_300_000, "1.3M")])
def test_many_of_something(number: float, text: str) -> None:
    assert shown.count(number) == text
