"""How Claude Code is launched, and what cannot be seen in a recording."""

from __future__ import annotations

import json

from agents.adapters.base import McpServer, ModelAccess, TurnRequest
from agents.adapters.claude import MCP_FILE, ClaudeAdapter

ACCESS = ModelAccess("anthropic", "http://127.0.0.1:3128/anthropic", "token-1")
adapter = ClaudeAdapter()


def read(*messages):
    state = {}
    return [(event.kind, event.data) for message in messages for event in adapter.parse(json.dumps(message), state)], state


def test_the_prompt_is_its_first_line_of_input():
    launch = adapter.launch(TurnRequest("--help me", instructions="Be kind."), ACCESS)

    assert json.loads(launch.input[0])["message"]["content"] == [{"type": "text", "text": "Be kind.\n\n--help me"}]
    assert "--help me" not in " ".join(launch.argv)
    assert launch.ends_on == [{"type": "result"}]


def test_the_token_is_in_the_environment_only():
    launch = adapter.launch(TurnRequest("x"), ACCESS)

    assert launch.env["ANTHROPIC_API_KEY"] == "token-1"
    assert launch.env["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:3128/anthropic"
    assert "token-1" not in json.dumps([list(launch.argv), list(launch.input), dict(launch.files)])


def test_the_token_of_a_subscription_goes_where_that_belongs():
    env = adapter.launch(TurnRequest("x"), ModelAccess("anthropic", "http://x", "token-1", is_subscription=True)).env

    assert env["CLAUDE_CODE_OAUTH_TOKEN"] == "token-1"
    assert "ANTHROPIC_API_KEY" not in env


def test_options_become_arguments():
    options = {"effort": "high", "max_turns": 7, "extra_args": ["--betas", "x"]}
    argv = list(adapter.launch(TurnRequest("x", model="m", resume="sid", options=options), ACCESS).argv)

    for pair in (["--model", "m"], ["--resume", "sid"], ["--effort", "high"], ["--max-turns", "7"]):
        assert pair in [argv[n : n + 2] for n in range(len(argv))]
    assert argv[-2:] == ["--betas", "x"]
    assert "--disallowedTools" not in argv


def test_ask_and_plan_have_no_tools_that_write():
    for mode in ("ask", "plan"):
        argv = adapter.launch(TurnRequest("x", mode=mode), ACCESS).argv
        assert argv[argv.index("--disallowedTools") + 1] == "Edit,MultiEdit,Write,NotebookEdit"


def test_mcp_servers_are_given_in_a_file():
    servers = [McpServer("docs", url="https://docs.example/mcp"), McpServer("db", command=["db", "-v"], env={"A": "b"})]
    launch = adapter.launch(TurnRequest("x", mcp_servers=servers), ACCESS)

    assert json.loads(launch.files[MCP_FILE]) == {
        "mcpServers": {
            "docs": {"url": "https://docs.example/mcp", "type": "http"},
            "db": {"command": "db", "args": ["-v"], "env": {"A": "b"}},
        }
    }
    assert "--strict-mcp-config" in launch.argv


def test_what_a_subagent_does_is_told_apart():
    said = {"type": "text", "text": "I look."}
    used = {"type": "tool_use", "id": "t2", "name": "Read", "input": {"file_path": "/workspace/a.py"}}
    events, state = read({"type": "assistant", "parent_tool_use_id": "t1", "message": {"id": "m", "content": [said, used]}})

    assert events[0] == ("thought", {"text": "I look."})
    assert events[1][1]["title"] == "Subagent › Read a.py"
    assert "answer" not in state


def test_a_list_of_things_to_do_is_a_plan_and_no_tool():
    todos = {"todos": [{"content": "one", "status": "in_progress", "activeForm": "…"}]}
    events, _ = read(
        {"type": "assistant", "message": {"content": [{"type": "tool_use", "id": "t1", "name": "TodoWrite", "input": todos}]}},
        {"type": "user", "message": {"content": [{"type": "tool_result", "tool_use_id": "t1", "content": "ok"}]}},
    )

    assert events == [("plan", {"entries": [{"content": "one", "status": "in_progress"}]})]


def test_what_broke_off_is_taken_back():
    start = {"type": "stream_event", "event": {"type": "message_start", "message": {"id": "m1"}}}
    delta = {"type": "stream_event", "event": {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hal"}}}
    again = {"type": "stream_event", "event": {"type": "message_start", "message": {"id": "m2"}}}
    events, _ = read(start, delta, again)

    assert events == [("message", {"id": "m1/0", "chunk": "Hal"}), ("message", {"id": "m1/0", "text": ""})]
