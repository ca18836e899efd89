"""What an answer took is read as it passes, wherever it is cut, whatever it holds."""

from __future__ import annotations

import json
from dataclasses import astuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.apis.base import Usage
from agents.apis.meter import MOST_BYTES, Meter
from agents.apis.registry import APIS

from ._provider import ANTHROPIC, CHAT, GEMINI, RESPONSES, sse

EXPECTED = {
    "anthropic": Usage("claude-parrot-1", True, 3210, 3000, 200, 42, 0),
    "openai": Usage("gpt-parrot-1", True, 3210, 3000, 0, 42, 20),
    "gemini": Usage("gemini-parrot-1", True, 3210, 3000, 0, 42, 20),
}
STREAMS = {
    "anthropic": sse(*ANTHROPIC, named=True),
    "responses": sse(*RESPONSES, named=True),
    "chat": sse(*CHAT),
    "gemini": sse(*GEMINI).replace(b"\n", b"\r\n"),
}
PROVIDERS = {"responses": "openai", "chat": "openai"}


def meter(api: str, *pieces: bytes, kind: str = "text/event-stream; charset=utf-8", end: bool = True) -> Usage:
    meter = Meter(APIS[PROVIDERS.get(api, api)], kind)
    for piece in pieces:
        meter.feed(piece)
    if end:
        meter.end()
    return meter.usage if end else meter.settle(b"")


@pytest.mark.parametrize("api", STREAMS)
@pytest.mark.parametrize("size", [1, 7, 64, 10**6])
def test_a_stream_tells_its_usage_wherever_it_is_cut_into_pieces(api: str, size: int) -> None:
    stream = STREAMS[api]
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert meter(api, *pieces) == EXPECTED[PROVIDERS.get(api, api)]


@pytest.mark.parametrize(
    ("api", "answer"),
    [
        ("anthropic", {**ANTHROPIC[0]["message"], "usage": {**ANTHROPIC[0]["message"]["usage"], "output_tokens": 42}}),
        ("responses", RESPONSES[-1]["response"]),
        ("chat", {**CHAT[1], "object": "chat.completion"}),
        ("gemini", GEMINI[-1]),
        ("gemini", GEMINI),
    ],
)
def test_an_answer_in_one_piece_tells_it_too(api: str, answer: object) -> None:
    body = json.dumps(answer, indent=1).encode()
    assert meter(api, body[:50], body[50:], kind="application/json") == EXPECTED[PROVIDERS.get(api, api)]


def test_a_cut_stream_tells_what_is_known() -> None:
    assert meter("anthropic", sse(*ANTHROPIC[:2]), end=False) == Usage("claude-parrot-1", False, 3210, 3000, 200, 2, 0)
    assert meter("gemini", sse(GEMINI[0]), end=False) == Usage("gemini-parrot-1", False, 3210, output_tokens=1)
    assert meter("responses", sse(*RESPONSES[:2]), end=False) == Usage(output_tokens=2)


def test_an_answer_that_was_cut_before_it_told_anything_is_guessed_from_below() -> None:
    """So that hanging up early spares no budget; pictures in a request are no text."""
    asked = b'{"input": "%s", "image": "data:image/png;base64,%s"}' % (b"a word " * 400, b"A" * 100_000)
    for api, pieces in (("responses", sse(*RESPONSES[:2])), ("chat", sse(*CHAT[:1]))):
        cut = Meter(APIS["openai"], "text/event-stream")
        cut.feed(pieces)
        usage = cut.settle(asked)
        assert (700 < usage.input_tokens < 800, usage.output_tokens) == (True, 2 if api == "responses" else 1)
    plain = Meter(APIS["openai"], "application/json")
    plain.feed(b"x" * 400)
    assert plain.settle(asked).output_tokens == 100
    assert Meter(APIS["openai"], "text/event-stream").settle(asked) == Usage(), "nothing was answered"


def test_a_response_that_failed_or_is_incomplete_is_paid_for() -> None:
    for end in ("response.failed", "response.incomplete"):
        assert meter("responses", sse({**RESPONSES[-1], "type": end})).input_tokens == 3210


def test_figures_of_a_delta_replace_those_of_the_start() -> None:
    delta = {"type": "message_delta", "usage": {"input_tokens": 5, "cache_read_input_tokens": 5, "output_tokens": 9}}
    assert meter("anthropic", sse(ANTHROPIC[0], delta)) == Usage("claude-parrot-1", False, 10, 5, 0, 9)


def test_a_message_that_is_too_long_tells_nothing_and_takes_no_memory() -> None:
    api = APIS["anthropic"]
    found = Meter(api, "text/event-stream")
    found.feed(b'data: {"usage": "')
    for _ in range(MOST_BYTES // 2**20 + 1):
        found.feed(bytes(2**20))
    found.feed(b'"}\n\n' + STREAMS["anthropic"])
    assert found.usage == EXPECTED["anthropic"]


@pytest.mark.parametrize("number", ["-1", "1e400", "true", '"12"', "null", "[]", "9" * 400])
def test_figures_that_are_none_count_for_nothing_and_huge_ones_are_bounded(number: str) -> None:
    usage = meter(
        "anthropic", b'data: {"type":"message_delta","usage":{"input_tokens":%s,"output_tokens":%s}}\n\n' % ((number.encode(),) * 2)
    )
    assert 0 <= usage.input_tokens <= 10**12
    assert 0 <= usage.output_tokens <= 10**12


@settings(deadline=None)
@given(st.sampled_from(sorted(STREAMS)), st.data())
def test_it_never_raises_on_a_mangled_stream(api: str, data: st.DataObject) -> None:
    stream = bytearray(STREAMS[api])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(stream)))
        stream[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    usage = meter(api, bytes(stream))
    assert all(isinstance(value, str | bool | int) for value in astuple(usage))


@settings(deadline=None)
@given(
    st.sampled_from(sorted(APIS)),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["type", "message", "usage", "response", "usageMetadata", "candidates", "object", "input_tokens", "model"]),
                inner,
            )
        ),
    ),
)
def test_it_never_raises_on_odd_json(provider: str, value: object) -> None:
    found = Meter(APIS[provider], "application/json")
    found.feed(json.dumps(value).encode())
    found.end()


@pytest.mark.parametrize("provider", APIS)
def test_it_never_raises_on_json_that_is_too_deep(provider: str) -> None:
    found = Meter(APIS[provider], "application/json")
    found.feed(b"[" * 100_000)
    found.end()
    assert found.usage == Usage()
