from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandboxes.inside.journal import LINE_MAX, Journal, JournalHeldError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@pytest.fixture
def opened(path: Path) -> Callable[[], Journal]:
    """Opens the journal anew, as the next supervisor does: the one before lets go of it."""
    fds: list[int] = []

    def open_journal() -> Journal:
        for fd in fds:
            os.close(fd)
        fds[:] = [os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)]
        return Journal(fds[0])

    return open_journal


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def written(opened: Callable[[], Journal], path: Path, raw: bytes, left_out: int = 0) -> dict[str, Any]:
    journal = opened()
    journal.output("out", 1, "agent", [(raw, left_out)])
    assert all(len(line) <= LINE_MAX + 4096 for line in path.read_bytes().split(b"\n"))
    return read(path)[-1]


def test_records_are_numbered_timed_and_complete(opened: Callable[[], Journal], path: Path) -> None:
    journal = opened()
    journal.append("turn", turn=1, generation=2)
    journal.output("err", 1, "agent", [(b"a", 0), (b"b", 0)])
    first, second, third = read(path)
    assert [record["n"] for record in (first, second, third)] == [1, 2, 3]
    assert {key: first[key] for key in ("kind", "turn", "generation")} == {"kind": "turn", "turn": 1, "generation": 2}
    assert {**second, "t": 0} == {"n": 2, "t": 0, "kind": "err", "turn": 1, "step": "agent", "line": "a"}


def test_bytes_that_are_no_utf_8_are_replaced(opened: Callable[[], Journal], path: Path) -> None:
    assert written(opened, path, b"caf\xe9 \xff \xe2\x82\xac")["line"] == "caf\ufffd \ufffd €"


def test_a_name_that_is_no_text_is_replaced_too(opened: Callable[[], Journal], path: Path) -> None:
    opened().append("patch", left_out=[{"path": os.fsdecode(b"caf\xe9")}])
    assert read(path)[0]["left_out"][0]["path"].startswith("caf\ufffd")


def test_a_line_of_the_longest_length_is_whole(opened: Callable[[], Journal], path: Path) -> None:
    record = written(opened, path, b"x" * LINE_MAX)
    assert len(record["line"]) == LINE_MAX
    assert "cut" not in record


def test_what_was_left_out_of_a_line_is_counted(opened: Callable[[], Journal], path: Path) -> None:
    record = written(opened, path, b"x" * LINE_MAX, 5)
    assert (len(record["line"]), record["cut"]) == (LINE_MAX, 5)


@pytest.mark.parametrize("raw", [b"\x01" * LINE_MAX, b"\xff" * LINE_MAX, b'"\\' * (LINE_MAX // 2)])
def test_a_line_that_grows_when_it_is_written_is_cut(opened: Callable[[], Journal], path: Path, raw: bytes) -> None:
    record = written(opened, path, raw)
    assert len(record["line"]) + record["cut"] == LINE_MAX
    assert record["cut"] > 0


def test_a_character_that_the_cut_splits_is_left_out_whole(opened: Callable[[], Journal], path: Path) -> None:
    raw = ("€" * LINE_MAX).encode()
    record = written(opened, path, raw[:LINE_MAX], len(raw) - LINE_MAX)
    assert set(record["line"]) == {"€"}
    assert len(record["line"].encode()) + record["cut"] == len(raw)


def test_the_next_supervisor_goes_on_numbering(opened: Callable[[], Journal], path: Path) -> None:
    opened().append("beat", turn=None)
    journal = opened()
    journal.output("out", 1, "agent", [(b"a", 0), (b"b", 0)])
    opened().append("beat", turn=None)
    assert [record["n"] for record in read(path)] == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["beat", "out"])
def test_a_torn_last_line_is_closed_and_its_number_used_again(opened: Callable[[], Journal], path: Path, kind: str) -> None:
    journal = opened()
    journal.append("beat", turn=None)
    journal.output("out", 1, "agent", [(b"whole", 0)])
    with path.open("ab") as file:
        file.write(b'{"n":3,"t":1.0,"kind":"' + kind.encode() + b'","turn":1,"step":"agent","li')
    opened().append("boot", version=1)
    lines = path.read_bytes().splitlines()
    assert json.loads(lines[3])["n"] == 3
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(lines[2])
    opened().append("boot", version=1)
    assert json.loads(path.read_bytes().splitlines()[4])["n"] == 4


def test_it_knows_which_turns_were_begun_and_which_one_was_not_ended(opened: Callable[[], Journal]) -> None:
    journal = opened()
    journal.append("turn", turn=1, generation=1)
    journal.append("end", turn=1)
    assert opened().open_turn is None
    opened().append("turn", turn=2, generation=1)
    journal = opened()
    assert (journal.begun, journal.open_turn) == ([(1, 1), (1, 2)], 2)


@pytest.mark.parametrize(("reason", "code", "checkout"), [("exit", 0, "done"), ("error", 1, "torn"), ("stop", None, "torn")])
def test_it_knows_what_became_of_the_checkout(opened: Callable[[], Journal], reason: str, code: int | None, checkout: str) -> None:
    assert opened().checkout is None
    opened().append("step", turn=1, step="checkout", state="started")
    assert opened().checkout == "torn"
    opened().append("step", turn=1, step="checkout", state="ended", reason=reason, code=code)
    assert opened().checkout == checkout


def test_nobody_else_can_hold_it(opened: Callable[[], Journal], path: Path) -> None:
    opened()
    fd = os.open(path, os.O_RDWR)
    with pytest.raises(JournalHeldError):
        Journal(fd)
    os.close(fd)
