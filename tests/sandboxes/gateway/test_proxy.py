"""What goes out, what does not, and what is said about it."""

from __future__ import annotations

import asyncio
import datetime
import gc
import os
import shutil
import ssl
import urllib.request
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .conftest import PUBLIC, World, until

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def sentence(answer: bytes) -> str:
    return answer.split(b"\r\n\r\n", 1)[1].decode()


# The policy, as the one behind the socket sees it


async def test_a_listed_host_is_reached_by_name(world: World) -> None:
    origin = await world.origin("example.org")
    world.sandbox("box", "example.org")
    await world.gateway()
    answer = await world.get("http://example.org/a/b?c=d")
    assert status(answer) == 200
    assert answer.endswith(b"\r\n\r\nhello")
    assert origin.heads[0].startswith(b"GET /a/b?c=d HTTP/1.1\r\n")


async def test_a_refusal_says_what_to_do(world: World) -> None:
    world.sandbox("box", mode="registries")
    await world.gateway()
    answer = await world.get("http://example.org/")
    assert status(answer) == 403
    assert sentence(answer) == (
        "asynccode: example.org is not on this repository's network allowlist (package registries). "
        "An owner can add it under Repository → Environment → Network.\n"
    )
    head, _, _ = await world.tunnel("example.org:443")
    assert head.startswith(b"HTTP/1.1 403 example.org is not on this repository's network allowlist")


async def test_a_host_that_is_not_allowed_is_not_even_looked_up(world: World) -> None:
    world.sandbox("box", mode="registries")
    await world.gateway()
    await world.get("http://secret-in-a-name.example.org/")
    assert world.asked == []


async def test_attempts_are_reported_with_their_figures(world: World) -> None:
    await world.origin("example.org")
    world.sandbox("box", "example.org")
    await world.gateway()
    await world.get("http://example.org/")
    await world.get("http://other.org/")
    await until(lambda: len(world.attempts) == 2)
    (key, good), (_, bad) = world.attempts
    assert (key, good.method, good.host, good.port, good.is_allowed, good.reason, good.count) == (
        "test:box:1",
        "GET",
        "example.org",
        80,
        True,
        "",
        1,
    )
    assert good.bytes_up > 20
    assert good.bytes_down > 20
    assert good.at > 1e9
    assert 0 < good.seconds < 5
    assert (bad.host, bad.is_allowed, bad.bytes_up, bad.bytes_down) == ("other.org", False, 0, 0)
    assert "other.org is not on" in bad.reason


async def test_a_loop_of_refused_attempts_floods_nobody(world: World) -> None:
    world.sandbox("box")
    task = await world.gateway()
    for _ in range(30):
        await world.get("http://example.org/")
    await until(lambda: len(world.attempts) == 1)
    await world.stop(task)
    assert [attempt.count for _, attempt in world.attempts] == [1, 29]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "192.168.0.1",
        "0.0.0.0",
        "::1",
        "fe80::1",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "2002:7f00:1::",
        "64:ff9b::a00:1",
        "224.0.0.1",
        "198.18.0.1",
    ],
)
async def test_names_that_lead_to_private_addresses_are_refused(world: World, address: str) -> None:
    world.names["example.org"] = [address]
    world.sandbox("box", mode="public")
    await world.gateway()
    head, _, _ = await world.tunnel("example.org:443")
    assert status(head) == 403
    assert b"private or reserved" in head
    assert world.dialed == []


async def test_of_a_mixed_answer_only_public_addresses_are_tried(world: World) -> None:
    await world.site("example.org", lambda r, w: asyncio.sleep(0, w.close()), port=443)
    world.names["example.org"] = ["10.0.0.1", PUBLIC, "127.0.0.1"]
    world.sandbox("box", mode="public")
    await world.gateway()
    assert status((await world.tunnel("example.org:443"))[0]) == 200
    assert world.dialed == [(PUBLIC, 443)]


async def test_the_next_address_is_tried_when_one_does_not_answer(world: World) -> None:
    await world.origin("example.org")
    world.names["example.org"] = ["2606:4700::1", PUBLIC]
    world.sandbox("box", mode="public")
    await world.gateway()
    assert status(await world.get("http://example.org/")) == 200
    assert world.dialed == [("2606:4700::1", 80), (PUBLIC, 80)]


