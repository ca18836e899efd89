"""Untrusted text as HTML: everything escaped, and whatever a reader would not see, or would take for something else, marked."""

from __future__ import annotations

import re
import unicodedata

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

# C0 and C1 controls, bidirectional controls, zero-width characters (the joiners, which emoji and many scripts need, beside
# ASCII only), line separators, variation selectors that vary nothing, tags; and surrogates, which stand for bytes that are no UTF-8.
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ud800-\udfff\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    "|(?<=[\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?=[\x00-\x7f])"
    "|(?<=[\x00-\x22\x24-\x29\x2b-\x2f\x3a-\x7f\ufe00-\ufe0f])[\ufe00-\ufe0f]"
)


def mark_html(character: str) -> str:
    """A character that hides, by its number."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f'<span class="mark" title="a byte that is no UTF-8">\\x{code - 0xDC00:02x}</span>'
    name = unicodedata.name(character, "control character").lower()
    label = f"\\x{code:02x}" if code < 256 else f"U+{code:04X}"
    return f'<span class="mark" title="{name}">{label}</span>'


def _mark(match: re.Match[str]) -> str:
    return mark_html(match[0])


def has_hidden(text: str) -> bool:
    return HIDDEN.search(text) is not None


def text_html(text: str) -> SafeString:
    """Text as safe HTML in which nothing hides. Line breaks and tabs stay as they are."""
    return mark_safe(HIDDEN.sub(_mark, escape(text)))  # noqa: S308 (escaped; marks are ours)


def name_html(text: str) -> SafeString:
    """A name on one line (a path, a title): line breaks and tabs are marked too."""
    return mark_safe(re.sub(r"[\n\t]", _mark, text_html(text)))  # noqa: S308 (as above)


def bare(text: str) -> str:
    """Text without what hides, for places that take no markup (a window's title). Still to be escaped."""
    return HIDDEN.sub("", text)
