"""Several prompts in one text."""

from __future__ import annotations

import re
import textwrap

_ITEM = re.compile(r"[-*+] +(\[[ xX]\] +)?")


def split_prompts(text: str) -> list[str]:
    """One prompt a block; empty lines separate blocks. Where every block is a Markdown list, one an item."""
    blocks = [block.strip("\n") for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")) if block.strip()]
    if all(_ITEM.match(block) for block in blocks):
        return [item for block in blocks for item in _items(block)]
    return blocks


def _items(block: str) -> list[str]:
    """The items of a list without their marks; a line that is no item of the first level goes on with the one before."""
    items: list[list[str]] = []
    for line in block.split("\n"):
        if mark := _ITEM.match(line):
            items.append([line[mark.end() :]])
        else:
            items[-1].append(line)
    joined = ["\n".join([first, textwrap.dedent("\n".join(rest))]) if rest else first for first, *rest in items]
    return [item for item in joined if item.strip()]
