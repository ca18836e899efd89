"""The agents of the Agent Client Protocol: how they are started, and what their messages become.

The recordings (tests/agents/golden) are lines of the supervisor's client with the real programs. The adapter reads `resume` after
`write`, whose conversation it goes on with.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import registry
from agents.adapters.acp import AcpAdapter, Profile
from agents.adapters.base import Ending, ErrorClass, McpServer, Model, ModelAccess, Provider, TurnRequest
from agents.adapters.profiles import PROFILES
from agents.packages import PACKAGES
from sandboxes.inside import acp
from tests.agents.adapters.test_mangled import changed, cut, read

GOLDEN = Path(__file__).parent.parent / "golden"
AGENTS = [profile.name for profile in PROFILES]
RECORDINGS = sorted(path for agent in AGENTS for path in (GOLDEN / agent).glob("*.jsonl"))
ACCESS = ModelAccess("openai", "http://127.0.0.1:3128/openai", "token-of-the-turn")
LINES = {agent: [line for path in RECORDINGS if path.parent.name == agent for line in path.read_text().splitlines()] for agent in AGENTS}
PLAIN = AcpAdapter(
    Profile(
        name="plain",
        label="Plain",
        description="",
        models=(Model("m", "M"),),
        providers=(Provider.OPENAI,),
        by_hand=("plain",),
        argv=lambda turn: ["acp"],
        env=lambda turn, access: {},
    )
)


def recording(agent: str, name: str) -> list[str]:
    return (GOLDEN / agent / f"{name}.jsonl").read_text().splitlines()


def events_of(agent: str, name: str, state: dict[str, Any] | None = None) -> list[tuple[str, dict[str, Any]]]:
    state = {} if state is None else state
    return [(event.kind, event.data) for line in recording(agent, name) for event in registry.adapter(agent).parse(line, state)]


def outcome_of(agent: str, name: str) -> tuple[bool, str]:
    state: dict[str, Any] = {}
    events_of(agent, name, state)
    outcome = registry.adapter(agent).outcome(Ending("exit", 1), state)
    return outcome.is_ok, outcome.error_class


def told(*updates: dict[str, Any], stop_reason: str = "end_turn") -> tuple[list[tuple[str, dict[str, Any]]], dict[str, Any]]:
    """What becomes of these updates, and of the end."""
    state: dict[str, Any] = {}
    lines = [{"acp": "in", "message": {"method": "session/update", "params": {"update": update}}} for update in updates]
    lines.append({"acp": "end", "stop_reason": stop_reason, "error": None})
    return [(event.kind, event.data) for line in lines for event in PLAIN.parse(json.dumps(line), state)], state


def chunk(text: str, kind: str = "message", **more: str) -> dict[str, Any]:
    return {"sessionUpdate": f"agent_{kind}_chunk", "content": {"type": "text", "text": text}, **more}


# --- recordings -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_recorded_conversation_becomes_these_events(path):
    agent, state = path.parent.name, {}
    if path.stem == "resume":
        events_of(agent, "write", state)
        state = {"carried": state["carried"]} if "carried" in state else {}
    events = [list(event) for event in events_of(agent, path.stem, state)]
    made = {"events": events, "state": state, "outcome": asdict(registry.adapter(agent).outcome(Ending("exit", 0), state))}
    expected = path.with_suffix(".events.json")
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")

    assert json.loads(json.dumps(made)) == json.loads(expected.read_text())


@pytest.mark.parametrize("agent", AGENTS)
def test_writing_a_file_is_a_call_with_its_result_between_two_messages(agent):
    state: dict[str, Any] = {}
    events = events_of(agent, "write", state)

    kinds = [kind for kind, data in events if kind in ("message", "tool_call", "tool_result") and "chunk" not in data]
    calls = {data["id"]: data for kind, data in events if kind == "tool_call"}
    results = {data["id"]: data for kind, data in events if kind == "tool_result"}
    assert kinds == ["message", "tool_call", "tool_result", "tool_call", "tool_result", "message"]
    assert [(call["tool"], "hello.txt" in call["title"]) for call in calls.values()] == [("edit", True), ("execute", True)]
    assert list(results) == list(calls)
    assert [result["is_error"] for result in results.values()] == [False, False]
    assert results[list(calls)[1]].get("exit_code", 0) == 0
    assert results[list(calls)[1]]["output"].startswith("hello from hello.txt")
    assert state["answer"] == "It is written."
    assert state["conversation"]


@pytest.mark.parametrize("agent", AGENTS)
def test_a_failing_command_is_an_error_and_its_turn_is_none(agent):
    events = events_of(agent, "resume")

    (result,) = (data for kind, data in events if kind == "tool_result")
    assert (result["is_error"], result["exit_code"]) == (True, 1)
    lines = [line for line in result["output"].splitlines() if line not in ("", "[stderr]")]
    assert lines == ["before", "cat: /does/not/exist: No such file or directory"]
    assert outcome_of(agent, "resume") == (True, "")


@pytest.mark.parametrize("agent", AGENTS)
def test_a_hundred_chunks_come_one_by_one_and_then_whole(agent):
    messages = [data for kind, data in events_of(agent, "chunks") if kind == "message"]

    *chunks, whole = messages
    assert len(chunks) >= 100
    assert "".join(data["chunk"] for data in chunks) == whole["text"]
    assert {data["id"] for data in messages} == {whole["id"]}


@pytest.mark.parametrize("agent", AGENTS)
def test_what_is_resumed_is_not_told_again(agent):
    texts = [data.get("text", "") for kind, data in events_of(agent, "resume") if kind == "message"]

    assert "It is written." not in texts
    assert "It has failed." in texts


@pytest.mark.parametrize("agent", AGENTS)
def test_a_list_of_things_to_do_is_a_plan(agent):
    if agent != "opencode":
        assert not any(kind == "plan" for kind, _ in events_of(agent, "steps"))  # they offered their model no tool for it
        return
    (plan,) = (data for kind, data in events_of(agent, "steps") if kind == "plan")

    assert plan["entries"] == [{"content": "look around", "status": "in_progress"}, {"content": "act", "status": "pending"}]


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize(
    ("name", "error_class"), [("status-401", ErrorClass.AUTH), ("status-404", ErrorClass.MODEL), ("stopped", ErrorClass.KILLED)]
)
def test_errors_have_classes(agent, name, error_class):
    assert outcome_of(agent, name) == (False, error_class)


@pytest.mark.parametrize("agent", AGENTS)
def test_what_is_stopped_has_no_call_that_goes_on(agent):
    events = events_of(agent, "stopped")

    assert {data["id"] for kind, data in events if kind == "tool_call"} == {data["id"] for kind, data in events if kind == "tool_result"}


def test_copilots_error_that_ends_its_turn_is_an_error_and_no_answer():
    state: dict[str, Any] = {}
    events_of("copilot", "status-401", state)

    assert json.loads(recording("copilot", "status-401")[-1])["stop_reason"] == "end_turn"
    assert "answer" not in state


def test_what_copilot_writes_once_more_is_told_once():
    whole = [data["text"] for kind, data in events_of("copilot", "cut-once") if kind == "message" and "text" in data]

    assert whole == ["", "This will be cut."]


def test_a_turn_that_was_canceled_is_not_good_though_opencode_says_that_it_is_over():
    assert '"stop_reason":"end_turn"' in recording("opencode", "hung")[-1]
    assert outcome_of("opencode", "hung") == (False, ErrorClass.KILLED)


def test_opencodes_costs_are_told_once_though_they_are_cumulative():
    state: dict[str, Any] = {}
    first = [data["cost_usd"] for kind, data in events_of("opencode", "write", state) if kind == "usage"]
    second = [data["cost_usd"] for kind, data in events_of("opencode", "resume", {"carried": state["carried"]}) if kind == "usage"]

    calls = 0.00386  # each call of the scripted model costs this by its price list
    assert first == [pytest.approx(3 * calls)]
    assert second == [pytest.approx(2 * calls)]


def test_qwens_and_copilots_figures_are_of_all_calls_of_a_turn():
    def read_by(agent: str, name: str) -> int:
        return sum(data["input_tokens"] for kind, data in events_of(agent, name) if kind == "usage")

    assert [read_by(agent, name) for agent in ("qwen", "copilot") for name in ("write", "resume")] == [3000, 2000, 3000, 2000]


# --- messages made up -----------------------------------------------------------------------------------------------------


def test_a_message_ends_where_another_kind_begins():
    events, state = told(chunk("a"), chunk("b"), chunk("c", "thought"), chunk("d"))

    assert [(kind, data.get("text")) for kind, data in events if "text" in data] == [("message", "ab"), ("thought", "c"), ("message", "d")]
    assert len({data["id"] for _, data in events}) == 3
    assert state["answer"] == "d"


def test_a_message_ends_where_one_with_another_id_begins():
    events, _ = told(chunk("a", messageId="1"), chunk("b", messageId="1"), chunk("c", messageId="2"))

    assert [data["text"] for _, data in events if "text" in data] == ["ab", "c"]


def test_what_is_no_word_of_the_agents_ends_no_message():
    events, _ = told(chunk("a"), {"sessionUpdate": "usage_update", "used": 1, "size": 2}, chunk(""), chunk("b"))

    assert [data["text"] for _, data in events if "text" in data] == ["ab"]


def test_a_call_may_come_without_its_beginning():
    content = [{"type": "content", "content": {"type": "text", "text": "out"}}]
    update = {"sessionUpdate": "tool_call_update", "toolCallId": "1", "title": "Look", "kind": "read"}
    events, _ = told(update | {"status": "completed", "content": content})

    assert events == [
        ("tool_call", {"id": "1", "title": "Look", "tool": "read"}),
        ("tool_result", {"id": "1", "is_error": False, "output": "out"}),
    ]


def test_a_call_is_told_once_with_its_whole_input():
    call = {"toolCallId": "1", "sessionUpdate": "tool_call_update"}
    events, _ = told(
        call | {"sessionUpdate": "tool_call", "title": "bash", "kind": "execute", "status": "pending", "rawInput": {}},
        call | {"status": "in_progress", "rawInput": {"command": "ls\nls"}},
        call | {"status": "in_progress", "content": [{"type": "content", "content": {"type": "text", "text": "a"}}]},
        call | {"status": "failed", "rawOutput": {"metadata": {"exit": 2}}},
        call | {"status": "failed"},
    )

    assert events == [
        ("tool_call", {"id": "1", "title": "ls …", "tool": "execute", "input": {"command": "ls\nls"}}),
        ("tool_result", {"id": "1", "is_error": True, "output": "a", "exit_code": 2}),
    ]


def test_diffs_and_places_are_told():
    events, _ = told(
        {
            "sessionUpdate": "tool_call",
            "toolCallId": "1",
            "title": "edit",
            "kind": "edit",
            "status": "completed",
            "locations": [{"path": "/workspace/a/b.py", "line": 3}],
            "content": [{"type": "diff", "path": "/workspace/a/b.py", "oldText": None, "newText": "x"}],
        }
    )

    assert events[0][1] == {"id": "1", "title": "Edit a/b.py", "tool": "edit", "locations": [{"path": "/workspace/a/b.py", "line": 3}]}
    assert events[1][1]["diffs"] == [{"path": "/workspace/a/b.py", "old": None, "new": "x"}]


@pytest.mark.parametrize(("option", "word"), [("yes", "Allowed"), ("no", "Not allowed"), (None, "Not allowed")])
def test_what_was_asked_for_and_allowed_is_in_the_log(option, word):
    options = [{"optionId": "yes", "kind": "allow_once"}, {"optionId": "no", "kind": "reject_once"}]
    asked = {"id": 7, "method": "session/request_permission", "params": {"toolCall": {"title": "rm -r x"}, "options": options}}
    chosen = {"outcome": "selected", "optionId": option} if option else {"outcome": "cancelled"}
    state: dict[str, Any] = {}
    lines = [{"acp": "in", "message": asked}, {"acp": "out", "message": {"id": 7, "result": {"outcome": chosen}}}]
    events = [event for line in lines for event in PLAIN.parse(json.dumps(line), state)]

    assert [(event.kind, event.data["text"]) for event in events] == [("log", f"{word}: rm -r x\n")]


def test_what_nobody_knows_is_in_the_log():
    events, _ = told({"sessionUpdate": "new_thing", "x": 1})
    lines = ['{"acp": "noise", "text": "hello"}', '{"acp": "in", "message": {"method": "new/thing"}}', '{"acp": "new"}', "no JSON"]
    more = [event.kind for line in lines for event in PLAIN.parse(line, {})]

    assert [kind for kind, _ in events] == ["log"]
    assert more == ["log"] * 4


@pytest.mark.parametrize(
    ("stop_reason", "error_class"),
    [("cancelled", "killed"), ("max_tokens", "context"), ("max_turn_requests", "killed"), ("refusal", "crashed"), ("odd", "crashed")],
)
def test_only_the_end_of_a_turn_is_good(stop_reason, error_class):
    events, state = told(stop_reason=stop_reason)

    assert PLAIN.outcome(Ending("exit", 1), state).error_class == error_class
    assert [kind for kind, _ in events] == ["error"]


def test_an_agent_that_ends_without_a_word_has_crashed():
    assert PLAIN.outcome(Ending("exit", 1), {}).error_class == ErrorClass.CRASHED


@pytest.mark.parametrize("agent", AGENTS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_mangled_recordings_are_read(agent, data):
    start = data.draw(st.integers(0, len(LINES[agent]) - 1))
    lines = LINES[agent][start : start + data.draw(st.integers(1, 12))]
    read(agent, [data.draw(st.just(line) | changed(json.loads(line)) | cut(line)) for line in lines])


# --- how they are started -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", AGENTS)
def test_a_launch_is_one_that_the_supervisor_takes(agent):
    servers = (McpServer("web", url="http://x/mcp"), McpServer("local", command=("serve", "--all"), env={"A": "1"}))
    turn = TurnRequest("Do it.", instructions="Change nothing.", resume="s-1", mcp_servers=servers, options={"extra_args": ["--x"]})
    launch = registry.adapter(agent).launch(turn, ACCESS)

    assert acp.check(launch.acp) is None
    assert launch.argv[0] == PACKAGES[agent].path
    assert launch.argv[-1] == "--x"
    assert launch.acp["prompt"][0]["text"] == "Change nothing.\n\nDo it."
    assert (launch.acp["session"], launch.acp["resume"]) == ("s-1", "load")
    assert launch.acp["mcp_servers"] == [
        {"type": "http", "name": "web", "url": "http://x/mcp", "headers": []},
        {"name": "local", "command": "serve", "args": ["--all"], "env": [{"name": "A", "value": "1"}]},
    ]
    assert launch.ends_on == [{"acp": "end"}]


@pytest.mark.parametrize("agent", AGENTS)
def test_the_token_is_in_no_argument_and_the_model_api_is_the_gateways(agent):
    launch = registry.adapter(agent).launch(TurnRequest("Do it."), ACCESS)
    rest = json.dumps([launch.env, launch.files])

    assert ACCESS.token not in json.dumps([launch.argv, launch.acp])
    assert ACCESS.token in rest
    assert "http://127.0.0.1:3128/openai/v1" in rest


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("mode", ["plan", "ask"])
def test_who_only_reads_has_no_tool_to_write_with(agent, mode):
    adapter = registry.adapter(agent)
    code, reading = (adapter.launch(TurnRequest("Do it.", mode=each), ACCESS) for each in ("code", mode))

    assert (code.argv, code.files, code.acp["mode"]) != (reading.argv, reading.files, reading.acp["mode"])


@pytest.mark.parametrize(
    ("model", "provider", "url"),
    [
        ("anthropic/claude-opus-5-5", "anthropic", "/anthropic/v1"),
        ("openai/gpt-6.1-sol", "openai", "/openai/v1"),
        ("google/gemini-2.5-pro", "gemini", "/gemini/v1beta"),
        ("", "anthropic", "/anthropic/v1"),
    ],
)
def test_opencodes_model_says_whose_api_it_asks_and_it_can_ask_no_other(model, provider, url):
    adapter = registry.adapter("opencode")
    asked = adapter.provider(model)
    access = replace(ACCESS, provider=asked.value, base_url=f"http://127.0.0.1:3128/{asked.value}")
    launch = adapter.launch(TurnRequest("Do it.", model=model), access)
    (config,) = map(json.loads, launch.files.values())

    assert asked == provider
    assert config["enabled_providers"] == list(config["provider"]) == [config["model"].partition("/")[0]]
    assert config["provider"][config["enabled_providers"][0]]["options"]["baseURL"] == f"http://127.0.0.1:3128{url}"
    assert launch.acp["prompt"][0]["_meta"] == {"asynccode/model": (model or "anthropic/claude-opus-5-5").partition("/")[2]}
