"""What goes through the broker, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from agents.grants import Refusal

from ._broker import ASKS, SECRET, SSE, STREAMS, TOKEN, World, asked_provider
from ._provider import until

# What goes through


async def test_a_stream_arrives_as_it_is_made(world: World) -> None:
    """Each of a hundred pieces is read before the provider sends the next."""
    gates = [asyncio.Event() for _ in range(100)]
    pieces = [b"data: %d\n\n" % number for number in range(100)]
    world.provider.headers = SSE
    world.provider.pieces = [each for pair in zip(pieces, gates, strict=True) for each in pair]
    await world.start()
    path, body = ASKS["anthropic"]
    async with world.client() as client, client.stream("POST", path, json=body) as answer:
        stream = answer.aiter_raw()
        for piece, gate in zip(pieces, gates, strict=True):
            assert await anext(stream) == piece
            gate.set()
        assert [piece async for piece in stream] == []


@pytest.mark.parametrize(
    ("api", "header", "value"),
    [
        ("anthropic", "x-api-key", SECRET),
        ("responses", "authorization", f"Bearer {SECRET}"),
        ("chat", "authorization", f"Bearer {SECRET}"),
        ("gemini", "x-goog-api-key", SECRET),
    ],
)
@pytest.mark.parametrize("way", ["x-api-key", "bearer", "x-goog-api-key", "query"])
async def test_the_token_is_taken_and_the_key_is_sent(world: World, api: str, header: str, value: str, way: str) -> None:
    await world.start()
    path, body = ASKS[api]
    headers = {
        "x-api-key": {"x-api-key": TOKEN},
        "bearer": {"authorization": f"Bearer {TOKEN}"},
        "x-goog-api-key": {"x-goog-api-key": TOKEN},
    }
    async with world.client() as client:
        del client.headers["x-api-key"]
        if way == "query":
            path += ("&" if "?" in path else "?") + f"key={TOKEN}"
        answer = await client.post(path, json=body, headers=headers.get(way, {}))
    assert answer.status_code == 200
    [asked] = world.provider.asked
    assert asked.header(header) == value
    assert TOKEN not in repr(asked)
    assert world.opened == [("i:2:1", TOKEN, asked_provider(api))]


async def test_a_subscriptions_token_goes_its_own_way(world: World) -> None:
    world.key = {"is_subscription": True}
    await world.start()
    await world.ask(headers={"anthropic-beta": "one-1,two-2", "anthropic-version": "2023-06-01"})
    [asked] = world.provider.asked
    assert asked.header("authorization") == f"Bearer {SECRET}"
    assert asked.header("anthropic-beta") == "one-1,two-2,oauth-2025-04-20"
    assert asked.header("anthropic-version") == "2023-06-01"
    assert asked.header("x-api-key") == ""


async def test_only_headers_that_are_on_the_list_go_either_way(world: World) -> None:
    world.provider.headers = {
        "content-type": "application/json",
        "request-id": "r1",
        "retry-after": "7",
        "anthropic-ratelimit-requests-remaining": "9",
        "set-cookie": "a=b",
        "server": "x",
        "x-internal": "y",
        "location": "z",
        "connection": "keep-alive",
    }
    await world.start()
    sent = {
        "cookie": "c=d",
        "x-forwarded-for": "1.1.1.1",
        "authorization": "Bearer other",
        "host": "evil.example",
        "user-agent": "parrot/1",
    }
    answer = await world.ask(headers=[*sent.items(), ("x-hop", "1"), ("connection", "x-api-key")])
    [asked] = world.provider.asked
    assert {name.lower() for name, _ in asked.headers} == {
        *("host", "content-type", "accept", "user-agent", "x-api-key", "accept-encoding", "content-length")
    }
    assert asked.header("host") == f"127.0.0.1:{world.port}"
    assert asked.header("user-agent") == "parrot/1"
    assert set(answer.headers) == {
        "content-type",
        "request-id",
        "retry-after",
        "anthropic-ratelimit-requests-remaining",
        "transfer-encoding",
    }


async def test_a_path_and_a_version_may_belong_to_the_keys_address(world: World) -> None:
    await world.start()
    for path in ("", "/", "/v1", "/proxy/v1/", "/proxy"):
        world.key = {"base_url": f"http://127.0.0.1:{world.port}{path}"}
        await world.ask("responses")
    lines = [asked.line for asked in world.provider.asked]
    assert lines == [f"POST {path}/v1/responses HTTP/1.1" for path in ("", "", "", "/proxy", "/proxy")]


async def test_connections_to_the_provider_are_kept(world: World) -> None:
    await world.start()
    for _ in range(3):
        assert (await world.ask()).status_code == 200
    assert (len(world.provider.asked), world.provider.connections) == (3, 1)


async def test_what_is_known_of_a_query_goes_on(world: World) -> None:
    await world.start()
    async with world.client() as client:
        await client.post("/anthropic/v1/messages?beta=true&x=y&key=z", json={})
        await client.get("/openai/v1/models?x=y")
    assert [asked.line for asked in world.provider.asked] == ["POST /v1/messages?beta=true HTTP/1.1", "GET /v1/models HTTP/1.1"]


async def test_a_gateway_that_is_started_anew_goes_on(world: World) -> None:
    world.provider.headers, world.provider.pieces = SSE, [STREAMS["anthropic"]]
    await world.stop(await world.start())
    await world.start()
    assert (await world.ask()).status_code == 200
    assert len(world.calls) == 1


# What does not


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/anthropic/v1/messages"),
        ("POST", "/anthropic/v1/messages/batches"),
        ("POST", "/anthropic/v1/messages/../files"),
        ("POST", "/anthropic/v1%2Fmessages"),
        ("POST", "/anthropic//v1/messages"),
        ("POST", "/anthropic/v1/messages/"),
        ("POST", "/anthropic/v1/complete"),
        ("GET", "/anthropic/v1/organizations/users"),
        ("DELETE", "/anthropic/v1/models"),
        ("POST", "/openai/v1/files"),
        ("GET", "/openai/v1/responses/resp_1"),
        ("POST", "/openai/v1/responses/resp_1/cancel"),
        ("POST", "/openai/v1/images/generations"),
        ("GET", "/gemini/v1beta/models/parrot:generateContent"),
        ("POST", "/gemini/v1beta/models/parrot:batchGenerateContent"),
        ("POST", "/gemini/v1beta/models/../files:generateContent"),
        ("POST", "/gemini/v1beta/models/a/b:generateContent"),
        ("POST", "/gemini/upload/v1beta/files"),
        ("GET", "/"),
        ("GET", "/other/v1/messages"),
        ("POST", "/v1/messages"),
    ],
)
async def test_every_other_path_is_404_and_asks_nobody(world: World, method: str, path: str) -> None:
    await world.start()
    reader, writer = await asyncio.open_unix_connection(world.root / "box" / "gateway" / "gateway.sock")
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nx-api-key: {TOKEN}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"asynccode: " in answer
    assert world.opened == []
    assert world.provider.asked == []


@pytest.mark.parametrize("path", ["/anthropic", "/anthropic/", "/openai/", "/gemini/"])
async def test_whoever_looks_whether_an_api_is_there_finds_it(world: World, path: str) -> None:
    await world.start()
    async with world.client() as client:
        assert (await client.head(path)).status_code == 200
        assert (await client.get(path)).status_code == 200
    assert world.provider.asked == []


@pytest.mark.parametrize("api", ASKS)
async def test_a_refusal_is_said_as_the_provider_would_say_it(world: World, api: str) -> None:
    async def refuse(*_: str) -> Refusal:
        return Refusal(403, "asynccode: This turn is over.")

    world.answer = refuse
    await world.start()
    answer = await world.ask(api)
    error = answer.json()["error"]
    assert (answer.status_code, error["message"]) == (403, "asynccode: This turn is over.")
    expected = {
        "anthropic": {"type": "error", "error": {"type": "permission_error", "message": error["message"]}},
        "openai": {"error": {"message": error["message"], "type": "invalid_request_error", "param": None, "code": None}},
        "gemini": {"error": {"code": 403, "message": error["message"], "status": "PERMISSION_DENIED"}},
    }
    assert answer.json() == expected[asked_provider(api)]
    assert (world.provider.asked, world.calls) == ([], [])


async def test_a_database_that_is_away_is_said_to_be(world: World) -> None:
    async def fail(*_: str) -> Refusal:
        raise ConnectionError("the database is away")

    world.answer = fail
    await world.start()
    answer = await world.ask()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["message"].startswith("asynccode: The database cannot be asked just now.")


async def test_a_sandbox_that_asks_often_holds_up_no_other(world: World) -> None:
    """No more than two of its questions are with the database at a time."""
    gate, most, now = asyncio.Event(), 0, 0

    async def count(*_: str) -> Refusal:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await gate.wait()
        now -= 1
        return Refusal(403, "asynccode: This turn is over.")

    world.answer = count
    await world.start()
    asking = [asyncio.create_task(world.ask()) for _ in range(20)]
    await until(lambda: most == 2)
    gate.set()
    assert {answer.status_code for answer in await asyncio.gather(*asking)} == {403}
    assert (most, len(world.opened)) == (2, 20)


async def test_smuggled_requests_stay_bodies(world: World) -> None:
    """A body that holds a request is a body, and a header that ends a line is refused."""
    await world.start()
    inner = b"POST /v1/files HTTP/1.1\r\nHost: x\r\n\r\n"

    async def pieces() -> AsyncIterator[bytes]:
        yield inner

    assert (await world.ask(content=pieces(), json=None)).status_code == 200
    [asked] = world.provider.asked
    assert (asked.line, asked.body) == ("POST /v1/messages?beta=true HTTP/1.1", inner)
    reader, writer = await asyncio.open_unix_connection(world.root / "box" / "gateway" / "gateway.sock")
    writer.write(f"POST /anthropic/v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: {TOKEN}\r\nAccept: a\nx-evil: 1\r\n\r\n".encode())
    assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert len(world.provider.asked) == 1


async def test_requests_in_the_background_are_refused_because_they_could_not_be_counted(world: World) -> None:
    await world.start()
    answer = await world.ask("responses", content=b'{"background": false, "background": true}', json=None)
    assert (answer.status_code, world.provider.asked) == (400, [])
    assert "in the background" in answer.json()["error"]["message"]
    await world.ask("responses", content=b'{"background": true, "background": false}', json=None)
    assert world.provider.asked[0].body == b'{"background": false}'
