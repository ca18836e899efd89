"""The scripted model: what it answers in each format, and what it can be told to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.models.server import KEY, ModelServer

SHELL = {"type": "object", "properties": {"command": {"type": "string"}}}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/messages": {"tools": [{"name": "Bash", "input_schema": SHELL}]},
    "/v1/responses": {"tools": [{"type": "function", "name": "shell_command", "parameters": SHELL}]},
    "/v1/chat/completions": {"tools": [{"type": "function", "function": {"name": "bash", "parameters": SHELL}}]},
    "/v1beta/models/m:streamGenerateContent?alt=sse": {
        "tools": [{"functionDeclarations": [{"name": "run_shell_command", "parametersJsonSchema": SHELL}]}]
    },
}
PATHS = list(BODIES)


def messages(path: str, *said: str, model: str = "m") -> dict[str, Any]:
    """The beginning of a conversation in the format of `path`; "<" stands for a tool's result."""
    if "Generate" in path:
        result = {"functionResponse": {"name": "x", "response": {}}}
        rows = [{"role": "user", "parts": [result if text == "<" else {"text": text}]} for text in said]
        return {"contents": rows}
    if "responses" in path:
        rows = [
            {"type": "function_call_output", "call_id": "c", "output": ""}
            if text == "<"
            else {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
            for text in said
        ]
        return {"model": model, "stream": True, "input": rows}
    if "chat" in path:
        rows = [{"role": "tool", "content": ""} if text == "<" else {"role": "user", "content": text} for text in said]
    else:
        rows = [{"role": "user", "content": [{"type": "tool_result"} if text == "<" else {"type": "text", "text": text}]} for text in said]
    return {"model": model, "stream": True, "messages": rows}


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="module")
def client(server: ModelServer) -> Iterator[httpx.Client]:
    headers = {"x-api-key": KEY, "x-goog-api-key": KEY, "authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=10, trust_env=False) as client:
        yield client


def ask(client: httpx.Client, path: str, *said: str, **options: Any) -> httpx.Response:
    return client.post(path, json=BODIES[path] | messages(path, *said, **options))


@pytest.mark.parametrize("path", PATHS)
def test_a_script_goes_on_with_each_result_of_a_tool(client: httpx.Client, path: str) -> None:
    prompt = "[[run echo one]] [[run echo two]]"
    assert "echo one" in ask(client, path, prompt).text
    assert "echo two" in ask(client, path, prompt, "<").text
    assert "done." in ask(client, path, prompt, "<", "<").text


@pytest.mark.parametrize("path", PATHS)
def test_the_newest_prompt_counts(client: httpx.Client, path: str) -> None:
    assert "second" in ask(client, path, "[[say first]]", "<", "[[say second]]").text


@pytest.mark.parametrize("path", PATHS)
def test_text_comes_in_pieces_as_it_is_written(client: httpx.Client, server: ModelServer, path: str) -> None:
    gate = f"half{PATHS.index(path)}"
    prompt = f"[[say before]] [[gate {gate}]] [[say after]]"
    with client.stream("POST", path, json=BODIES[path] | messages(path, prompt)) as response:
        pieces = response.iter_text()
        seen = ""
        while "before" not in seen:
            seen += next(pieces)
        assert "after" not in seen
        server.open(gate)
        assert "after" in "".join(pieces)


@pytest.mark.parametrize("path", PATHS)
def test_the_usage_is_told(client: httpx.Client, path: str) -> None:
    figures = set(re.findall(r'"(?:output_tokens|completion_tokens|totalTokenCount)": (\d+)', ask(client, path, "[[spend 1000000]]").text))
    assert figures & {"1000000", "1001000"}


@pytest.mark.parametrize(
    ("marker", "statuses"),
    [
        ("[[status 401]]", (401, 401, 401, 400)),
        ("[[status 529]]", (529, 503, 503, 503)),
        ("[[status 404]]", (404, 404, 404, 404)),
        ("[[credit]]", (400, 429, 429, 429)),
        ("[[context]]", (400, 400, 400, 400)),
    ],
)
def test_errors_are_those_of_the_vendors(client: httpx.Client, marker: str, statuses: tuple[int, ...]) -> None:
    answers = [ask(client, path, marker) for path in PATHS]
    assert tuple(answer.status_code for answer in answers) == statuses
    assert all(json.loads(answer.text)["error"]["message"] for answer in answers)


@pytest.mark.parametrize("path", PATHS)
def test_a_refusal_can_be_for_once(client: httpx.Client, path: str) -> None:
    prompt = f"[[status 429 then ok]] once {path}"
    assert [ask(client, path, prompt).status_code for _ in range(3)] == [429, 200, 200]


@pytest.mark.parametrize("path", PATHS)
def test_an_answer_can_be_cut_once(client: httpx.Client, path: str) -> None:
    prompt = f"[[cut]] {path}"
    with pytest.raises(httpx.RemoteProtocolError):
        ask(client, path, prompt)
    assert "cut." in ask(client, path, prompt).text


@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_key_and_an_unknown_model_are_refused(client: httpx.Client, server: ModelServer, path: str) -> None:
    wrong = {"x-api-key": "wrong", "x-goog-api-key": "wrong", "authorization": "Bearer wrong"}
    answer = client.post(path, json=BODIES[path] | messages(path, "hello"), headers=wrong)
    assert answer.status_code == (400 if "Generate" in path else 401)
    assert server.requests[-1].key == "wrong"
    unknown = path.replace("/m:", "/no-such-model:")
    assert client.post(unknown, json=BODIES[path] | messages(path, "hello", model="no-such-model")).status_code == 404


def test_requests_are_remembered(client: httpx.Client, server: ModelServer) -> None:
    ask(client, "/v1/messages", "[[say remembered]]")
    (seen,) = server.asked("remembered")
    assert (seen.method, seen.path, seen.wire, seen.key, seen.model, seen.status) == ("POST", "/v1/messages", "anthropic", KEY, "m", 200)


def test_keys_can_be_checked_by_the_list_of_models(client: httpx.Client) -> None:
    assert client.get("/v1/models?limit=1", headers={"anthropic-version": "2023-06-01"}).json()["has_more"] is False
    assert client.get("/v1/models").json()["object"] == "list"
    assert client.get("/v1beta/models?pageSize=1").json()["models"]
    refused = httpx.get(client.base_url.join("/v1/models"), headers={"authorization": "Bearer no"}, trust_env=False)
    assert refused.status_code == 401


def test_it_can_refuse_to_be_connected_to(server: ModelServer) -> None:
    server.refuse()
    with pytest.raises(httpx.ConnectError):
        httpx.head(server.url, trust_env=False)
    server.accept()
    assert httpx.head(server.url, trust_env=False).status_code == 200
