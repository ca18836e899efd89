"""A step that is a client of the Agent Client Protocol, against a real process that speaks it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandboxes.inside._acp_wire import fitted
from sandboxes.inside.journal import LINE_MAX
from tests.sandboxes.inside._houses import PYTHON, House, processes_with, until

AGENT = Path(__file__).parent / "acp_agent.py"
OPTIONS = [
    {"optionId": "1", "name": "Always", "kind": "allow_always"},
    {"optionId": "2", "name": "Once", "kind": "allow_once"},
    {"optionId": "3", "name": "No", "kind": "reject_once"},
]


def agent(house: House, *acts: Any, play: dict[str, Any] | None = None, **wanted: Any) -> dict[str, Any]:
    """A step in which the scripted agent plays `acts`."""
    prompt = [{"type": "text", "text": json.dumps(acts)}]
    env = {"ACP_PLAY": json.dumps(play or {})}
    return {"argv": [PYTHON, str(AGENT), str(house.folder)], "env": env, "acp": {"prompt": prompt, **wanted}}


def said(house: House, kind: str | None = None) -> list[dict[str, Any]]:
    """The step's lines; a line that is no JSON fails."""
    lines = [json.loads(line) for line in house.lines()]
    return [line for line in lines if kind is None or line["acp"] == kind]


def ending(house: House) -> tuple[str | None, dict[str, Any] | None]:
    """What the last line says, which is the only one of its kind."""
    (end,) = said(house, "end")
    assert said(house)[-1] == end
    return end["stop_reason"], end["error"]


def chunks(house: House) -> list[str]:
    updates = [line["message"]["params"]["update"] for line in said(house, "in") if line["message"].get("method") == "session/update"]
    return [update["content"].get("text", "") for update in updates]


def methods(house: House) -> list[str]:
    """What we asked of the agent."""
    return [line["message"]["method"] for line in said(house, "out") if "method" in line["message"]]


def asked(house: House, method: str) -> list[dict[str, Any]]:
    return [line["message"]["params"] for line in said(house, "out") if line["message"].get("method") == method]


def wait_chunk(house: House, text: str) -> None:
    until(lambda: text in chunks(house))


def test_a_prompt_is_worked_on_and_its_end_is_the_step_s(each_house: House) -> None:
    end = each_house.run(agent(each_house, ["chunks", 100]))
    assert (end["reason"], end["code"], ending(each_house)) == ("exit", 0, ("end_turn", None))
    assert chunks(each_house) == [f"chunk {number}" for number in range(100)]
    assert methods(each_house) == ["initialize", "session/new", "session/prompt"]
    assert said(each_house, "session") == [{"acp": "session", "id": "new-1", "is_resumed": False}]
    greeting = asked(each_house, "initialize")[0]
    assert greeting["protocolVersion"] == 1
    assert greeting["clientCapabilities"] == {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False}
    assert asked(each_house, "session/new") == [{"cwd": str(each_house.workspace), "mcpServers": []}]
    assert asked(each_house, "session/prompt")[0]["sessionId"] == "new-1"


def test_every_message_is_in_the_journal_in_its_order(house: House) -> None:
    house.run(agent(house, ["ask", "what/ever", {}]))
    told = [(line["acp"], line["message"].get("method")) for line in said(house) if "message" in line]
    assert told[-5:] == [
        ("out", "session/prompt"), ("in", "what/ever"), ("out", None), ("in", "session/update"), ("in", None),
    ]  # fmt: skip


def test_a_session_that_stops_for_another_reason_fails_the_step(house: House) -> None:
    assert house.run(agent(house, ["stop", "max_tokens"]))["code"] == 1
    assert ending(house) == ("max_tokens", None)


def test_an_error_is_told_whole(house: House) -> None:
    error = {"code": -32603, "message": "Internal error", "data": {"details": "401"}}
    assert house.run(agent(house, ["error", error]))["code"] == 1
    assert ending(house) == (None, error)


