"""What others wrote, as a part of a prompt: as people see it, without secrets, and cut."""

from __future__ import annotations

import re

from tasks.running.redact import MARK, Redactor

# Terminal escapes: CSI (colours, cursor), OSC and the other strings (titles, links), and the short ones.
_ESCAPE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b(?:[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
_MOST_LINE = 500  # characters
# What is a secret by its looks, whoever's it is; a group is what stays.
_TOKENS = re.compile(
    r"gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|npm_\w{30,}|xox[a-z]-[\w-]{10,}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{35}"
    r"|\b[srp]k[-_][\w-]{20,}|\beyJ[\w-]{10,}\.[\w-]{10,}(?:\.[\w-]*)?"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.*?-----END [A-Z ]*PRIVATE KEY-----|.*\Z)"
    r"|(?P<header>(?i:authorization:\s*(?:bearer|basic|token))\s+)\S+|(?P<url>://[^/\s:@]*:)[^@/\s]+(?=@)",
    re.DOTALL,
)


def plain(text: str) -> str:
    """Text as a terminal leaves it, without escapes and colours: of a line that is written over only its end, nothing invisible."""
    lines = _ESCAPE.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join("".join(map(_visible, line.rstrip("\r").rpartition("\r")[2])) for line in lines)


def _visible(character: str) -> str:
    if character.isprintable() or character == "\t":
        return character
    return " " if character.isspace() else ""


def redacted(text: str, redactor: Redactor) -> str:
    """Without the values that `redactor` knows, and without what looks like a token or a key."""
    return _TOKENS.sub(lambda found: f"{found['header'] or found['url'] or ''}{MARK}", redactor.text(text))


def cut(text: str, most: int) -> str:
    """At most about `most` characters, the beginning and the longer end, of lines that are not endless. To be redacted before."""
    text = "\n".join(line if len(line) <= _MOST_LINE else f"{line[:_MOST_LINE]} …" for line in text.split("\n"))
    if len(text) <= most:
        return text
    begin = most // 3
    return f"{text[:begin]}\n… {len(text) - most:,} characters are left out here …\n{text[begin - most :]}"


def one_line(text: str, redactor: Redactor, most: int = 200) -> str:
    return redacted(re.sub(r"\s+", " ", plain(text)), redactor).strip()[:most]
