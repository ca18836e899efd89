"""Conversations that are gone on with elsewhere: only by ids that are ids, and without what the sandbox allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents.packages import PACKAGES
from agents.registry import ADAPTERS
from tests.installed import Sandboxed, installed

ID = "01a21e64-4c37-74f2-b382-98396d01adb1"
SAVING = [name for name, adapter in ADAPTERS.items() if adapter.saved(ID)]


def test_claude_code_and_codex_say_where_their_conversations_lie() -> None:
    assert SAVING == ["claude", "codex"]
    claude, codex = ADAPTERS["claude"].saved(ID), ADAPTERS["codex"].saved(ID)
    assert claude
    assert codex
    assert claude.pattern == f"/home/agent/.claude/projects/-workspace/{ID}.jsonl"
    assert codex.pattern == f"/home/agent/.codex/sessions/*/*/*/rollout-*-{ID}.jsonl"


@pytest.mark.parametrize("name", SAVING)
@pytest.mark.parametrize("said", ["", "c-1", f"{ID}\n", f"{ID}/../x", f"{ID[:-1]}$", "`id`", "--help", ID.upper()])
def test_what_is_no_id_is_not_gone_on_with(name: str, said: str) -> None:
    assert ADAPTERS[name].saved(said) is None


def test_claude_code_takes_what_was_said_and_no_permission() -> None:
    said = {"type": "user", "uuid": "1", "permissionMode": "bypassPermissions", "message": {"role": "user", "content": "Hello"}}
    assert ADAPTERS["claude"].portable(said) == {"type": "user", "uuid": "1", "message": {"role": "user", "content": "Hello"}}
    assert ADAPTERS["claude"].portable({"type": "cost-state"}) is None
    assert ADAPTERS["claude"].portable({"type": ["user"]}) is None


def test_codex_takes_what_was_said_no_permission_and_a_provider_that_everybody_has() -> None:
    lines: list[dict[str, Any]] = [
        {"type": "session_meta", "payload": {"id": ID, "model_provider": "asynccode"}},
        {"type": "turn_context", "payload": {"approval_policy": "never", "sandbox_policy": {"type": "danger-full-access"}}},
        {"type": "event_msg", "payload": {"type": "thread_settings_applied", "thread_settings": {"approval_policy": "never"}}},
        {"type": "event_msg", "payload": {"type": "task_complete"}},
        {"type": "response_item", "payload": {"type": "message", "role": "user"}},
        {"type": "event_msg", "payload": "x"},
        {"type": 1},
    ]
    taken = [kept for line in lines if (kept := ADAPTERS["codex"].portable(line)) is not None]
    assert [line["type"] for line in taken] == ["session_meta", "event_msg", "response_item", "event_msg"]
    assert taken[0]["payload"] == {"id": ID, "model_provider": "openai"}
    assert "never" not in json.dumps(taken)


@pytest.mark.parametrize("name", SAVING)
def test_the_pinned_program_knows_the_words_that_it_is_taken_up_again_with(name: str) -> None:
    saved, package = ADAPTERS[name].saved(ID), PACKAGES[ADAPTERS[name].package]
    assert saved
    program, *words = saved.resume
    assert program == package.program
    asked = [words[0], "--help"] if not words[0].startswith("-") else ["--help"]
    code, said = Sandboxed(installed(name))(Path(package.name, package.version, "bin", package.program), asked)
    assert code == 0
    for word in words:
        assert word in said or word in (ID, "."), f"{word}: {said}"