def test_an_error_that_is_none_is_told_as_what_it_is(house: House) -> None:
    house.run(agent(house, ["error", "odd"]))
    assert ending(house) == (None, {"code": None, "message": "odd", "data": None})


@pytest.mark.parametrize(("allow", "chosen"), [(True, "2"), (False, "3")])
def test_a_permission_is_given_once_by_its_kind(house: House, allow: bool, chosen: str) -> None:
    house.run(agent(house, ["ask", "session/request_permission", {"toolCall": {}, "options": OPTIONS}], allow=allow))
    assert json.loads(chunks(house)[0]) == {"outcome": {"outcome": "selected", "optionId": chosen}}


@pytest.mark.parametrize("options", [OPTIONS[:1], [], [{"kind": "allow_once"}, "x", {"kind": ["allow_once"], "optionId": "1"}]])
def test_what_could_only_be_allowed_always_is_not(house: House, options: list[Any]) -> None:
    house.run(agent(house, ["ask", "session/request_permission", {"options": options}], allow=True))
    assert json.loads(chunks(house)[0]) == {"outcome": {"outcome": "cancelled"}}


@pytest.mark.parametrize("method", ["terminal/create", "cursor/ask_question", ""])
def test_a_request_that_we_do_not_know_is_answered(house: House, method: str) -> None:
    house.run(agent(house, ["ask", method, {}]))
    assert json.loads(chunks(house)[-1])["code"] == -32601
    assert ending(house) == ("end_turn", None)


def test_files_in_the_workspace_are_written_and_read(house: House) -> None:
    path = str(house.workspace / "new" / "größe.txt")
    house.run(
        agent(
            house,
            ["ask", "fs/write_text_file", {"path": path, "content": "one\ntwo\nthree\n"}],
            ["ask", "fs/read_text_file", {"path": path}],
            ["ask", "fs/read_text_file", {"path": path, "line": 2, "limit": 1}],
        )
    )
    assert [json.loads(chunk) for chunk in chunks(house)] == [{}, {"content": "one\ntwo\nthree\n"}, {"content": "two\n"}]
    assert b"+three" in house.patch()


@pytest.mark.parametrize(
    "path", ["{home}/x", "{workspace}/../home/x", "{workspace}/out/x", "{workspace}/file", "{workspace}", "relative", 5]
)
def test_nothing_outside_the_workspace_is_touched(house: House, path: Any) -> None:
    (house.home / "x").write_text("secret")
    script = f"ln -s {house.home} out; ln -s {house.home}/x file"
    given = path.format(home=house.home, workspace=house.workspace) if isinstance(path, str) else path
    acts = [["ask", "fs/write_text_file", {"path": given, "content": "taken"}], ["ask", "fs/read_text_file", {"path": given}]]
    house.run(script, agent(house, *acts))
    lines = [json.loads(line) for line in house.lines(step="step1")]
    answers = [line["message"] for line in lines if line["acp"] == "out" and "id" in line["message"] and "method" not in line["message"]]
    assert len(answers) == 2
    assert all("error" in answer for answer in answers)
    assert (house.home / "x").read_text() == "secret"


def test_files_that_are_none_do_not_hold_us(house: House) -> None:
    house.run(f"mkfifo {house.workspace}/pipe; true")
    paths = [f"{house.workspace}/pipe", f"{house.workspace}/missing", f"{house.workspace}/\ud800"]
    house.run(agent(house, *(["ask", "fs/read_text_file", {"path": path}] for path in paths)), turn=2)
    lines = [json.loads(record["line"]) for record in house.records("out", turn=2)]
    answers = [line["message"] for line in lines if line["acp"] == "out" and "error" in line["message"]]
    assert [answer["error"]["code"] for answer in answers] == [-32603] * 3
    assert lines[-1]["stop_reason"] == "end_turn"


