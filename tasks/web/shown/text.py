"""Figures and texts of others in the words and lengths that pages have room for."""

from __future__ import annotations

import json
from typing import Any

MOST_SHOWN = 20_000  # characters of one text in the log; "Show all" fetches the rest


def cut(text: str, most: int = MOST_SHOWN) -> str:
    left = len(text) - most
    return text if left <= 0 else f"{text[:most]}\n… {left:,} more characters; the raw log has them."


def duration(seconds: float | None) -> str:
    """0:07, 12:03, 1:02:03; "" when nothing has begun."""
    if seconds is None:
        return ""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def took(seconds: float | None) -> str:
    """How long something took: 0.1 s, 12 s, 4 min 11 s, 2 h 5 min; "" when that is not known."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def count(number: float) -> str:
    """Many of something, roughly: 812, 4.2k, 48k, 1.3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{letter}" if number < 10 * size and round(number / size, 1) % 1 else f"{number / size:.0f}{letter}"
    return f"{number:.0f}"


def string(value: Any) -> str:
    """What stands in JSON where a text should: the text, nothing for null, else JSON on lines of its own."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    try:
        return json.dumps(value, ensure_ascii=False, indent=2)
    except RecursionError:
        return "(nested too deep to be shown; the raw log has it)"


def number(value: Any) -> float | None:
    """What stands in JSON where an amount should; None for what is none, or none that can be meant."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12 else None
