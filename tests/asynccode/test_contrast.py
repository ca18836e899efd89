"""Every pair of colours that stand on one another can be told apart, in light and in dark (WCAG 2.2 AA)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tasks.templatetags.shown import PAPER

TOKENS = (Path(__file__).parents[2] / "static/css/tokens.css").read_text()
TEXT, EDGE = 4.5, 3.0
GROUNDS = ("paper", "panel", "well")
CODE = tuple(f"code-{kind}" for kind in ("keyword", "string", "comment", "function", "type", "number", "attribute"))
PAIRS = [  # (foreground, background, the least contrast)
    *((ink, ground, TEXT) for ink in ("ink", "ink-2", "ink-3", "accent", "green", "red", "amber") for ground in GROUNDS),
    ("paper", "ink", TEXT),  # the primary button, the problem in the corner
    *((ink, "accent-soft", TEXT) for ink in ("ink", "ink-2", "accent")),
    *((tone, f"{tone}-soft", TEXT) for tone in ("green", "red", "amber")),
    *(("ink", f"{tone}-soft", TEXT) for tone in ("green", "red", "amber")),  # a patch's lines
    *((ink, ground, TEXT) for ink in ("ink", *CODE) for ground in (*GROUNDS, "green-soft", "red-soft", "green-mark", "red-mark")),
    *(("edge", ground, EDGE) for ground in ("paper", "panel")),  # what is typed into
    *(("accent", ground, EDGE) for ground in (*GROUNDS, "accent-soft")),  # the ring around what has the focus
]


def colours(scheme: str) -> dict[str, str]:
    """Token to "#rrggbb"."""
    found = re.findall(r"--([a-z0-9-]+): light-dark\((#[0-9a-f]+), (#[0-9a-f]+)\)", TOKENS)
    return {name: _six(light if scheme == "light" else dark) for name, light, dark in found}


def _six(colour: str) -> str:
    return colour if len(colour) == 7 else "#" + "".join(2 * digit for digit in colour[1:])


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_measured_as_the_standard_says() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_pair_can_be_read(scheme: str) -> None:
    colour = colours(scheme)
    weak = {
        f"{front} on {back}": round(found, 2) for front, back, least in PAIRS if (found := contrast(colour[front], colour[back])) < least
    }
    assert not weak


def test_every_colour_is_in_a_pair_or_only_decorates() -> None:
    named = {name for front, back, _ in PAIRS for name in (front, back)}
    terminals = {f"ansi-{number}" for number in range(16)}  # tests/tasks/web/test_shown_ansi.py measures these
    assert set(colours("light")) - named - terminals == {"line", "line-strong"}


def test_no_other_file_names_a_colour() -> None:
    for path in sorted(Path(__file__).parents[2].glob("static/css/*.css")):
        css = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        if path.name not in ("tokens.css", "admin.css"):  # Django's admin has an --accent of its own
            assert not re.findall(r"#[0-9a-f]{3,8}\b(?=[^{]*;)|\b(?:rgb|hsl|oklch)\((?!0 0 0)", css), path.name


def test_the_browsers_own_parts_are_painted_as_the_page_is() -> None:
    assert {scheme: colours(scheme)["paper"] for scheme in ("light", "dark")} == PAPER