def test_a_session_is_loaded_and_its_past_is_not_told_again(house: House) -> None:
    house.run(agent(house, ["chunks", 1], play={"able": {"loadSession": True}, "replays": 50}, session="old", resume="load"))
    assert chunks(house) == ["chunk 0"]
    replayed = said(house, "replay")
    assert len(replayed) == 50
    assert (replayed[0]["update"], set(replayed[0])) == ("agent_message_chunk", {"acp", "update", "bytes"})
    assert said(house, "session") == [{"acp": "session", "id": "old", "is_resumed": True}]
    assert methods(house) == ["initialize", "session/load", "session/prompt"]


def test_a_session_is_resumed(house: House) -> None:
    able = {"sessionCapabilities": {"resume": {}}}
    house.run(agent(house, play={"able": able}, session="old", resume="resume"))
    assert methods(house) == ["initialize", "session/resume", "session/prompt"]
    assert asked(house, "session/prompt")[0]["sessionId"] == "old"


def test_a_session_that_cannot_be_resumed_is_loaded(house: House) -> None:
    play = {
        "able": {"loadSession": True, "sessionCapabilities": {"resume": {}}},
        "refuses": {"session/resume": {"code": 1, "message": "No"}},
    }
    house.run(agent(house, play=play, session="old", resume="resume"))
    assert methods(house) == ["initialize", "session/resume", "session/load", "session/prompt"]
    assert said(house, "session")[0]["is_resumed"] is True


@pytest.mark.parametrize(
    "play",
    [{"able": {"loadSession": True}, "refuses": {"session/load": {"code": -32002, "message": "Not found"}}}, {"able": {}}, {"able": None}],
)
def test_a_session_that_cannot_be_gone_on_with_is_begun_anew(house: House, play: dict[str, Any]) -> None:
    house.run(agent(house, ["chunks", 1], play=play, session="old", resume="load"))
    assert said(house, "session") == [{"acp": "session", "id": "new-1", "is_resumed": False}]
    assert (chunks(house), ending(house)) == (["chunk 0"], ("end_turn", None))


def test_an_agent_that_dies_while_it_loads_is_an_error(house: House) -> None:
    house.run(agent(house, play={"able": {"loadSession": True}, "dies_on_load": True}, session="old", resume="load"))
    assert ending(house)[1]["message"] == "The agent ended with exit code 4 before it had answered."


def test_mode_model_options_and_authentication_are_set_before_the_prompt(house: House) -> None:
    wanted = {"auth": "key", "mode": "yolo", "model": "m1", "config": {"fast": True, "effort": "high"}}
    house.run(agent(house, play={"session": {"modes": {"currentModeId": "ask"}}}, **wanted))
    calls = ["authenticate", "session/new", "session/set_mode", "session/set_model", *["session/set_config_option"] * 2]
    assert methods(house) == ["initialize", *calls, "session/prompt"]
    assert asked(house, "session/set_mode") == [{"sessionId": "new-1", "modeId": "yolo"}]
    assert asked(house, "session/set_model") == [{"sessionId": "new-1", "modelId": "m1"}]
    assert asked(house, "session/set_config_option") == [
        {"sessionId": "new-1", "configId": "fast", "value": True, "type": "boolean"},
        {"sessionId": "new-1", "configId": "effort", "value": "high"},
    ]


def test_what_is_so_already_is_not_set(house: House) -> None:
    options = [{"id": "effort", "currentValue": "high"}, {"id": "llm", "category": "model", "currentValue": "m1"}]
    session = {"modes": {"currentModeId": "yolo"}, "configOptions": options}
    house.run(agent(house, play={"session": session}, mode="yolo", model="m1", config={"effort": "high"}))
    assert methods(house) == ["initialize", "session/new", "session/prompt"]


def test_a_model_among_the_options_is_set_there(house: House) -> None:
    session = {"configOptions": [{"id": "llm", "category": "model", "currentValue": "m0"}]}
    house.run(agent(house, play={"session": session}, model="m1"))
    assert asked(house, "session/set_config_option") == [{"sessionId": "new-1", "configId": "llm", "value": "m1"}]


