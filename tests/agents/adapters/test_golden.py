"""What the adapters make of the streams that the pinned agents really printed.

`tests/agents/golden/AGENT/NAME.jsonl` are lines of standard output, recorded from the real program; NAME.events.json is what the
adapter of that name makes of them: the events, what it remembers, and what became of the turn if the program ended with 0. After a
change that is meant, `UPDATE_GOLDEN=1 pytest tests/agents/adapters/test_golden.py` writes the expectations anew; read the diff.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from agents import registry
from agents.adapters.base import Ending

GOLDEN = Path(__file__).parent.parent / "golden"
NATIVE = ("claude", "codex", "gemini")
RECORDINGS = sorted(path for agent in NATIVE for path in (GOLDEN / agent).glob("*.jsonl"))


def made_of(agent: str, recording: str) -> dict[str, Any]:
    adapter, state = registry.adapter(agent), {}
    events = [[event.kind, event.data] for line in recording.splitlines() for event in adapter.parse(line, state)]
    return {"events": events, "state": state, "outcome": asdict(adapter.outcome(Ending("exit", 0), state))}


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_recorded_stream_becomes_these_events(path):
    made = json.loads(json.dumps(made_of(path.parent.name, path.read_text())))
    expected = path.with_suffix(".events.json")
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")

    assert made == json.loads(expected.read_text())
