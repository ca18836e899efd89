"""How Codex is launched, and what cannot be seen in a recording."""

from __future__ import annotations

import json
import tomllib

from agents.adapters.base import McpServer, ModelAccess, TurnRequest
from agents.adapters.codex import PROMPT_FILE, PROXY, CodexAdapter

ACCESS = ModelAccess("openai", "http://127.0.0.1:3128/openai", "token-1")
adapter = CodexAdapter()


def config(launch):
    argv = list(launch.argv)
    return tomllib.loads("\n".join(argv[n + 1] for n, word in enumerate(argv) if word == "-c" and n > 1))


def read(*messages, state=None):
    state = {} if state is None else state
    return [(event.kind, event.data) for message in messages for event in adapter.parse(json.dumps(message), state)]


def test_the_prompt_is_read_from_a_file_however_long_it_is():
    launch = adapter.launch(TurnRequest("-" + "x" * 200_000), ACCESS)

    assert launch.files[PROMPT_FILE] == "-" + "x" * 200_000
    assert launch.argv[-1] == "-"
    assert launch.argv[:2] == ["/bin/sh", "-c"]
    assert f"< {PROMPT_FILE}" in launch.argv[2]
    assert not launch.input


def test_it_asks_our_address_with_the_token_of_its_environment():
    launch = adapter.launch(TurnRequest("x"), ACCESS)
    provider = config(launch)["model_providers"]["asynccode"]

    assert provider["base_url"] == "http://127.0.0.1:3128/openai/v1"
    assert launch.env[provider["env_key"]] == "token-1"
    assert "token-1" not in json.dumps([list(launch.argv), dict(launch.files)])


def test_options_become_configuration():
    servers = [McpServer("my docs", url="https://docs.example/mcp"), McpServer("db", command=["db", '"q"'], env={"A": "b"})]
    turn = TurnRequest("x", model='m"odd', resume="thread-1", options={"effort": "high", "extra_args": ["--search"]}, mcp_servers=servers)
    launch = adapter.launch(turn, ACCESS)

    assert config(launch)["model"] == 'm"odd'
    assert config(launch)["model_reasoning_effort"] == "high"
    assert config(launch)["mcp_servers"] == {
        "my docs": {"url": "https://docs.example/mcp", "startup_timeout_sec": 60},
        "db": {"command": "db", "args": ['"q"'], "env": {"A": "b"}, "env_vars": list(PROXY), "startup_timeout_sec": 60},
    }
    assert launch.argv[-3:] == ["--search", "thread-1", "-"]
    assert launch.argv[6:8] == ["exec", "resume"]


def test_usage_is_what_came_since_the_last_turn():
    thread = {"type": "thread.started", "thread_id": "t1"}
    model = {"type": "asynccode.model", "model": "gpt-x"}
    first: dict = {}
    usage = {"input_tokens": 3000, "cached_input_tokens": 900, "output_tokens": 150, "reasoning_output_tokens": 60}
    read(model, thread, {"type": "turn.completed", "usage": usage}, state=first)
    more = {"input_tokens": 4000, "cached_input_tokens": 1200, "output_tokens": 200, "reasoning_output_tokens": 80}
    events = read(model, thread, {"type": "turn.completed", "usage": more}, state={"carried": first["carried"]})

    expected = {"model": "gpt-x", "input_tokens": 1000, "cached_tokens": 300, "output_tokens": 50, "reasoning_tokens": 20}
    assert events == [("usage", expected)]


def test_items_of_two_turns_have_ids_of_their_own():
    item = {"type": "item.completed", "item": {"id": "item_0", "type": "command_execution", "command": "ls", "exit_code": 0}}
    thread = {"type": "thread.started", "thread_id": "t1"}
    first: dict = {}
    one = read(thread, item, state=first)
    two = read(thread, item, state={"carried": first["carried"]})

    assert one[0][1]["id"] == one[1][1]["id"] != two[0][1]["id"]


def test_a_list_of_things_to_do_is_a_plan():
    items = [{"text": "one", "completed": True}, {"text": "two", "completed": False}]
    events = read({"type": "item.updated", "item": {"id": "i", "type": "todo_list", "items": items}})

    assert events == [("plan", {"entries": [{"content": "one", "status": "completed"}, {"content": "two", "status": "pending"}]})]