@pytest.mark.parametrize("method", ["initialize", "authenticate", "session/new", "session/set_mode", "session/set_model"])
def test_what_cannot_be_set_ends_the_turn_before_the_prompt(house: House, method: str) -> None:
    play = {"refuses": {method: {"code": -32000, "message": "No, thanks"}}}
    assert house.run(agent(house, play=play, auth="key", mode="yolo", model="m1"))["code"] == 1
    assert ending(house) == (None, {"code": -32000, "message": "No, thanks", "data": None})
    assert "session/prompt" not in methods(house)


def test_another_version_of_the_protocol_is_an_error(house: House) -> None:
    house.run(agent(house, play={"version": 2}))
    assert ending(house)[1]["message"] == "The agent speaks version 2 of the protocol, not 1."


def test_secrets_of_mcp_servers_are_not_told(house: House) -> None:
    server = {"name": "tools", "command": "x", "args": [], "env": [{"name": "TOKEN", "value": "s3cret"}]}
    house.run(agent(house, ["chunks", 1], mcp_servers=[server]))
    assert asked(house, "session/new")[0]["mcpServers"] == [{"name": "tools"}]
    assert b"s3cret" not in house.journal.read_bytes()


@pytest.mark.parametrize("act", [["hang"], ["hang", "error"]])
@pytest.mark.parametrize("do", ["interrupt", "stop"])
def test_a_cancel_reaches_the_agent_and_whatever_it_answers_is_one(house: House, do: str, act: list[str]) -> None:
    house.turn(agent(house, act), term_grace_s=2.0)
    wait_chunk(house, "hanging")
    assert house.ask(do) == {"ok": True}
    end = house.end()
    assert (end["reason"], end["code"]) == ("stop" if do == "stop" else "exit", 1)
    assert (chunks(house)[-1], ending(house)) == ("canceled", ("cancelled", None))
    assert methods(house)[-1] == "session/cancel"


@pytest.mark.parametrize("do", ["interrupt", "stop"])
def test_an_agent_that_hangs_after_a_cancel_is_left(house: House, do: str) -> None:
    house.turn(agent(house, ["deaf"]), term_grace_s=1.0)
    wait_chunk(house, "hanging")
    started = time.monotonic()
    house.ask(do)
    house.end()
    assert time.monotonic() - started < 9
    assert ending(house) == ("cancelled", None)
    assert not processes_with(str(AGENT))


@pytest.mark.parametrize("method", ["initialize", "session/new", "session/load"])
@pytest.mark.parametrize("do", ["interrupt", "stop"])
def test_a_cancel_before_the_prompt_is_the_end(house: House, do: str, method: str) -> None:
    play = {"hangs_at": method, "able": {"loadSession": True}}
    house.turn(agent(house, play=play, session="old" if method == "session/load" else "", resume="load"))
    until(lambda: method in methods(house))
    house.ask(do)
    house.end()
    assert (ending(house), "session/prompt" in methods(house)) == (("cancelled", None), False)


def test_a_permission_that_is_asked_for_after_a_cancel_is_canceled(house: House) -> None:
    request = {"method": "session/request_permission", "id": "own", "params": {"options": OPTIONS}}
    house.turn(agent(house, ["hang", request], allow=True), term_grace_s=2.0)
    wait_chunk(house, "hanging")
    house.ask("interrupt")
    house.end()
    answers = [line["message"]["result"] for line in said(house, "out") if line["message"].get("id") == "own"]
    assert answers == [{"outcome": {"outcome": "cancelled"}}]


def test_the_silence_clock_cancels_too(house: House) -> None:
    step = {**agent(house, ["hang"]), "silence_s": 0.8}
    assert house.run(step, term_grace_s=2.0)["reason"] == "silence"
    assert ending(house) == ("cancelled", None)


