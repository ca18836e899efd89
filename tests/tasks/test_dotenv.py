"""What is understood of the text of a .env file."""

from __future__ import annotations

import time

import pytest

from tasks.dotenv import parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=1", "1"),
        ("export A=1", "1"),
        ("  A = 1  # one", "1"),
        ("A=", ""),
        ("A=# nothing", ""),
        ("A=a#b", "a#b"),
        ("A=x=y", "x=y"),
        ("A=$HOME `id` ${B:-c}", "$HOME `id` ${B:-c}"),
        ('A="two words # here" # there', "two words # here"),
        (r'A="say \"hi\"\n\\end \$x"', 'say "hi"\n\\end $x'),
        (r"A='raw \n \"'", r"raw \n \""),
        ('A="first\nsecond"', "first\nsecond"),
        ("A='first\r\nsecond'\r\n", "first\nsecond"),
        ("\ufeffA=1", "1"),
        ("A=größe", "größe"),
    ],
)
def test_a_value_is_what_other_tools_would_take(text: str, value: str) -> None:
    (entry,) = parse(text)
    assert (entry.name, entry.value, entry.error) == ("A", value, "")


def test_comments_and_empty_lines_are_left_out_and_lines_counted() -> None:
    found = parse('# head\n\nA="1\n2"\n   # more\nB=2\n')
    assert [(entry.line, entry.name, entry.value) for entry in found] == [(3, "A", "1\n2"), (6, "B", "2")]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("just words", "no assignment"),
        ("A='open", "not closed"),
        ('A="open', "not closed"),
        ("A='x'y", "follows the closing quote"),
    ],
)
def test_a_line_that_is_wrong_says_so_and_the_next_ones_are_still_read(text: str, error: str) -> None:
    wrong, right = parse(f"{text}\nB=2")
    assert error in wrong.error
    assert (right.line, right.name, right.value, right.error) == (2, "B", "2", "")


def test_a_name_that_is_there_twice_is_pointed_at() -> None:
    assert [entry.error for entry in parse("A=1\nA=2")] == ["", "A is on line 1 already."]


@pytest.mark.parametrize("piece", ["A\n", 'A="\n', "A='\n", 'A="\\"\n', " ", "A =  ", '"', "export ", "#", "A=#", "\\", "\n"])
def test_hostile_text_is_read_in_linear_time(piece: str) -> None:
    began = time.monotonic()
    parse(piece * (100_000 // len(piece)))
    assert time.monotonic() - began < 2
