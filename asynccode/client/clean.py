"""Text of agents, repositories and servers, made harmless for a terminal: what it would obey, or a reader not see, is shown as a mark.

The rules are those of the pages (tasks/marks.py), which this cannot import.
"""

from __future__ import annotations

import re
import unicodedata

_JOINERS = "\u200c\u200d"  # emoji and many scripts need them, ASCII does not
_NEWLINE = re.compile(r"\r\n?")
# What terminals are told by programs: colors and the cursor (CSI), titles and links (OSC), other strings, and short commands.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]*[0-OQ-WYZ`-~])")


def clean(text: str) -> str:
    """The text with marks for all that hides or acts; line breaks and tabs stay."""
    if text.isprintable():
        return text
    return "".join(map(_seen, text, [" ", *text[:-1]], [*text[1:], " "]))


def line(text: str) -> str:
    """A name or a sentence on one line."""
    return clean(text).replace("\n", "\\n").replace("\t", "\\t")


def said(text: str) -> str:
    """What a program wrote to its terminal: its commands to that are dropped, and it begins no line twice."""
    return clean(_SEQUENCE.sub("", _NEWLINE.sub("\n", text)))


def _seen(character: str, before: str, after: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    if character in _JOINERS and not before.isascii() and not after.isascii():
        return character
    if unicodedata.category(character) == "Zs":
        return " "
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"U+{code:04X}"
