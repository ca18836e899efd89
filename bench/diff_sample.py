"""The change that `bench diff` shows: 50 files of 600 lines each, 19,300 changed lines in all, the same every time."""

from __future__ import annotations

import random
from pathlib import Path

FILES = 50
CHANGED = 386  # lines of a file, half of them deleted
LINES = 600
_ENDS = ("py", "ts", "go", "rs", "md")
Texts = dict[str, list[str]]  # lines by the path of the file


def texts() -> tuple[Texts, Texts]:
    """Before the change, and after it."""
    chance = random.Random(8)
    old = {f"src/{number:02}.{_ENDS[number % len(_ENDS)]}": _text(chance) for number in range(FILES)}
    new = {name: list(lines) for name, lines in old.items()}
    for lines in new.values():
        for place in chance.sample(range(len(lines)), CHANGED // 2):
            lines[place] = lines[place].replace(str(place), f"{place} + {chance.randrange(1000)}")
    return old, new


def write(folder: Path, texts: Texts) -> None:
    for name, lines in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(f"{line}\n" for line in lines))


def _text(chance: random.Random) -> list[str]:
    words = ["total", "items", "price", "customer", "order", "index", "result", "value", "name", "request"]
    forms = (
        "    {} = {}({}, {n})",
        "    if {} > {n} and {}.{}:",
        '        return "{} of {}: {n}"',
        "    for {} in {}.{}[{n}:]:",
        "    # {} {} {} {n}",
    )
    return [chance.choice(forms).format(*chance.choices(words, k=3), n=place) for place in range(LINES)]
