"""docs/environment.md, made of `.env.example`, which has the words for each variable; `scripts/environment-docs` writes it."""

from __future__ import annotations

import enum
import re
import sys
from itertools import groupby
from pathlib import Path


class Kind(enum.Enum):
    HEADING = enum.auto()
    WORDS = enum.auto()
    VARIABLE = enum.auto()
    BLANK = enum.auto()


EXAMPLE = Path(__file__).resolve().parent.parent / ".env.example"

_HEADING = re.compile(r"# --- (.+?) -+")
_VARIABLE = re.compile(r"#[A-Z0-9_]+=.*")
_DOCUMENT = re.compile(r"\bdocs/([a-z0-9-]+\.md)")  # in the words; the page lies beside it
_INTRODUCTION = """\
# Environment variables

Written by `scripts/environment-docs` from [.env.example](../.env.example), so change the words there.

All are optional. After `=` stands the default or an example, and nothing where there is neither. `make run` reads a file `.env` beside
`.env.example`; for commands of `manage.py` say `set -a; . ./.env; set +a` in the terminal before, and elsewhere set them as environment
variables. A value that cannot be understood is refused by name when a program of
asynccode starts. Under `/admin/` → Settings operators see which are set. Those of the command-line client are in [client.md](client.md).
"""


def page() -> str:
    """The whole document: what is commented above a group of variables in the example stands beside all of them."""
    parts, words = [_INTRODUCTION], ""
    for kind, lines in groupby(EXAMPLE.read_text().splitlines(), _kind):
        if kind is Kind.HEADING:
            title = _HEADING.sub(r"\1", next(lines))
            parts.append(f"\n## {title[0].upper()}{title[1:]}\n\n| Variable | What it is |\n|---|---|\n")
        elif kind is Kind.WORDS:
            words = " ".join(line.removeprefix("# ") for line in lines).replace("|", "\\|")
            words = _DOCUMENT.sub(r"[\1](\1)", words)
        elif kind is Kind.VARIABLE:
            names = "<br>".join(f"`{line[1:]}`" for line in lines)
            parts.append(f"| {names} | {words} |\n")
    return "".join(parts)


def _kind(line: str) -> Kind:
    if not line:
        return Kind.BLANK
    if _HEADING.fullmatch(line):
        return Kind.HEADING
    return Kind.VARIABLE if _VARIABLE.fullmatch(line) else Kind.WORDS


if __name__ == "__main__":
    sys.stdout.write(page())