async def test_rebinding_gains_nothing(world: World) -> None:
    """The first answer is public, every later one is loopback: the connection goes to the address that was judged."""
    origin = await world.origin("example.org")
    answers = iter([[PUBLIC]])

    async def rebinding() -> list[str]:
        return next(answers, ["127.0.0.1"])

    world.names["example.org"] = rebinding
    world.sandbox("box", mode="public")
    await world.gateway(lookup_kept_s=0)
    assert status(await world.get("http://example.org/")) == 200
    assert world.asked == ["example.org"]
    assert world.dialed == [(PUBLIC, 80)]
    assert status(await world.get("http://example.org/")) == 403
    assert world.dialed == [(PUBLIC, 80)]
    assert len(origin.heads) == 1


async def test_many_connections_to_a_host_share_one_lookup(world: World) -> None:
    await world.origin("example.org")
    world.sandbox("box", mode="public")
    await world.gateway()
    answers = await asyncio.gather(*(world.get("http://example.org/") for _ in range(20)))
    assert {status(answer) for answer in answers} == {200}
    assert len(world.asked) == 1


async def test_slow_name_servers_hold_up_no_other_sandbox(world: World) -> None:
    never = asyncio.Event()

    async def silent() -> list[str]:
        await never.wait()
        return []

    for number in range(20):
        world.names[f"slow{number}.example"] = silent
    await world.origin("example.org")
    world.sandbox("hostile", mode="public")
    world.sandbox("other", mode="public")
    await world.gateway(connect_s=0.3)
    waiting = [asyncio.create_task(world.get(f"http://slow{number}.example/", "hostile")) for number in range(20)]
    await until(lambda: len(world.asked) == 8)  # its share
    assert status(await world.get("http://example.org/", "other")) == 200
    assert {status(answer) for answer in await asyncio.gather(*waiting)} == {504}
    assert len(world.asked) == 9
    never.set()  # the name servers answer at last, and the sandbox has its share again
    world.names["late.example"] = [PUBLIC]
    assert status(await world.get("http://late.example/", "hostile")) == 200


@pytest.mark.parametrize(
    "host", ["0x7f.1", "2130706433", "0177.0.0.1", "127.1", "017700000001", "a..b", "user@example.org", "%6c", "-x.org"]
)
async def test_odd_hosts_are_refused(world: World, host: str) -> None:
    world.sandbox("box", mode="public")
    await world.gateway()
    assert status(await world.get(f"http://{host}/")) == 400
    assert status((await world.tunnel(f"{host}:443"))[0]) == 400
    assert world.asked == []
    assert world.dialed == []


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "１２７.0.0.1",
    ],
)
async def test_loopback_in_every_disguise_is_refused_in_every_mode(world: World, host: str) -> None:
    world.sandbox("box", host, mode="public")
    await world.gateway()
    assert status(await world.get(f"http://{host}/")) == 403
    assert world.dialed == []


@pytest.mark.parametrize("spelling", ["EXAMPLE.org", "example.org.", "Example.Org:443"])
async def test_a_name_is_the_same_in_every_spelling(world: World, spelling: str) -> None:
    await world.origin("example.org", port=443)
    world.sandbox("box", "example.ORG")
    await world.gateway()
    target = spelling if ":" in spelling else f"{spelling}:443"
    assert status((await world.tunnel(target))[0]) == 200
    assert world.asked == ["example.org"]


async def test_a_literal_public_address_needs_mode_public(world: World) -> None:
    await world.origin("example.org")
    world.sandbox("open", mode="public")
    world.sandbox("closed", PUBLIC, mode="registries")
    await world.gateway()
    assert status(await world.get(f"http://{PUBLIC}/", "open")) == 200
    assert status(await world.get(f"http://{PUBLIC}/", "closed")) == 403
    assert world.asked == []


async def test_other_ports_need_to_be_listed(world: World) -> None:
    await world.origin("example.org", port=8443)
    world.sandbox("box", "example.org")
    world.sandbox("wide", "example.org:8443")
    await world.gateway()
    assert status((await world.tunnel("example.org:22"))[0]) == 403
    assert status((await world.tunnel("example.org:8443"))[0]) == 403
    assert status((await world.tunnel("example.org:8443", "wide"))[0]) == 200
    assert status(await world.get("http://example.org:8443/", "wide")) == 200


