"""Untrusted text as HTML: everything escaped, invisible and reordering characters marked."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

MOST_SHOWN = 20_000  # characters of one text in the log; "Show all" fetches the rest

# What a reader cannot see, or what makes text look like other text: C0 and C1 controls, bidirectional controls,
# zero-width characters (not the joiners, which emoji and many scripts need), line separators, tags.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)


def _mark(match: re.Match[str]) -> str:
    code = ord(match[0])
    name = unicodedata.name(match[0], "control character").lower()
    label = f"\\x{code:02x}" if code < 256 else f"U+{code:04X}"
    return f'<span class="mark" title="{name}">{label}</span>'


def text_html(text: str) -> SafeString:
    """Text as safe HTML in which nothing hides. Line breaks and tabs stay as they are."""
    return mark_safe(_HIDDEN.sub(_mark, escape(text)))  # noqa: S308 (escaped; marks are ours)


def name_html(text: str) -> SafeString:
    """A name on one line (a path, a title): line breaks and tabs are marked too."""
    return mark_safe(re.sub(r"[\n\t]", _mark, text_html(text)))  # noqa: S308 (as above)


def bare(text: str) -> str:
    """Text without what hides, for places that take no markup (a window's title). Still to be escaped."""
    return _HIDDEN.sub("", text)


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
