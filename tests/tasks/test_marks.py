"""Nothing hides in what others wrote."""

import pytest

from tasks.marks import bare, name_html, text_html


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("\0", "\\x00"),
        ("\x1b", "\\x1b"),
        ("\r", "\\x0d"),
        ("\u202e", "U+202E"),
        ("\u200b", "U+200B"),
        ("\ufeff", "U+FEFF"),
        ("\U000e0041", "U+E0041"),
        ("\U000e0100", "U+E0100"),  # variation selectors carry bytes that nobody sees
        (b"\xff".decode(errors="surrogateescape"), "\\xff"),
        ("\ud800", "U+D800"),
    ],
)
def test_what_cannot_be_seen_is_marked(text: str, label: str) -> None:
    html = text_html(f"a{text}b")
    assert f">{label}</span>" in html
    assert text not in html
    html.encode()
    assert bare(f"a{text}b") == "ab"


@pytest.mark.parametrize("text", ["👩\u200d💻", "क्\u200dष", "❤\ufe0f", "1\ufe0f\u20e3", "a\tb\nc"])
def test_what_scripts_and_emoji_need_stays(text: str) -> None:
    assert text_html(text) == text


@pytest.mark.parametrize("text", ["ad\u200dmin", "x\ufe01", "❤\ufe0f\ufe01"])
def test_and_is_marked_where_nothing_needs_it(text: str) -> None:
    assert "U+" in text_html(text)


def test_html_is_escaped_and_names_stay_on_one_line() -> None:
    assert text_html("<b>&\"'") == "&lt;b&gt;&amp;&quot;&#x27;"
    assert "\n" not in name_html("a\nb")
