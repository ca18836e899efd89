"""Output of programs: as a terminal would leave it, in colours that can be read."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from tasks.web import shown
from tasks.web.shown.ansi import PLAIN, Terminal, nearest, styled


@pytest.mark.parametrize(
    ("output", "left"),
    [
        ("\x1b]8;;https://evil.example\x07link\x1b]8;;\x07", "link"),
        ("\x1b]0;title\x1b\\text", "text"),
        ("\x1bPsecret\x1b\\after", "after"),
        ("\x1b(Bplain\x1b7", "plain"),
        ("\x1b[2J\x1b[10;3Hcursor\x1b[?25l", "cursor"),
        ("half \x1b[", "half "),
        ("alone \x1b", 'alone <span class="mark" title="control character">\\x1b</span>'),
        ("<b>", "&lt;b&gt;"),
        ("\x1b[31m<b>\x1b[0m", '<span class="ink-1">&lt;b&gt;</span>'),
    ],
)
def test_other_escapes_are_taken_out(output: str, left: str) -> None:
    assert shown.log_html(output) == left


@pytest.mark.parametrize(
    ("output", "left"),
    [
        ("10 %\r50 %\r100 %\nend\r\n", "100 %\nend"),
        ("waiting\rdone", "doneing"),
        ("waiting\r\x1b[Kdone", "done"),
        ("abc\r\n", "abc"),
        ("abc\r", "abc"),
        ("abc\x1b[2K\rx", "x  "),
        ("\x1b[31mred\x1b[0m\rR", 'R<span class="ink-1">ed</span>'),
    ],
)
def test_carriage_returns_write_over_a_line(output: str, left: str) -> None:
    assert shown.log_html(output) == left


@pytest.mark.parametrize(
    ("codes", "names"),
    [
        ("31", "ink-1"),
        ("1;32", "ink-2 bold"),
        ("94", "ink-12"),
        ("3;4;9", "italic underlined struck"),
        ("2", "dim"),
        ("41", "ground-1"),
        ("32;103", "ground-11"),
        ("7", "ground-ink"),
        ("7;31", "ground-1"),
        ("38;5;9", "ink-9"),
        ("38;5;196", "ink-9"),
        ("38;5;232", "ink-0"),
        ("38;2;250;250;250", "ink-15"),
        ("38:2::0:200:0;1", "ink-2 bold"),
        ("48;2;0;0;238", "ground-4"),
        ("4:3", "underlined"),
        ("31;0", ""),
        ("31;39", ""),
        ("1;22;3;23;4;24;7;27;9;29;41;49", ""),
        ("38;5;999", ""),
        ("38", ""),
        ("1234567890", ""),
        ("9" * 5000, ""),
    ],
)
def test_colours_and_looks(codes: str, names: str) -> None:
    html = shown.log_html(f"\x1b[{codes}mx\x1b[0my")
    assert html == (f'<span class="{names}">x</span>y' if names else "xy")


def test_colours_go_on_in_the_next_lines_of_a_stream() -> None:
    terminal = Terminal()
    assert terminal.html("\x1b[31mone\n") == '<span class="ink-1">one</span>'
    assert terminal.html("two\x1b[0m\n") == '<span class="ink-1">two</span>'
    assert terminal.html("three\n") == "three"


def test_a_huge_line_is_cut_and_says_so() -> None:
    html = shown.log_html("x" * (shown.MOST_SHOWN + 1234))
    assert len(html) < shown.MOST_SHOWN + 100
    assert "1,234 more characters" in html


@given(st.text(st.sampled_from("\x1b\x9b[]0123456789;:mK\r\n\tab<&\"'\x07\\P")))
def test_whatever_is_written_nothing_of_it_works(text: str) -> None:
    html = shown.log_html(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x9b]", html)
    assert not re.sub(r'<span class="[a-z0-9 -]*"(?: title="[a-z ]*")?>|</span>', "", html).count("<")


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_every_colour_becomes_one_of_sixteen(red: int, green: int, blue: int) -> None:
    assert styled(PLAIN, f"38;2;{red};{green};{blue}").ink == nearest(red, green, blue) in range(16)


# --- contrast -----------------------------------------------------------------------------------------------------------


def luminance(color: str) -> float:
    digits = color.lstrip("#")
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_every_colour_can_be_read_on_every_ground() -> None:
    css = (Path(settings.BASE_DIR) / "static/css/tokens.css").read_text()
    tokens = {name: (light, dark) for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#\w+), (#\w+)\)", css)}
    inks = [f"ansi-{number}" for number in range(16)]
    for ink, ground, theme in product([*inks, "ink", "ink-3"], ["paper", "panel", "well"], [0, 1]):
        assert contrast(tokens[ink][theme], tokens[ground][theme]) >= 4.5, (ink, ground, theme)
