"""How Gemini CLI is launched, and what cannot be seen in a recording."""

from __future__ import annotations

import json

from agents.adapters.base import McpServer, ModelAccess, TurnRequest
from agents.adapters.gemini import PROMPT_FILE, SETTINGS_FILE, GeminiAdapter

ACCESS = ModelAccess("gemini", "http://127.0.0.1:3128/gemini", "token-1")
adapter = GeminiAdapter()


def settings(**turn):
    return json.loads(adapter.launch(TurnRequest("x", **turn), ACCESS).files[SETTINGS_FILE])


def test_the_prompt_is_read_from_a_file_however_long_it_is():
    launch = adapter.launch(TurnRequest("-" + "x" * 200_000), ACCESS)

    assert launch.files[PROMPT_FILE] == "-" + "x" * 200_000
    assert f"< {PROMPT_FILE}" in launch.argv[2]


def test_a_prompt_that_begins_like_a_command_is_none():
    assert adapter.launch(TurnRequest("/quit"), ACCESS).files[PROMPT_FILE] == "\n/quit"


def test_the_token_is_in_the_environment_only():
    launch = adapter.launch(TurnRequest("x"), ACCESS)

    assert launch.env["GEMINI_API_KEY"] == "token-1"
    assert launch.env["GOOGLE_GEMINI_BASE_URL"] == "http://127.0.0.1:3128/gemini"
    assert "token-1" not in json.dumps([list(launch.argv), dict(launch.files)])


def test_options_become_settings():
    servers = [McpServer("docs", url="https://docs.example/mcp")]

    assert settings(options={"max_turns": 7})["model"] == {"maxSessionTurns": 7}
    assert settings(mcp_servers=servers)["mcpServers"] == {"docs": {"httpUrl": "https://docs.example/mcp"}}
    assert settings(mode="ask")["tools"] == {"exclude": ["write_file", "replace"]}
    assert "tools" not in settings()


def test_a_message_is_whole_when_something_else_follows():
    state = {}
    lines = [{"type": "message", "role": "assistant", "content": text, "delta": True} for text in ("Hal", "lo")]
    events = [event.data for line in [*lines, {"type": "result", "status": "success"}] for event in adapter.parse(json.dumps(line), state)]

    assert [data.get("chunk") or data.get("text") for data in events] == ["Hal", "lo", "Hallo"]
    assert len({data["id"] for data in events}) == 1
    assert state["answer"] == "Hallo"
