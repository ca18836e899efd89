"""From journal bytes to events, however the bytes are cut."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.adapters.base import AgentEvent
from agents.adapters.shell import ShellAdapter
from tasks.running.events import Batch
from tasks.running.journal import Reader
from tasks.running.prices import Prices
from tasks.running.redact import Redactor


def record(n: int, kind: str, **more: Any) -> bytes:
    return json.dumps({"n": n, "t": 1000.0 + n, "kind": kind, **more}).encode() + b"\n"


def reader(state: dict[str, Any] | None = None, secrets: dict[str, str] | None = None) -> Reader:
    return Reader(7, 1, 0, state if state is not None else {}, ShellAdapter(), Redactor(secrets or {}), {1: 11, 2: 12})


JOURNAL = b"".join(
    [
        record(1, "boot", version=1),
        record(2, "turn", turn=1, generation=1),
        record(3, "step", turn=1, step="checkout", state="started"),
        record(4, "step", turn=1, step="checkout", state="ended", reason="exit", code=0, signal=None, seconds=0.1),
        record(5, "step", turn=1, step="agent", state="started"),
        record(6, "out", turn=1, step="agent", line="eins"),
        record(7, "out", turn=1, step="agent", line="zwei ✓"),
        record(8, "err", turn=1, step="agent", line="weh"),
        record(9, "beat", turn=1),
        record(10, "out", turn=1, step="agent", line="drei", cut=5),
        record(11, "patch", turn=1, patch="final", sha256="x", bytes=1, left_out=[]),
        record(12, "end", turn=1, step="agent", reason="exit", code=0, signal=None, seconds=1.0, has_patch=True, error=None),
    ]
)


def text_of(batches: list[Batch]) -> list[tuple[str, str]]:
    """The log as (stream, text), whatever chunks it came in."""
    found: list[tuple[str, str]] = []
    for _, kind, data, _ in (event for batch in batches for event in batch.events):
        if kind == "log":
            if found and found[-1][0] == data["stream"]:
                found[-1] = (data["stream"], found[-1][1] + data["text"])
            else:
                found.append((data["stream"], data["text"]))
    return found


EXPECTED = [("stdout", "eins\nzwei ✓\n"), ("stderr", "weh\n"), ("stdout", "drei … [5 bytes of this line were left out]\n")]


@given(st.lists(st.integers(0, len(JOURNAL)), max_size=8))
def test_chunks_may_end_anywhere(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(JOURNAL)]
    read = reader()
    batches = [read.take(JOURNAL[a:b])[0] for a, b in itertools.pairwise(edges)]
    assert text_of(batches) == EXPECTED
    assert read.offset == len(JOURNAL)
    assert [(b.outcome[1]["reason"], b.outcome[1]["sha256"]) for b in batches if b.outcome] == [("exit", "x")]
    assert all(a.new_offset == b.old_offset for a, b in itertools.pairwise(batches))


@given(st.integers(0, len(JOURNAL)))
def test_a_new_reader_goes_on_where_the_stored_offset_stands(cut: int) -> None:
    first = reader()
    before, _ = first.take(JOURNAL[:cut])
    second = reader(json.loads(json.dumps(before.parse_state)))
    second.offset = before.new_offset
    after, _ = second.take(JOURNAL[before.new_offset :])
    assert text_of([before, after]) == EXPECTED


def test_stages_follow_the_steps() -> None:
    read = reader()
    stages = [read.take(line + b"\n")[0].stage for line in JOURNAL.splitlines()]
    assert [stage for stage in stages if stage] == ["checkout", "agent", "collect"]
    assert read.state["is_set_up"] is True
    assert read.state["turn"] == 1


def test_announced_patches_are_given() -> None:
    assert reader().take(JOURNAL)[1] == ["final"]


@pytest.mark.parametrize("line", [b"{torn", b"[]", b"null", b'{"n": "x"}', b"\xff\xfe", b'{"n": 1}'])
def test_what_is_no_record_becomes_an_error_event(line: bytes) -> None:
    batch, _ = reader().take(line + b"\n")
    assert [event[1] for event in batch.events] == ["error"]


def test_a_record_with_an_old_number_is_ignored() -> None:
    read = reader()
    read.take(JOURNAL)
    batch, _ = read.take(record(12, "out", turn=1, step="agent", line="again"))
    assert not batch.events


def test_secrets_are_redacted() -> None:
    read = reader(secrets={"TOKEN": "hush-hush", "KEY": "first line\nsecond line"})
    lines = [record(1, "turn", turn=1, generation=1)]
    lines += [
        record(2 + i, "out", turn=1, step="setup", line=line) for i, line in enumerate(["a hush-hush b", "first line", "second line"])
    ]
    batch, _ = read.take(b"".join(lines))
    assert text_of([batch]) == [("stdout", "a ••• b\n•••\n•••\n")]


def test_long_output_is_stored_in_pieces() -> None:
    read = reader()
    data = b"".join(record(n, "out", turn=1, step="agent", line="x" * 1000) for n in range(1, 101))
    batch, _ = read.take(data)
    assert 6 <= len(batch.events) <= 10
    assert text_of([batch]) == [("stdout", ("x" * 1000 + "\n") * 100)]


class Parrot(ShellAdapter):
    """Says what each line of output says it should."""

    def parse(self, line: str, state: dict[str, Any], *, stream: str = "stdout") -> Iterator[AgentEvent]:
        said = json.loads(line)
        state |= said.get("state", {})
        if "kind" in said:
            yield AgentEvent(said["kind"], said["data"])


def hear(*said: dict[str, Any], size: int = 10**6, secrets: dict[str, str] | None = None, end: bool = True) -> list[Batch]:
    """What a turn's output comes to, `size` bytes at a time."""
    lines = [record(1, "turn", turn=1), record(2, "step", turn=1, step="agent", state="started")]
    lines += [record(3 + n, "out", turn=1, step="agent", line=json.dumps(one)) for n, one in enumerate(said)]
    lines += [record(99, "end", turn=1, step="agent", reason="exit", code=0, signal=None, seconds=1.0, has_patch=False)] if end else []
    prices = Prices.of([("m-", Decimal(2), Decimal(1), Decimal(3), Decimal(10))])
    whole, state, batches, offset = b"".join(lines), {}, [], 0
    while offset < len(whole):
        taking = Reader(7, 1, offset, state, Parrot(), Redactor(secrets or {}), {1: 11}, prices)
        batch, _ = taking.take(whole[offset : offset + size])
        size = size if batch.new_offset > offset else size * 2
        offset, state = batch.new_offset, batch.parse_state
        batches.append(batch)
    return batches