async def test_an_operators_private_host_is_reached_for_real(world: World) -> None:
    port = await world.listen(await world.origin("unused.org"))
    world.sandbox("box", f"127.0.0.1:{port}")
    world.sandbox("other", mode="registries")
    await world.gateway(real=True, allow_private=frozenset({f"127.0.0.1:{port}"}))
    assert (await world.get(f"http://127.0.0.1:{port}/")).endswith(b"hello")
    assert status(await world.get(f"http://127.0.0.1:{port}/", "other")) == 403
    assert status(await world.get(f"http://localhost:{port}/")) == 403


# Requests


async def test_a_request_for_us_gets_a_sentence(world: World) -> None:
    world.sandbox()
    await world.gateway()
    answer = await world.ask(b"GET /v1/messages HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status(answer) == 404
    assert "This is a proxy" in sentence(answer)


async def test_the_host_header_is_the_urls(world: World) -> None:
    origin = await world.origin("example.org", port=8080)
    world.sandbox("box", "example.org:8080")
    await world.gateway()
    await world.ask(b"GET http://Example.org:8080/ HTTP/1.1\r\nHost: other.org\r\nConnection: close\r\n\r\n")
    assert origin.header("Host") == ["example.org:8080"]


async def test_headers_of_one_connection_only_are_not_passed_on(world: World) -> None:
    origin = await world.origin(
        "example.org",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"
        b"Keep-Alive: timeout=5\r\nProxy-Authenticate: a\r\nX-End: 2\r\n\r\n",
    )
    world.sandbox("box", "example.org")
    await world.gateway()
    answer = await world.ask(
        b"GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\nConnection: close, X-Mine, Host\r\nX-Mine: 1\r\n"
        b"TE: trailers\r\nUpgrade: h2c\r\n"
        b"Proxy-Authorization: secret\r\nProxy-Connection: keep-alive\r\nX-Other: 2\r\n\r\n"
    )
    sent = origin.heads[0].lower()
    assert [name for name in (b"x-mine", b"te:", b"upgrade", b"proxy-", b"keep-alive") if name in sent] == []
    assert origin.header("Connection") == ["close"]
    assert origin.header("X-Other") == ["2"]
    assert origin.header("Host") == ["example.org"]
    assert [name for name in (b"X-Hop", b"Keep-Alive", b"Proxy-Authenticate") if name in answer] == []
    assert b"X-End: 2\r\n" in answer


async def test_the_length_of_a_body_cannot_be_hidden_by_the_connection_header(world: World) -> None:
    origin = await world.origin("example.org")
    world.sandbox("box", "example.org")
    await world.gateway()
    await world.ask(b"POST http://example.org/ HTTP/1.1\r\nHost: a\r\nConnection: close, Content-Length\r\nContent-Length: 3\r\n\r\nabc")
    assert origin.header("Content-Length") == ["3"]
    assert bytes(origin.bodies[0]) == b"abc"


@pytest.mark.parametrize(
    "head",
    [
        "POST http://example.org/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "POST http://example.org/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n",
        "POST http://example.org/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n",
        "POST http://example.org/ HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n",
        "POST http://example.org/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n",
        "POST http://example.org/ HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n",
        "POST http://example.org/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n",
        "POST http://example.org/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n",
        "POST http://example.org/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "POST http://example.org/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n",
        "GET http://example.org/ HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n",
        "GET http://example.org/ HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n",
        "GET http://example.org/ HTTP/1.1\r\nHost: a\r\nX: \x00\r\n",
        "GET http://example.org/ HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n",
        "GET http://example.org/ HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n",
        "GET http://example.org/ HTTP/1.1\r\nHost: a\r\n: a\r\n",
        "GET http://example.org/ HTTP/1.1\r\nHost: a\r\nno colon\r\n",
        "GET http://example.org/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        "GET http://example.org/ HTTP/1.1\r\nX: no host\r\n",
        "GET http://example.org/ HTTP/2.0\r\nHost: a\r\n",
        "GET  http://example.org/ HTTP/1.1\r\nHost: a\r\n",
        "GET http://example.org/ a HTTP/1.1\r\nHost: a\r\n",
        "GET http://user:word@example.org/ HTTP/1.1\r\nHost: a\r\n",
        "GET http://example.org/#x HTTP/1.1\r\nHost: a\r\n",
        "GET http://example.org:0/ HTTP/1.1\r\nHost: a\r\n",
        "GET https://example.org/ HTTP/1.1\r\nHost: a\r\n",
        "GET ftp://example.org/ HTTP/1.1\r\nHost: a\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n",
        "CONNECT example.org HTTP/1.1\r\nHost: a\r\n",
        "CONNECT example.org:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n",
        "\r\n",
        "",
    ],
)
async def test_what_could_be_read_in_two_ways_is_refused(world: World, head: str) -> None:
    origin = await world.origin("example.org")
    world.sandbox("box", "example.org")
    await world.gateway()
    assert status(await world.ask(head.encode("latin-1") + b"\r\nabc\r\n\r\n")) == 400
    assert origin.heads == []


async def test_a_head_over_64_kib_or_of_too_many_lines_is_refused(world: World) -> None:
    world.sandbox("box", "example.org")
    await world.gateway()
    begin = b"GET http://example.org/ HTTP/1.1\r\nHost: a\r\n"
    assert status(await world.ask(begin + b"X: " + b"a" * 70_000 + b"\r\n\r\n")) == 431
    assert status(await world.ask(begin + b"X: 1\r\n" * 300 + b"\r\n")) == 431


async def test_a_hostile_header_line_takes_no_time(world: World) -> None:
    world.sandbox("box", "example.org")
    await world.gateway()
    async with asyncio.timeout(1):
        answer = await world.ask(b"GET http://example.org/ HTTP/1.1\r\nHost: a\r\nX:" + b" " * 60_000 + b"\x01\r\n\r\n")
    assert status(answer) == 400


async def test_a_slow_head_is_refused(world: World) -> None:
    world.sandbox()
    await world.gateway(head_s=0.1)
    assert status(await world.ask(b"GET http://example.org/ HTTP/1.1\r\nHo")) == 408


async def test_an_absurd_length_is_refused(world: World) -> None:
    world.sandbox("box", "example.org")
    await world.gateway()
    assert (
        status(await world.ask(b"POST http://example.org/ HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n")) == 413
    )


async def test_one_connection_carries_many_requests(world: World) -> None:
    origin = await world.origin("example.org")
    other = await world.origin(
        "other.org", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nworld\r\n0\r\nTrailer: 1\r\n\r\n", port=8080
    )
    world.sandbox("box", "example.org", "other.org:8080")
    await world.gateway()
    answer = await world.ask(
        b"POST http://example.org/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        b"POST http://other.org:8080/2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        b"GET http://example.org/3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    assert answer.count(b"HTTP/1.1 200") == 3
    assert answer.count(b"hello") == 2
    assert b"5\r\nworld\r\n0\r\n\r\n" in answer
    assert [bytes(body) for body in origin.bodies + other.bodies] == [b"abc", b"", b"3\r\nabc\r\n0\r\n\r\n"]


async def test_a_refused_request_ends_the_connection_so_that_its_body_is_no_request(world: World) -> None:
    origin = await world.origin("example.org")
    world.sandbox("box", "example.org")
    await world.gateway()
    inner = b"GET http://example.org/ HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = await world.ask(b"POST http://other.org/ HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(inner) + inner, end=True)
    assert answer.count(b"HTTP/1.1") == 1
    assert origin.heads == []


@pytest.mark.parametrize("line", ["204 No Content", "304 Not Modified"])
async def test_answers_without_a_body_end_with_their_head(world: World, line: str) -> None:
    await world.origin("example.org", f"HTTP/1.1 {line}\r\nETag: a\r\n\r\n".encode())
    world.sandbox("box", "example.org")
    await world.gateway()
    one = b"GET http://example.org/ HTTP/1.1\r\nHost: a\r\n"
    answer = await world.ask(one + b"\r\n" + one + b"Connection: close\r\n\r\n")
    assert answer.count(f"HTTP/1.1 {line}".encode()) == 2


async def test_the_answer_to_head_has_a_length_and_no_body(world: World) -> None:
    await world.origin("example.org", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    world.sandbox("box", "example.org")
    await world.gateway()
    one = b"HEAD http://example.org/ HTTP/1.1\r\nHost: a\r\n"
    assert (await world.ask(one + b"\r\n" + one + b"Connection: close\r\n\r\n")).count(b"Content-Length: 1000\r\n") == 2


async def test_an_answer_of_unknown_length_ends_with_the_connection(world: World) -> None:
    await world.origin("example.org", b"HTTP/1.0 200 OK\r\n\r\nall of it")
    world.sandbox("box", "example.org")
    await world.gateway()
    answer = await world.ask(b"GET http://example.org/ HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it"


async def test_an_http_10_client_gets_its_answer_and_the_end(world: World) -> None:
    origin = await world.origin("example.org")
    world.sandbox("box", "example.org")
    await world.gateway()
    assert (await world.ask(b"GET http://example.org?q HTTP/1.0\r\n\r\n")).endswith(b"hello")
    assert origin.heads[0].startswith(b"GET /?q HTTP/1.0\r\nHost: example.org\r\n")


async def test_interim_answers_are_passed_on(world: World) -> None:
    async def careful(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(4)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + body)
        writer.close()

    await world.site("example.org", careful)
    world.sandbox("box", "example.org")
    await world.gateway()
    reader, writer = await world.dial()
    writer.write(b"PUT http://example.org/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"data")
    assert (await reader.readuntil(b"data")).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("framing", ["Content-Length: 10", "Transfer-Encoding: chunked"])
async def test_bodies_are_streamed_in_both_directions(world: World, framing: str) -> None:
    """Each side waits for the other's half before it sends its own second half."""
    is_chunked = framing.startswith("T")
    first, second = (b"5\r\nfirst\r\n", b"6\r\nsecond\r\n0\r\n\r\n") if is_chunked else (b"first", b"_last")

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        writer.write(await reader.readexactly(len(first)))
        writer.write(await reader.readexactly(len(second)))
        writer.close()

    await world.site("example.org", echo)
    world.sandbox("box", "example.org")
    await world.gateway()
    reader, writer = await world.dial()
    writer.write(f"POST http://example.org/ HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode() + first)
    async with asyncio.timeout(5):
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(first)) == first
        writer.write(second)
        assert await reader.readexactly(len(second)) == second


@pytest.mark.parametrize(
    "chunks",
    [
        b"x\r\nabc\r\n",
        b"-1\r\nabc\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nabcXY0\r\n",
        b"ffffffffffffffffff\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"1" * 70_000,
    ],
)
async def test_malformed_chunks_are_refused(world: World, chunks: bytes) -> None:
    async def patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    await world.site("example.org", patient)
    world.sandbox("box", "example.org")
    await world.gateway()
    answer = await world.ask(b"POST http://example.org/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"\r\n\r\n")
    assert status(answer) == 400


@pytest.mark.parametrize("does_hang_up", [True, False])
async def test_an_answer_before_the_end_of_the_body_reaches_the_client(world: World, does_hang_up: bool) -> None:
    end = asyncio.Event()

    async def impatient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        if does_hang_up:
            writer.write_eof()
        await end.wait()
        writer.close()

    await world.site("example.org", impatient)
    world.sandbox("box", "example.org")
    await world.gateway()
    answer = await world.ask(b"POST http://example.org/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n" + bytes(8_000_000))
    assert status(answer) == 413
    assert answer.endswith(b"no")
    await until(lambda: world.attempts)
    end.set()


async def test_a_refused_upload_is_taken_so_that_the_client_gets_to_the_answer(world: World) -> None:
    world.sandbox()
    await world.gateway()
    reader, writer = await world.dial()
    writer.write(b"POST http://example.org/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n")
    for _ in range(50):
        writer.write(bytes(100_000))
        await writer.drain()  # fails on a connection that was closed
    assert status(await reader.read()) == 403


async def test_a_client_that_asks_on_and_never_reads_fills_no_memory(world: World) -> None:
    origin = await world.origin("example.org", b"HTTP/1.1 204 No Content\r\nX: " + b"x" * 50_000 + b"\r\n\r\n")
    world.sandbox("box", "example.org")
    await world.gateway()
    _, writer = await world.dial()
    writer.write(b"GET http://example.org/ HTTP/1.1\r\nHost: a\r\n\r\n" * 200)
    seen: list[int] = []

    def is_stuck() -> bool:
        seen.append(len(origin.heads))
        return len(seen) > 20 and seen[-20] == seen[-1] > 0

    await until(is_stuck)
    assert len(origin.heads) < 100


# Trouble at the other end


async def test_an_unknown_name_is_502(world: World) -> None:
    world.sandbox("box", mode="public")
    await world.gateway()
    assert "could not be found" in sentence(await world.get("http://nowhere.example/"))
    await until(lambda: world.attempts)
    attempt = world.attempts[0][1]
    assert attempt.is_allowed
    assert attempt.reason == "The name nowhere.example could not be found."


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent",
        b"HTTP/1.1 200 OK\r\nA: 1\r\n b\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    ],
)
async def test_an_answer_that_is_none_is_502(world: World, answer: bytes) -> None:
    await world.origin("example.org", answer)
    world.sandbox("box", "example.org")
    await world.gateway()
    assert status(await world.get("http://example.org/")) == 502


async def test_a_refused_connection_is_502(world: World) -> None:
    world.names["example.org"] = [PUBLIC]
    world.sandbox("box", "example.org")
    await world.gateway()
    assert status(await world.get("http://example.org/")) == 502
    assert status((await world.tunnel("example.org:443"))[0]) == 502


async def test_an_answer_cut_short_is_cut_for_the_client_too(world: World) -> None:
    await world.origin("example.org", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
    world.sandbox("box", "example.org")
    await world.gateway()
    answer = await world.ask(b"GET http://example.org/ HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.endswith(b"only this")


async def test_a_host_that_does_not_accept_in_time_is_504(world: World) -> None:
    async def black_hole(address: str, port: int) -> Streams:
        await asyncio.Event().wait()
        raise AssertionError

    world.names["example.org"] = [PUBLIC]
    world.connect = black_hole
    world.sandbox("box", "example.org")
    await world.gateway(connect_s=0.1)
    assert status(await world.get("http://example.org/")) == 504


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def test_a_host_that_stays_silent_is_504(world: World) -> None:
    await world.site("example.org", silent)
    world.sandbox("box", "example.org")
    await world.gateway(idle_s=0.2)
    assert status(await world.get("http://example.org/")) == 504


# Tunnels


async def test_a_tunnel_carries_bytes_and_closes_one_half_at_a_time(world: World) -> None:
    async def reverse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read())[::-1])  # all of it: the end of the other half arrives
        writer.close()

    await world.site("example.org", reverse, port=443)
    world.sandbox("box", "example.org")
    await world.gateway()
    head, reader, writer = await world.tunnel("example.org:443")
    assert head == b"HTTP/1.1 200 Connection established\r\n\r\n"
    data = os.urandom(1_000_000)
    writer.write(data)
    writer.write_eof()
    assert await reader.read() == data[::-1]
    await until(lambda: world.attempts)
    attempt = world.attempts[0][1]
    assert (attempt.method, attempt.bytes_up, attempt.bytes_down) == ("CONNECT", 1_000_000, 1_000_000)


async def test_a_host_may_end_its_half_first(world: World) -> None:
    got = asyncio.get_running_loop().create_future()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.write_eof()
        got.set_result(await reader.read())
        writer.close()

    await world.site("example.org", greet, port=443)
    world.sandbox("box", "example.org")
    await world.gateway()
    _, reader, writer = await world.tunnel("example.org:443")
    assert await reader.read() == b"bye"
    writer.write(b"thanks")
    writer.write_eof()
    assert await got == b"thanks"


async def test_what_comes_with_the_connect_request_goes_through(world: World) -> None:
    origin = await world.origin("example.org", port=443)
    world.sandbox("box", "example.org")
    await world.gateway()
    answer = await world.ask(b"CONNECT example.org:443 HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    assert answer.endswith(b"hello")
    assert origin.heads == [b"GET / HTTP/1.1\r\n\r\n"]


async def test_a_sender_is_slowed_down_to_its_receivers_pace(world: World) -> None:
    sent = 0

    async def gush(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        for _ in range(1600):
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536
        writer.close()

    await world.site("example.org", gush, port=443)
    world.sandbox("box", "example.org")
    await world.gateway()
    _, reader, _ = await world.tunnel("example.org:443")
    before = -1

    def is_stuck() -> bool:
        nonlocal before
        before, is_same = sent, before == sent > 0
        return is_same

    await until(is_stuck)
    assert sent < 40 * 1024 * 1024
    total = 0
    while data := await reader.read(1 << 20):
        total += len(data)
    assert total == 1600 * 65536


async def test_idle_means_idle_in_both_directions(world: World) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(10):
            writer.write(b".")
            await asyncio.sleep(0.05)
        await reader.read()
        writer.close()

    await world.site("example.org", drip, port=443)
    world.sandbox("box", "example.org")
    await world.gateway(idle_s=0.25)
    _, reader, _ = await world.tunnel("example.org:443")
    async with asyncio.timeout(5):
        assert await reader.read() == b"." * 10


async def test_a_sandbox_has_so_many_connections_and_no_more(world: World) -> None:
    await world.site("example.org", silent, port=443)
    world.sandbox("box", "example.org")
    world.sandbox("other", "example.org")
    await world.gateway(connections=4)
    open_ones = [await world.tunnel("example.org:443") for _ in range(4)]
    answer = await world.ask(b"", end=True)
    assert status(answer) == 503
    assert "More than 4 connections" in sentence(answer)
    assert status((await world.tunnel("example.org:443", "other"))[0]) == 200
    open_ones[0][2].close()
    await until(lambda: world.attempts[-1][1].is_allowed)
    assert status((await world.tunnel("example.org:443"))[0]) == 200


async def test_nothing_stays_open(world: World) -> None:
    origin = await world.origin("example.org")
    await world.site("example.org", silent, port=443)
    world.sandbox("box", "example.org")
    await world.gateway()
    await world.get("http://example.org/")
    gc.collect()
    await until(lambda: len(asyncio.all_tasks()) <= 2)
    files, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())

    async def abandon(request: bytes) -> None:
        _, writer = await world.dial()
        writer.write(request)
        await writer.drain()
        writer.transport.abort()

    for _ in range(10):
        await asyncio.gather(
            world.get("http://example.org/"),
            world.get("http://other.org/"),
            abandon(b"GET http://example.org/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            abandon(b"POST http://example.org/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"),
            abandon(b"CONNECT example.org:443 HTTP/1.1\r\nHost: a\r\n\r\nabc"),
            abandon(b"GET http://exam"),
        )
    await until(lambda: len(asyncio.all_tasks()) <= tasks and len(os.listdir("/proc/self/fd")) <= files, 10)
    assert origin.open == 0


# Real programs


async def test_urllib_goes_out(world: World) -> None:
    await world.origin("example.org")
    world.sandbox("box", "example.org")
    await world.gateway()
    proxy = urllib.request.ProxyHandler({"http": f"http://127.0.0.1:{await world.tcp()}"})

    def fetch(data: bytes | None) -> bytes:
        with urllib.request.build_opener(proxy).open("http://example.org/", data, timeout=5) as answer:
            return answer.read()

    assert await asyncio.to_thread(fetch, None) == b"hello"
    assert await asyncio.to_thread(fetch, bytes(200_000)) == b"hello"


@pytest.fixture
def https(tmp_path: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "example.org")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("example.org")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "server.pem").write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    return context


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
async def test_curl_goes_out_over_http_and_https(world: World, https: ssl.SSLContext, tmp_path: Path) -> None:
    big = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + bytes(3_000_000)
    origin = await world.origin("example.org", big)
    secure = await asyncio.start_server(origin, "127.0.0.1", 0, ssl=https)
    world.stack.callback(secure.close)
    world.sites[PUBLIC, 443] = secure.sockets[0].getsockname()[1]
    world.sandbox("box", "example.org")
    await world.gateway()
    port = await world.tcp()
    (tmp_path / "upload").write_bytes(os.urandom(2_000_000))

    async def curl(*arguments: str) -> str:
        """What came of one transfer: the status, the tunnel's status, the bytes received."""
        process = await asyncio.create_subprocess_exec(
            *(
                "curl",
                "-sS",
                "-H",
                "Expect:",
                "-m",
                "10",
                "-x",
                f"http://127.0.0.1:{port}",
                "--cacert",
                str(tmp_path / "server.pem"),
                "-o",
                os.devnull,
            ),
            *("-w", "%{http_code} %{http_connect} %{size_download}", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return output.decode().strip()

    upload = tmp_path / "upload"
    assert await curl("http://example.org/") == "200 000 3000000"
    assert await curl("-T", str(upload), "http://example.org/") == "200 000 3000000"
    assert bytes(origin.bodies[-1]) == upload.read_bytes()
    assert await curl("-H", "Transfer-Encoding: chunked", "--data-binary", f"@{upload}", "http://example.org/") == "200 000 3000000"
    assert await curl("https://example.org/") == "200 200 3000000"
    assert "403" in await curl("https://other.org/")
