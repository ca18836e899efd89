"""What calls took is recorded once each, whoever leaves; and what is said stays unsaid elsewhere."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging

import httpx
import pytest

from ._broker import ASKS, SECRET, SSE, STREAMS, TOKEN, World
from ._provider import ANTHROPIC, sse, until


@pytest.mark.parametrize("api", ASKS)
async def test_what_a_stream_took_is_recorded_once(world: World, api: str) -> None:
    world.provider.headers, world.provider.pieces = SSE, [STREAMS[api][:100], STREAMS[api][100:]]
    await world.start()
    assert (await world.ask(api)).content == STREAMS[api]
    [call] = world.calls
    assert (call.asked, call.status, call.is_whole) == ("parrot", 200, True)
    assert (call.input_tokens, call.cached_tokens, call.output_tokens) == (3210, 3000, 42)
    assert call.model.endswith("-parrot-1")
    assert 0 < call.seconds < 5


async def test_a_chat_that_streams_is_asked_to_tell_its_usage(world: World) -> None:
    await world.start()
    await world.ask("chat")
    await world.ask("chat", json={"model": "parrot", "messages": ["ü"]})
    first, second = (asked.json for asked in world.provider.asked)
    assert first == {**ASKS["chat"][1], "stream_options": {"include_usage": True}}
    assert second == {"model": "parrot", "messages": ["ü"]}


async def test_an_answer_that_came_compressed_is_read_and_passed_on_plain(world: World) -> None:
    body = json.dumps({**ANTHROPIC[0]["message"], "content": ["x" * 100_000]}).encode()
    packed = gzip.compress(body)
    world.provider.headers = {"content-type": "application/json", "content-encoding": "gzip"}
    world.provider.pieces = [packed[:10], packed[10:]]
    await world.start()
    answer = await world.ask()
    assert (answer.content, "content-encoding" in answer.headers) == (body, False)
    assert world.provider.asked[0].header("accept-encoding") == "identity"
    assert world.calls[0].input_tokens == 3210


@pytest.mark.parametrize("coding", ["br", "gzip"])
async def test_an_answer_that_cannot_be_read_is_cut(world: World, coding: str) -> None:
    world.provider.headers, world.provider.pieces = {"content-encoding": coding}, [b"nonsense"]
    await world.start()
    with pytest.raises(httpx.RemoteProtocolError):
        await world.ask()
    await until(lambda: world.calls)
    assert not world.calls[0].is_whole


async def test_a_stream_that_breaks_off_is_seen_as_cut_and_counted_as_far_as_it_is_known(world: World) -> None:
    world.provider.headers, world.provider.pieces = SSE, [sse(*ANTHROPIC[:2]), b"!"]
    await world.start()
    with pytest.raises(httpx.RemoteProtocolError):
        await world.ask()
    await until(lambda: world.calls)
    [call] = world.calls
    assert (call.is_whole, call.input_tokens, call.output_tokens) == (False, 3210, 2)


async def test_a_client_that_leaves_in_the_middle_ends_the_request_and_is_counted_once(world: World) -> None:
    world.provider.headers, world.provider.pieces = SSE, [sse(*ANTHROPIC[:2]), asyncio.Event()]
    await world.start()
    path, body = ASKS["anthropic"]
    async with world.client() as client, client.stream("POST", path, json=body) as answer:
        await anext(answer.aiter_raw())
        assert world.provider.open == 1
    await until(lambda: world.provider.open == 0)
    await until(lambda: world.calls)
    [call] = world.calls
    assert (call.is_whole, call.status, call.input_tokens) == (False, 200, 3210)


async def test_a_client_that_leaves_before_the_answer_ends_the_request_and_is_counted_once(world: World) -> None:
    world.provider.holds = asyncio.Event()
    await world.start()
    asking = asyncio.create_task(world.ask())
    await until(lambda: world.provider.asked)
    asking.cancel()
    await until(lambda: world.provider.open == 0)
    await until(lambda: world.calls)
    assert [(call.status, call.is_whole) for call in world.calls] == [(499, False)]


async def test_a_client_that_hangs_up_after_the_last_message_got_all_of_it(world: World) -> None:
    world.provider.headers, world.provider.pieces = SSE, [STREAMS["anthropic"], asyncio.Event()]
    await world.start()
    path, body = ASKS["anthropic"]
    async with world.client() as client, client.stream("POST", path, json=body) as answer:
        await anext(answer.aiter_raw())
    await until(lambda: world.calls)
    assert [call.is_whole for call in world.calls] == [True]


async def test_a_gateway_that_is_stopped_in_the_middle_still_records(world: World) -> None:
    world.provider.headers, world.provider.pieces = SSE, [sse(*ANTHROPIC[:2]), asyncio.Event()]
    gateway = await world.start()
    path, body = ASKS["anthropic"]
    async with world.client() as client, client.stream("POST", path, json=body) as answer:
        await anext(answer.aiter_raw())
        await world.stop(gateway)
        await until(lambda: world.calls)
    assert [(call.is_whole, call.input_tokens) for call in world.calls] == [(False, 3210)]


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized", "429 Too Many Requests", "529 Overloaded"])
async def test_an_error_of_the_provider_comes_through_as_it_is(world: World, status: str) -> None:
    world.provider.status = status
    world.provider.headers = {"content-type": "application/json", "retry-after": "3", "x-should-retry": "true"}
    world.provider.pieces = [b'{"type":"error","error":{"type":"some_error","message":"No."}}']
    await world.start()
    answer = await world.ask()
    assert (answer.status_code, answer.json()["error"]["message"]) == (int(status[:3]), "No.")
    assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("3", "true")
    assert [(call.status, call.model, call.asked) for call in world.calls] == [(int(status[:3]), "", "parrot")]


@pytest.mark.parametrize(
    ("status", "words", "refused"),
    [
        ("401 Unauthorized", "No.", "auth"),
        ("429 Too Many Requests", "No.", "rate_limit"),
        ("429 Too Many Requests", "You exceeded your current quota.", "credit"),
        ("529 Overloaded", "No.", "overloaded"),
        ("400 Bad Request", "No.", ""),
    ],
)
async def test_what_an_error_of_the_provider_means_is_recorded(world: World, status: str, words: str, refused: str) -> None:
    world.provider.status = status
    world.provider.pieces = [json.dumps({"error": {"message": words}}).encode()]
    await world.start()
    await world.ask()
    assert [call.refused for call in world.calls] == [refused]


async def test_an_error_that_repeats_the_key_does_not_bring_it_into_the_sandbox(world: World) -> None:
    world.provider.status = "401 Unauthorized"
    world.provider.pieces = [b'{"error":{"message":"Incorrect API key: sk-the', b'-real-key."}}']
    await world.start()
    assert (await world.ask()).json()["error"]["message"] == "Incorrect API key: [key]."


async def test_what_costs_nothing_is_not_recorded(world: World) -> None:
    await world.start()
    async with world.client() as client:
        await client.post("/anthropic/v1/messages/count_tokens", json={})
        await client.post("/gemini/v1beta/models/parrot:countTokens", json={}, headers={"x-goog-api-key": TOKEN})
        await client.get("/openai/v1/models")
    assert (len(world.provider.asked), world.calls) == (3, [])


async def test_a_call_is_recorded_before_its_answer_ends(world: World) -> None:
    """So that whoever asks next finds the budgets as they are then."""
    world.provider.headers, world.provider.pieces = SSE, [STREAMS["anthropic"]]
    await world.start()
    for number in range(1, 6):
        await world.ask()
        assert len(world.calls) == number


async def test_a_record_that_fails_is_tried_again(world: World) -> None:
    world.failures = 2
    world.provider.headers, world.provider.pieces = SSE, [STREAMS["anthropic"]]
    await world.start()
    await world.ask()
    assert len(world.calls) == 1


async def test_nothing_that_is_said_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world.failures = 9
    world.provider.headers, world.provider.pieces = SSE, [b"data: what was answered\n\n", b"!"]
    await world.start()
    with pytest.raises(httpx.RemoteProtocolError):
        await world.ask(content=b"what was asked", json=None)
    await until(lambda: "was not recorded" in caplog.text)
    for word in (SECRET, TOKEN, "what was a"):
        assert word not in "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("httpcore"))