def test_an_agent_that_dies_in_the_middle_is_an_error(house: House) -> None:
    end = house.run(agent(house, ["chunks", 400], ["die", 7]))
    assert (end["reason"], end["code"], len(chunks(house)), house.lines("err")) == ("exit", 1, 400, ["I die."])
    assert ending(house) == (None, {"code": None, "message": "The agent ended with exit code 7 before it had answered.", "data": None})


def test_an_agent_that_is_killed_is_an_error(house: House) -> None:
    house.turn(agent(house, ["deaf"]))
    wait_chunk(house, "hanging")
    for pid in processes_with(str(AGENT)):
        os.kill(pid, signal.SIGKILL)
    house.end()
    assert ending(house)[1]["message"] == "The agent was killed by signal 9."


def test_an_agent_that_cannot_be_started_is_an_error_with_a_sentence(house: House) -> None:
    end = house.run({**agent(house), "argv": ["no-such-agent"]})
    sentence = "The command 'no-such-agent' could not be started: No such file or directory."
    assert (end["reason"], end["error"]) == ("error", sentence)
    assert ending(house) == (None, {"code": None, "message": sentence, "data": None})


def test_an_agent_for_which_no_process_is_left_is_an_error() -> None:
    script = """
import os
from sandboxes.inside import acp
from sandboxes.inside.limits import Limits

def refuse(): raise BlockingIOError(11, "Resource temporarily unavailable")

os.fork = refuse  # what a full pid cgroup makes of it
limits = Limits({})
acp.drive({"prompt": [{}]}, argv=["true"], env={}, cwd="/", files={}, limits=limits, workspace="/", grace_s=1.0)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=AGENT.parents[3], capture_output=True, text=True, timeout=20)
    error = {"code": None, "message": "Resource temporarily unavailable", "data": None}
    assert json.loads(done.stdout) == {"acp": "end", "stop_reason": None, "error": error}
    assert "BlockingIOError" in done.stderr


def test_limits_hold_for_the_agent_and_for_what_we_write_for_it(make_house: Callable[..., House]) -> None:
    house = make_house().start(limits='{"open_files": 100, "file_mb": 1}')
    write = ["ask", "fs/write_text_file", {"path": str(house.workspace / "big"), "content": "x" * 3_000_000}]
    house.run(agent(house, write, ["limits"]))
    refusal, limits = (json.loads(chunk) for chunk in chunks(house))
    assert (refusal, limits) == ({"code": -32603, "message": "File too large."}, [100, 1024 * 1024])
    assert ending(house) == ("end_turn", None)


def test_what_an_agent_prints_besides_is_noise(house: House) -> None:
    acts = [["print", text] for text in ("Hello!", "[1]", '{"a": NaN}', "", "[" * 100_000)]
    house.run(agent(house, *acts, ["chunks", 1]))
    noise = [line["text"] for line in said(house, "noise")]
    assert noise[:3] == ["Hello!", "[1]", '{"a": NaN}']
    assert (len(noise), len(noise[3]) < 5000) == (4, True)
    assert (chunks(house), ending(house)) == (["chunk 0"], ("end_turn", None))


def test_messages_that_make_no_sense_change_nothing(house: House) -> None:
    odd = [
        {"id": 99, "result": {}}, {"id": True, "result": {}}, {"id": [1], "result": {}}, {}, {"method": 5, "id": 1},
        {"method": "session/update", "params": 7}, {"method": "session/request_permission", "id": {"a": 1}, "params": {}},
        {"method": "fs/read_text_file", "id": "x", "params": []},
    ]  # fmt: skip
    house.run(agent(house, *(["print", json.dumps(message)] for message in odd), ["chunks", 1]))
    assert ending(house) == ("end_turn", None)


def test_a_message_of_many_megabytes_is_told_in_short(house: House) -> None:
    house.run(agent(house, ["huge", 8_000_000], ["chunks", 1]))
    assert not any("cut" in record for record in house.records("out"))
    image = next(line for line in said(house, "in") if "image/png" in json.dumps(line))["message"]["params"]["update"]["content"]
    assert image["data"].endswith("… [7934464 more characters]")
    assert (chunks(house)[-1], ending(house)) == ("chunk 0", ("end_turn", None))


def test_a_prompt_of_many_megabytes_arrives_and_is_told_in_short(house: House) -> None:
    step = agent(house, ["chunks", 1])
    step["acp"]["prompt"].append({"type": "image", "mimeType": "image/png", "data": "x" * 4_000_000})
    house.run(step)
    assert ending(house) == ("end_turn", None)
    assert not any("cut" in record for record in house.records("out"))


def deep(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = {"a": value}
    return value


RECORDS = [
    {"text": 'quote " and \\ ' * 200_000}, {"text": "ü" * 600_000}, {"texts": ["x" * 100] * 100_000}, {"\0" * 400_000: "\0" * 400_000},
    {"id": 5, "method": "m", "params": deep(5000)}, {"id": 5, "parts": [[1]] * 1_000_000}, {"text": "\ud800" * 10},
]  # fmt: skip


@pytest.mark.parametrize("message", RECORDS, ids=range(len(RECORDS)))
def test_a_line_is_whole_json_of_what_the_journal_takes(message: dict[str, Any]) -> None:
    line = fitted({"acp": "in", "message": message})
    assert len(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace")) <= LINE_MAX + 2
    told = json.loads(line)
    assert told["acp"] == "in"
    assert told["message"].get("id") == message.get("id")


def test_what_comes_after_the_end_does_not_count(house: House) -> None:
    house.run(agent(house, ["late"]))
    assert ending(house) == ("end_turn", None)


def test_an_agent_that_stays_after_the_end_is_killed(house: House) -> None:
    started = time.monotonic()
    house.run(agent(house, play={"stays": True}))
    assert time.monotonic() - started < 5
    assert not processes_with(str(AGENT))


@pytest.mark.parametrize("do", ["interrupt", "stop"])
def test_a_cancel_after_the_end_changes_nothing(house: House, do: str) -> None:
    house.turn(agent(house, play={"stays": True}))
    until(lambda: said(house, "end"))
    house.ask(do)
    house.end()
    assert ending(house) == ("end_turn", None)


def test_the_agent_dies_with_the_supervisor(house: House) -> None:
    house.turn(agent(house, ["deaf"]))
    wait_chunk(house, "hanging")
    os.kill(house.pid, signal.SIGKILL)
    house.process.wait()
    until(lambda: not processes_with(str(house.folder)))


def test_a_step_s_files_and_environment_are_the_agent_s(house: House) -> None:
    path = house.workspace / "settings.json"
    step = agent(house, ["ask", "fs/read_text_file", {"path": str(path)}])
    house.run({**step, "files": {str(path): "{}"}})
    assert json.loads(chunks(house)[0]) == {"content": "{}"}


@pytest.mark.parametrize(
    "fields",
    [
        {"acp": []}, {"acp": {}}, {"acp": {"prompt": []}}, {"acp": {"prompt": "x"}}, {"acp": {"prompt": 5}}, {"acp": {"prompt": None}},
        {"acp": {"prompt": ["x"]}},
        {"acp": {"prompt": [{}], "resume": "fork"}}, {"acp": {"prompt": [{}], "mode": 5}}, {"acp": {"prompt": [{}], "allow": 1}},
        {"acp": {"prompt": [{}], "config": []}}, {"acp": {"prompt": [{}], "mcp_servers": {}}}, {"acp": {"prompt": [{}]}, "stdin": True},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_a_sentence(house: House, fields: dict[str, Any]) -> None:
    reply = house.turn({"argv": ["true"], **fields})
    assert (reply["ok"], reply["error"]) == (False, "bad")
    assert "Agent Client Protocol" in reply["message"]
