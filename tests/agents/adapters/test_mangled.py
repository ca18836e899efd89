"""No line makes an adapter raise, and what it remembers stays JSON that PostgreSQL can keep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import registry
from agents.adapters.base import AgentEvent, Ending

GOLDEN = Path(__file__).parent.parent / "golden"
NATIVE = ("claude", "codex", "gemini")
KINDS = {"message", "thought", "tool_call", "tool_result", "plan", "usage", "log", "error"}
LINES = {agent: [line for path in sorted((GOLDEN / agent).glob("*.jsonl")) for line in path.read_text().splitlines()] for agent in NATIVE}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def read(agent: str, lines: list[str]) -> tuple[list[AgentEvent], dict[str, Any]]:
    adapter, state = registry.adapter(agent), {}
    events = []
    for line in lines:
        events += adapter.parse(line, state)
        state = json.loads(json.dumps(state, allow_nan=False))
    kept = json.dumps(state, ensure_ascii=False)
    kept.encode()  # no half of a surrogate pair
    assert "\\u0000" not in kept
    for event in events:
        assert event.kind in KINDS
        json.dumps(event.data, allow_nan=False)
    for ending in (Ending("exit", 0), Ending("exit", 1), Ending("exit", -9, 9), Ending("finished", None), Ending("silence", None)):
        adapter.outcome(ending, state)
    return events, state


@st.composite
def mangled(draw: st.DrawFn, agent: str) -> list[str]:
    """A piece of what the agent said, with values lost, of another type, or cut."""
    start = draw(st.integers(0, len(LINES[agent]) - 1))
    lines = LINES[agent][start : start + draw(st.integers(1, 12))]
    return [draw(st.just(line) | changed(json.loads(line)) | cut(line)) for line in lines]


def cut(line: str) -> st.SearchStrategy[str]:
    return st.integers(0, len(line)).map(lambda end: line[:end])


@st.composite
def changed(draw: st.DrawFn, message: dict[str, Any]) -> str:
    value: Any = message
    for _ in range(draw(st.integers(1, 5))):
        if not isinstance(value, dict | list) or not value:
            break
        key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        if not isinstance(value[key], dict | list) or draw(st.booleans()):
            if draw(st.booleans()):
                value[key] = draw(anything)
            else:
                del value[key]
            break
        value = value[key]
    return json.dumps(message)


@pytest.mark.parametrize("agent", NATIVE)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_mangled_recordings_are_read(agent, data):
    read(agent, data.draw(mangled(agent)))


@pytest.mark.parametrize("agent", NATIVE)
@given(lines=st.lists(st.text(max_size=80) | anything.map(json.dumps), max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_text_is_a_log(agent, lines):
    events, _ = read(agent, lines)

    assert [event.kind for event in events] == ["log"] * len(lines)


@pytest.mark.parametrize("agent", NATIVE)
@pytest.mark.parametrize(
    "line",
    [
        '{"type": "assistant", "x": NaN}',
        '{"type": "result", "x": 1e999}',
        '{"type": "result", "x": ' + "9" * 5000 + "}",
        '{"type": ' + "[" * 5000,
        '{"type": "result", "x": ' + "[" * 200 + "]" * 200 + "}",
        '{"type": ["result"]}',
        '{"cut short": "in the mid',
    ],
)
def test_json_that_cannot_be_kept_is_a_log(agent, line):
    events, _ = read(agent, [line])

    assert [event.kind for event in events] == ["log"]


@pytest.mark.parametrize("agent", NATIVE)
def test_standard_error_is_a_log_whatever_it_looks_like(agent):
    events = list(registry.adapter(agent).parse('{"type": "result", "is_error": false}', {}, stream="stderr"))

    assert [(event.kind, event.data["stream"]) for event in events] == [("log", "stderr")]
