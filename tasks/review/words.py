"""Which deleted line became which added one, and which of their words changed.

Comparing costs time that grows with the square of what is compared, so all of a file is compared within one `Effort`; when it is
used up, lines stand beside each other as they come, without marks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

Marks = tuple[tuple[int, int], ...]  # the characters of a line that changed, as (start, end), in order

MOST_EFFORT = 6_000_000  # steps of some 50 ns
MOST_COMPARED = 2_000  # characters of a line whose words are looked at
_MOST_BLOCK = 2_500  # pairs of lines of one place that are looked at
_MOST_WORDS = 10_000  # pairs of words of one line
_PER_CHARACTER = 3  # steps
_ALIKE = 0.5  # of the words of two lines: they are one line that changed
_MARKED = 0.8  # of a line's characters: it reads better without marks

_WORD = re.compile(r"\w+|[^\w\s]")
_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass
class Effort:
    left: int = MOST_EFFORT

    def take(self, steps: int) -> bool:
        """Whether there is so much left; then it is used."""
        if steps > self.left:
            return False
        self.left -= steps
        return True


def pair(deleted: Sequence[str], added: Sequence[str], effort: Effort) -> list[tuple[int, int]]:
    """Which deleted line (by its place) became which added one; both in order. Lines that are too different have no part."""
    if not effort.take(_PER_CHARACTER * sum(min(len(line), MOST_COMPARED) for lines in (deleted, added) for line in lines)):
        return []
    old, new = ([_words(line) for line in lines] for lines in (deleted, added))
    if len(old) == len(new):
        found = [place for place, (one, other) in enumerate(zip(old, new, strict=True)) if _likeness(one, other) >= _ALIKE]
        if len(found) == len(old):
            return [(place, place) for place in found]
    steps = len(old) * len(new)
    if steps <= _MOST_BLOCK and effort.take(40 * steps):
        return _best(old, new)
    places = range(min(len(old), len(new)))
    return [(place, place) for place in places if _likeness(old[place], new[place]) >= _ALIKE]


Words = tuple[Counter[str], int]


def _words(line: str) -> Words:
    counted = Counter(_WORD.findall(line[:MOST_COMPARED]))
    return counted, sum(counted.values())


def _likeness(one: Words, other: Words) -> float:
    """From 0 (no word in common) to 1 (all)."""
    total = one[1] + other[1]
    if not total:
        return 1.0
    if 2 * min(one[1], other[1]) < _ALIKE * total:  # too few to be enough
        return 0.0
    few, many = (one[0], other[0]) if len(one[0]) < len(other[0]) else (other[0], one[0])
    return 2 * sum(min(number, many[word]) for word, number in few.items() if word in many) / total


def _best(old: Sequence[Words], new: Sequence[Words]) -> list[tuple[int, int]]:
    """The pairs in order whose likenesses are most in sum."""
    alike = [[likeness if (likeness := _likeness(one, other)) >= _ALIKE else 0.0 for other in new] for one in old]
    best = [[0.0] * (len(new) + 1) for _ in range(len(old) + 1)]  # of what comes from here on
    for i in range(len(old) - 1, -1, -1):
        row, below, likes = best[i], best[i + 1], alike[i]
        for j in range(len(new) - 1, -1, -1):
            most = below[j] if below[j] > row[j + 1] else row[j + 1]
            taken = below[j + 1] + likes[j] if likes[j] else 0.0
            row[j] = taken if taken > most else most
    found, i, j = [], 0, 0
    while i < len(old) and j < len(new):
        if alike[i][j] and best[i][j] == best[i + 1][j + 1] + alike[i][j]:
            found.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return found


def marks(old: str, new: str, effort: Effort) -> tuple[Marks, Marks]:
    """The words of two lines that differ; none where so much does that it would mark the whole line."""
    if max(len(old), len(new)) > MOST_COMPARED or not effort.take(_PER_CHARACTER * (len(old) + len(new))):
        return (), ()
    one, other = _TOKEN.findall(old), _TOKEN.findall(new)
    head = 0
    for token, its in zip(one, other, strict=False):
        if token != its:
            break
        head += 1
    tail = 0
    while tail < min(len(one), len(other)) - head and one[-1 - tail] == other[-1 - tail]:
        tail += 1
    ones, others = one[head : len(one) - tail], other[head : len(other) - tail]
    start = sum(map(len, one[:head]))
    steps = len(ones) * len(others)
    if len(ones) > 1 and len(others) > 1 and steps <= _MOST_WORDS and effort.take(20 * (len(ones) + len(others)) + steps):
        blocks = SequenceMatcher(None, ones, others, autojunk=False).get_matching_blocks()
        old_marks, new_marks = (_between(tokens, [(b[side], b.size) for b in blocks], start) for side, tokens in ((0, ones), (1, others)))
    else:
        old_marks, new_marks = (((start, start + sum(map(len, tokens))),) if tokens else () for tokens in (ones, others))
    for line, its in ((old, old_marks), (new, new_marks)):
        if sum(len(line[at:to].strip()) for at, to in its) > _MARKED * len(line.strip()):
            return (), ()
    return old_marks, new_marks


def _between(tokens: Sequence[str], kept: Sequence[tuple[int, int]], start: int) -> Marks:
    """What lies between the kept tokens, as characters; what only whitespace keeps apart is one."""
    found: list[tuple[int, int]] = []
    offsets = [start]
    for token in tokens:
        offsets.append(offsets[-1] + len(token))
    at = 0
    for place, size in kept:
        if place > at:
            if found and not "".join(tokens[at - 1 : at]).strip() and found[-1][1] == offsets[at - 1]:
                found[-1] = (found[-1][0], offsets[place])
            else:
                found.append((offsets[at], offsets[place]))
        at = place + size
    return tuple(found)