def chunk(text: str, which: str = "m1") -> dict[str, Any]:
    return {"kind": "message", "data": {"id": which, "chunk": text}}


def chunks(batches: list[Batch], which: str = "m1") -> str:
    return "".join(data["chunk"] for batch in batches for _, _, data, _ in batch.events if data.get("id") == which and "chunk" in data)


@given(st.integers(40, 400), st.lists(st.integers(0, 30), max_size=6))
def test_a_secret_in_streamed_text_is_redacted_wherever_it_is_cut(size: int, cuts: list[int]) -> None:
    text = "before hunter2hunter2 after hunter2hunter"
    places = [0, *sorted(cuts), len(text)]
    pieces = [chunk(text[a:b]) for a, b in itertools.pairwise(places)]
    pieces.insert(1, {"kind": "log", "data": {"stream": "stderr", "text": "between"}})
    batches = hear(*pieces, size=size, secrets={"S": "hunter2hunter2"})
    assert chunks(batches) == "before ••• after hunter2hunter"


def test_the_whole_text_takes_the_place_of_what_was_held_back() -> None:
    batches = hear(chunk("see hunter2"), {"kind": "message", "data": {"id": "m1", "text": "see hunter2"}}, secrets={"S": "hunter2hunter2"})
    assert chunks(batches) == "see "
    assert batches[-1].events[-1][2] == {"id": "m1", "text": "see hunter2"}


def test_chunks_of_two_messages_do_not_mix() -> None:
    batches = hear(chunk("a hunter2"), chunk("hunter2 b", "m2"), secrets={"S": "hunter2hunter2"})
    assert (chunks(batches), chunks(batches, "m2")) == ("a hunter2", "hunter2 b")


def test_chunks_that_come_together_are_one_event() -> None:
    batches = hear(*[chunk(f"{n} ") for n in range(50)])
    events = [data for batch in batches for _, kind, data, _ in batch.events if kind == "message"]
    assert [data["chunk"] for data in events] == ["".join(f"{n} " for n in range(50))]


@pytest.mark.parametrize("size", [60, 10**6])
def test_usage_and_answer_and_conversation_reach_the_turn(size: int) -> None:
    batches = hear(
        {"state": {"conversation": "c-7"}},
        {"kind": "usage", "data": {"model": "vendor/m-1", "input_tokens": 1_000_000, "cached_tokens": 500_000, "output_tokens": 100_000}},
        {"kind": "usage", "data": {"model": "other", "input_tokens": 5, "cost_usd": 0.25}},
        {"state": {"answer": "Done."}},
        size=size,
    )
    news = [batch.turns[11] for batch in batches if 11 in batch.turns]
    assert [sum(column) for column in zip(*(turn.tokens for turn in news), strict=True)] == [1_000_005, 500_000, 100_000, 0]
    assert sum(turn.cost_usd or 0 for turn in news) == Decimal("2.75")
    assert {turn.conversation for turn in news} - {""} == {"c-7"}
    assert {turn.answer for turn in news} - {""} == {"Done."}


def test_a_model_without_a_price_costs_nobody_knows_what() -> None:
    batches = hear({"kind": "usage", "data": {"model": "x", "input_tokens": 5}})
    assert batches[-1].turns[11].cost_usd is None


def test_what_is_cumulative_is_carried_into_the_next_turn() -> None:
    reading = Reader(7, 1, 0, {"adapter": {"carried": {"input": 5}, "answer": "old"}}, ShellAdapter(), Redactor({}), {1: 11, 2: 12})
    batch, _ = reading.take(record(1, "turn", turn=2))
    assert batch.parse_state["adapter"] == {"carried": {"input": 5}}


def test_each_turn_is_told_the_conversation_that_it_is_in() -> None:
    reading = Reader(7, 1, 0, {}, Parrot(), Redactor({}), {1: 11, 2: 12})
    same = json.dumps({"state": {"conversation": "c-7"}})
    for number in (1, 2):
        begun = record(2 * number - 1, "turn", turn=number)
        batch, _ = reading.take(begun + record(2 * number, "out", turn=number, step="agent", line=same))
        assert batch.turns[10 + number].conversation == "c-7"
