"""The broker behind a gateway's socket, before a provider on loopback: what goes through, what does not, what is counted."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gzip
import ipaddress
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agents import upstream
from agents.broker import Broker
from agents.grants import Call, Grant, Key, Refusal
from agents.upstream import NotAllowed, Upstream
from sandboxes.addresses import Addresses
from sandboxes.egress import PolicyError
from sandboxes.gateway import Bounds, Gateway

from ._provider import ANTHROPIC, CHAT, GEMINI, RESPONSES, Provider, sse, until

TOKEN, SECRET = "act-1-1-token", "sk-the-real-key"
ASKS = {
    "anthropic": ("/anthropic/v1/messages?beta=true", {"model": "parrot", "messages": [], "stream": True}),
    "responses": ("/openai/v1/responses", {"model": "parrot", "input": "hi", "stream": True}),
    "chat": ("/openai/v1/chat/completions", {"model": "parrot", "messages": [], "stream": True}),
    "gemini": ("/gemini/v1beta/models/parrot:streamGenerateContent?alt=sse", {"contents": []}),
}
STREAMS = {"anthropic": sse(*ANTHROPIC), "responses": sse(*RESPONSES), "chat": sse(*CHAT), "gemini": sse(*GEMINI)}
SSE = {"content-type": "text/event-stream; charset=utf-8"}


class World:
    """A provider, a broker in a gateway, and clients in a sandbox called `box`."""

    def __init__(self, folder: Path) -> None:
        self.provider = Provider()
        self.port = 0
        self.root = folder / "sandboxes"
        self.allowed: list[str] = []
        self.key: dict[str, Any] = {}
        self.opened: list[tuple[str, str, str]] = []
        self.calls: list[Call] = []
        self.answer: Callable[[str, str, str], Awaitable[Grant | Refusal]] | None = None
        self.failures = 0  # of `record`, before it works
        self.stack = contextlib.AsyncExitStack()

    async def open(self, key: str, token: str, provider: str) -> Grant | Refusal:
        self.opened.append((key, token, provider))
        if self.answer is not None:
            return await self.answer(key, token, provider)
        if token != TOKEN:
            return Refusal(401, "asynccode: This token is not one of this sandbox.")
        return Grant(1, 2, 3, Key(**{"provider": provider, "secret": SECRET, "base_url": f"http://127.0.0.1:{self.port}"} | self.key))

    async def record(self, grant: Grant, call: Call) -> None:
        assert (grant.turn_id, grant.run_id, grant.user_id) == (1, 2, 3)
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the database is away")
        self.calls.append(call)

    async def start(self, **options: Any) -> asyncio.Task[None]:
        """Also a second time, beside the first: as a gateway that takes over."""
        addresses = Addresses(self.allowed)

        async def resolve(scheme: str, host: str, port: int) -> list[str]:
            try:
                return await addresses(scheme, host, port)
            except PolicyError as error:
                raise NotAllowed(str(error)) from None

        broker = Broker(open=self.open, record=self.record, upstream=Upstream(resolve, **options), retry_s=(0.01, 0.01))
        gateway = Gateway(self.root, on_attempt=lambda key, attempt: None, bounds=Bounds(scan_s=0.01), service=broker)
        task = asyncio.create_task(gateway.serve())
        self.stack.push_async_callback(broker.close)
        self.stack.push_async_callback(self.stop, task)
        socket = self.root / "box" / "gateway" / "gateway.sock"
        before = socket.stat().st_ino if socket.exists() else 0
        await until(lambda: socket.exists() and socket.stat().st_ino != before)
        return task

    async def stop(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.wait({task})

    def client(self) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(uds=str(self.root / "box" / "gateway" / "gateway.sock"))
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:3128", headers={"x-api-key": TOKEN}, timeout=10)

    async def ask(self, api: str = "anthropic", **options: Any) -> httpx.Response:
        path, body = ASKS[api]
        async with self.client() as client:
            return await client.post(path, **{"json": body} | options)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    folder = world.root / "box"
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "spec.json").write_text(json.dumps({"key": "i:2:1", "network": {"mode": "none", "hosts": []}}))
    (folder / "gateway").mkdir()
    server = await asyncio.start_server(world.provider, "127.0.0.1", 0)
    world.port = server.sockets[0].getsockname()[1]
    world.allowed = [f"127.0.0.1:{world.port}"]
    async with world.stack:
        yield world
    server.close()


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


def asked_provider(api: str) -> str:
    return {"responses": "openai", "chat": "openai"}.get(api, api)


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


# Where it goes


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("https://127.0.0.1:{port}", "leads to a private or reserved address"),
        ("https://[::1]:{port}", "leads to a private or reserved address"),
        ("https://169.254.169.254", "leads to a private or reserved address"),
        ("https://localhost:{port}", "leads to a private or reserved address"),
        ("http://127.0.0.1:{port}", "is asked without encryption"),
        ("http://93.184.215.14", "is asked without encryption"),
        ("ftp://127.0.0.1", "is not one of an API"),
        ("https://me@127.0.0.1", "is not one of an API"),
        ("https://127.0.0.1/?a=b", "is not one of an API"),
        ("https://127.0.0.1:99999999", "is not one of an API"),
        ("nonsense", "is not one of an API"),
    ],
)
async def test_private_and_plain_addresses_are_refused_unless_the_operator_allows_them(world: World, url: str, sentence: str) -> None:
    world.allowed = []
    world.key = {"base_url": url.format(port=world.port)}
    await world.start()
    answer = await world.ask()
    assert answer.status_code == 502
    assert sentence in answer.json()["error"]["message"]
    assert (world.provider.connections, [call.status for call in world.calls]) == (0, [502])


async def test_a_name_is_connected_to_at_the_address_that_was_judged(world: World) -> None:
    looked_up = []

    async def lookup(host: str, port: int) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"] if len(looked_up) == 1 else ["10.0.0.1"]

    addresses = Addresses([f"models.example:{world.port}"], lookup=lookup)
    sending = Upstream(addresses)
    answer = await sending.send("GET", upstream.Address.of(f"http://models.example:{world.port}"), "/v1/models", [], b"")
    assert (answer.status, looked_up) == (200, ["models.example"])
    await answer.close()
    await sending.close()
    assert world.provider.asked[0].header("host") == f"models.example:{world.port}"


async def test_a_redirect_is_not_followed(world: World) -> None:
    world.provider.status = "307 Temporary Redirect"
    world.provider.headers = {"location": f"http://127.0.0.1:{world.port}/elsewhere"}
    await world.start()
    answer = await world.ask()
    assert answer.status_code == 502
    assert "answered with status 307" in answer.json()["error"]["message"]
    assert (len(world.provider.asked), "location" in answer.headers) == (1, False)


@pytest.mark.parametrize("is_known", [True, False])
async def test_only_a_certificate_that_somebody_vouches_for_is_taken(world: World, tmp_path: Path, is_known: bool) -> None:
    certificate = certify(tmp_path, "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server = await asyncio.start_server(world.provider, "127.0.0.1", 0, ssl=context)
    world.port = server.sockets[0].getsockname()[1]
    world.key, world.allowed = {"base_url": f"https://127.0.0.1:{world.port}"}, [f"127.0.0.1:{world.port}"]
    await world.start(**({"tls": ssl.create_default_context(cafile=str(certificate))} if is_known else {}))
    assert (await world.ask()).status_code == (200 if is_known else 502)
    assert len(world.provider.asked) == is_known
    server.close()


def certify(folder: Path, address: str) -> Path:
    """A certificate for an address that nobody but itself vouches for, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, address)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "certificate.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + pem)
    return path


async def test_a_client_that_leaves_while_tls_is_greeted_leaves_no_connection(world: World) -> None:
    world.key = {"base_url": f"https://127.0.0.1:{world.port}"}  # which speaks no TLS, and waits for more
    await world.start()
    asking = asyncio.create_task(world.ask())
    await until(lambda: world.provider.open == 1)
    asking.cancel()
    await until(lambda: world.provider.open == 0)


async def test_a_provider_that_cannot_be_reached_is_said_so(world: World) -> None:
    world.key = {"base_url": "http://127.0.0.1:9"}
    world.allowed = ["127.0.0.1:9"]
    await world.start()
    answer = await world.ask()
    assert (answer.status_code, answer.json()["error"]["message"]) == (502, "asynccode: 127.0.0.1:9 cannot be reached from here.")


async def test_a_provider_that_never_answers_is_given_up(world: World) -> None:
    world.provider.holds = asyncio.Event()
    await world.start(read_s=0.1)
    answer = await world.ask()
    assert (answer.status_code, [call.status for call in world.calls]) == (504, [504])
    assert "did not answer in time" in answer.json()["error"]["message"]


# What is counted


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
