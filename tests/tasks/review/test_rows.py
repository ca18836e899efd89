"""Rows hold both texts, whole and in order, and say which words changed."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.git.changes import Hunk
from tasks.review.rows import Gap, Kind, Row, Text, context_rows, side_by_side, unified
from tasks.review.words import Effort, marks, pair

LINES = st.lists(st.sampled_from(["", "a", "b = 1", "b = 2", "foo(bar, 1)", "foo(baz, 1)", "\r", "x\r", "é\u202e", "\udcff"]), max_size=14)
TEXTS = st.builds(
    lambda lines, ends: Text.of("\n".join([*lines, *ends]).encode(errors="surrogateescape")), LINES, st.sampled_from([[], [""]])
)


def hunks_of(old: Text, new: Text) -> list[Hunk]:
    """As git gives them, the last line's end included."""

    def lines(text: Text) -> list[str]:
        return [*(f"{line}\n" for line in text.lines[:-1]), *(line + ("\n" if text.ends else "") for line in text.lines[-1:])]

    codes = difflib.SequenceMatcher(None, lines(old), lines(new), autojunk=False).get_opcodes()
    return [Hunk(i1, i2, j1, j2) for tag, i1, i2, j1, j2 in codes if tag != "equal"]


def told(rows: Iterable[Row | Gap]) -> tuple[list[int], list[int]]:
    """The numbers of all lines of either side, in the order of the rows; those in gaps, too."""
    old, new = [], []
    for row in rows:
        for part in context_rows(row.old, row.new, row.lines) if isinstance(row, Gap) else [row]:
            old += [part.old] if part.old else []
            new += [part.new] if part.new else []
    return old, new


@settings(max_examples=100, deadline=None)
@given(TEXTS, TEXTS, st.integers(0, 3))
def test_rows_put_together_are_the_old_and_the_new_text(old: Text, new: Text, context: int) -> None:
    rows = list(side_by_side(old, new, hunks_of(old, new), context=context))
    if not rows:
        assert old.content == new.content
        return
    for form in (rows, list(unified(rows))):
        old_numbers, new_numbers = told(form)
        assert old_numbers == list(range(1, len(old.lines) + 1))
        assert new_numbers == list(range(1, len(new.lines) + 1))
        for row in form:
            for part in context_rows(row.old, row.new, row.lines) if isinstance(row, Gap) else [row]:
                if part.kind is Kind.CONTEXT:
                    assert old.lines[part.old - 1] == new.lines[part.new - 1]
    for row in rows:
        if isinstance(row, Row) and row.old_marks + row.new_marks:
            assert cut_out(old.lines[row.old - 1], row.old_marks) == cut_out(new.lines[row.new - 1], row.new_marks)
    assert all(row.kind is not Kind.CHANGED for row in unified(rows) if isinstance(row, Row))


def cut_out(line: str, its: tuple[tuple[int, int], ...]) -> str:
    """What is left of a line without its marks (and whitespace, which marks may swallow)."""
    for start, end in reversed(its):
        line = line[:start] + line[end:]
    return "".join(line.split())


@given(st.binary(max_size=60))
def test_a_text_is_its_bytes_whatever_they_are(content: bytes) -> None:
    assert Text.of(content).content == content


def marked(old: str, new: str) -> tuple[str, str]:
    def show(line: str, its: tuple[tuple[int, int], ...]) -> str:
        for start, end in reversed(its):
            line = f"{line[:start]}[{line[start:end]}]{line[end:]}"
        return line

    old_marks, new_marks = marks(old, new, Effort())
    return show(old, old_marks), show(new, new_marks)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return [one]", "return [two]"),
        ("foo(a, [b])", "foo(a, [bar, c])"),
        ("x = [1]", "x = [22]"),
        ("def run(self, [name]):", "def run(self, [title]):"),
        ("[    ]if x:", "[        ]if x:"),
        ("a b c d", "a [x ]b c d"),
        ("same text here", "same text [right ]here"),
        ("let [first second] = of(thing)", "let [other words] = of(thing)"),
        ("nothing alike", "zzz"),  # all of it would be
    ],
)
def test_words_that_changed_are_marked(old: str, new: str) -> None:
    assert marked(*(text.replace("[", "").replace("]", "") for text in (old, new))) == (old, new)


def test_lines_are_paired_by_what_they_say() -> None:
    deleted = ["def total(items):", "    return sum(items)"]
    added = ["import math", "", "def total(items, start):", "    return sum(items, start)"]
    assert pair(deleted, added, Effort()) == [(0, 2), (1, 3)]
    assert pair(["a = 1", "b = 2"], ["a = 3", "b = 4"], Effort()) == [(0, 0), (1, 1)]
    assert pair(["first one"], ["something else entirely"], Effort()) == []


def test_a_gap_says_what_it_hides_and_one_line_is_not_hidden() -> None:
    old = Text(["def f():", *map(str, range(19))])
    new = Text([*old.lines[:9], "new", *old.lines[10:]])
    rows = list(side_by_side(old, new, [Hunk(9, 10, 9, 10, "def f():")], context=3))
    assert rows[0] == Gap(1, 1, 6, "def f():")
    assert rows[-1] == Gap(14, 14, 7)
    assert next(iter(side_by_side(old, new, [Hunk(9, 10, 9, 10)], context=8))) == Row(Kind.CONTEXT, 1, 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["a " * 900] * 3000, ["a b " * 450] * 3000),
        (["x y " * 450 + str(n) for n in range(3000)], ["y x " * 450 + str(n) for n in range(2999)]),
        (["z" * 5_000_000], ["z" * 5_000_001]),
        (["=" * 1999] * 2000, ["=-" * 999] * 2000),
        (["}"] * 20_000, [")"] * 19_999),
    ],
)
def test_no_text_takes_long(old: list[str], new: list[str]) -> None:
    began = time.process_time()
    rows = list(side_by_side(Text(old), Text(new), [Hunk(0, len(old), 0, len(new))]))
    assert len(rows) >= len(old)
    assert time.process_time() - began < 5  # it would be minutes if it were quadratic
