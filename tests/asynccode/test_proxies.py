"""Whose address is written down and whose tries are counted, whatever anybody writes into headers."""

from __future__ import annotations

import io
from typing import Any

import pytest
from allauth.account.adapter import get_adapter
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIRequest

from asynccode import asgi, environment
from asynccode.proxies import BehindProxies, client_address

PROXY, CLIENT, LIAR = "10.0.0.5", "203.0.113.9", "198.51.100.66"


def trust(text: str) -> list[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOME_PROXIES", text)
        return environment.networks("SOME_PROXIES")


def address(peer: str | None, *forwarded: str, trusted: str = "10.0.0.0/24,fd00::/8,::1") -> str | None:
    return client_address(peer, [value.encode("latin-1") for value in forwarded], trust(trusted))


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        # What a trusted proxy saw.
        (PROXY, [CLIENT], CLIENT),
        (PROXY, [], PROXY),
        ("::1", ["2001:db8::1"], "2001:db8::1"),
        # Nobody else's headers count.
        (CLIENT, [LIAR], CLIENT),
        ("10.0.1.5", [LIAR], "10.0.1.5"),
        # What the client sent stands left of what the proxy added.
        (PROXY, [f"{LIAR}, {CLIENT}"], CLIENT),
        (PROXY, [LIAR, CLIENT], CLIENT),
        (PROXY, [f"{LIAR}, 127.0.0.1, {CLIENT}"], CLIENT),
        (PROXY, [f"10.0.0.7, {CLIENT}"], CLIENT),  # the liar names one of our proxies
        (PROXY, [", ".join([LIAR] * 2000 + [CLIENT])], CLIENT),
        # Several proxies of ours, one behind the other, by both kinds of address.
        (PROXY, [f"{LIAR}, {CLIENT}, fd00::7, 10.0.0.6"], CLIENT),
        (PROXY, ["10.0.0.7, 10.0.0.6"], "10.0.0.7"),  # a machine of ours asks
        # Ways to write an address.
        (PROXY, [f" {CLIENT}:52044 "], CLIENT),
        (PROXY, ["[2001:DB8:0::1]:52044"], "2001:db8::1"),
        (PROXY, ["[2001:db8::1]"], "2001:db8::1"),
        (PROXY, [f"{LIAR}, ::ffff:{CLIENT}"], CLIENT),
        (f"::ffff:{PROXY}", [CLIENT], CLIENT),
        (f"::ffff:{CLIENT}", [LIAR], f"::ffff:{CLIENT}"),
        # What is none: the last one known.
        (PROXY, ["unknown"], PROXY),
        (PROXY, [f"{LIAR}, unknown"], PROXY),
        (PROXY, [f"{LIAR},"], PROXY),
        (PROXY, [f"{LIAR}, unknown, 10.0.0.6"], "10.0.0.6"),
        (PROXY, [""], PROXY),
        (PROXY, ["fe80::1%eth0"], PROXY),
        (PROXY, [f"{CLIENT}:", f"{CLIENT}:http"], PROXY),
        (PROXY, ["[2001:db8::1"], PROXY),
        (PROXY, ["[2001:db8::1]x"], PROXY),
        (PROXY, ["203.0.113.009"], PROXY),
        (PROXY, ["3405803785"], PROXY),
        (PROXY, ["<script>", "\xb9.0.0.1"], PROXY),
        ("eve", [LIAR], "eve"),
        # A UNIX socket has no address, and who may open it is said by its folder.
        (None, [f"{LIAR}, {CLIENT}"], CLIENT),
        (None, [], None),
        (None, ["unknown"], None),
    ],
)
def test_the_address_is_the_last_that_no_proxy_of_ours_has(peer: str | None, forwarded: list[str], found: str | None) -> None:
    assert address(peer, *forwarded) == found


def asked(peer: str | None, *headers: tuple[bytes, bytes], kind: str = "http", trusted: str = PROXY) -> dict[str, Any]:
    """What an application is told of a request."""
    seen: list[dict[str, Any]] = []

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        seen.append(scope)

    scope = {"type": kind, "method": "GET", "path": "/", "headers": list(headers), "client": [peer, 4711] if peer else None}
    async_to_sync(BehindProxies(application, trust(trusted)))(scope, None, None)
    return seen[0]


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_pages_and_sockets_are_told(kind: str) -> None:
    headers = ((b"x-forwarded-for", LIAR.encode()), (b"x-forwarded-for", CLIENT.encode()))
    assert asked(PROXY, *headers, kind=kind)["client"] == [CLIENT, 0]
    assert asked(PROXY, kind=kind)["client"] == [PROXY, 4711]
    assert asked(None, *headers, kind=kind)["client"] == [CLIENT, 0]
    assert asked(None, kind=kind)["client"] is None
    assert asked(CLIENT, (b"x-forwarded-for", LIAR.encode()), kind=kind)["client"] == [CLIENT, 4711]


def test_a_proxy_that_is_not_trusted_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None: ...

    behind = BehindProxies(application, trust(PROXY))
    for peer, value in ((PROXY, CLIENT), (CLIENT, LIAR), ("198.51.100.7", LIAR)):
        scope = {"type": "http", "headers": [(b"x-forwarded-for", value.encode())], "client": [peer, 4711]}
        async_to_sync(behind)(scope, None, None)
    assert [record.getMessage().split(" with ")[0] for record in caplog.records] == [f"A request came from {CLIENT}"]


@pytest.mark.parametrize("name", [b"x-real-ip", b"forwarded", b"x-forwarded", b"x-client-ip", b"true-client-ip", b"x_forwarded_for"])
def test_no_other_header_counts(name: bytes) -> None:
    assert asked(PROXY, (name, LIAR.encode()))["client"] == [PROXY, 4711]


def test_where_no_proxy_is_trusted_nothing_is_believed() -> None:
    assert asked(PROXY, (b"x-forwarded-for", LIAR.encode()), trusted="")["client"] == [PROXY, 4711]
    assert asked(None, (b"x-forwarded-for", LIAR.encode()), trusted="")["client"] is None
    assert settings.TRUSTED_PROXIES == []  # the default without a PUBLIC_URL
    assert isinstance(asgi.application, BehindProxies)


def test_django_and_allauth_find_it_where_they_look() -> None:
    request = ASGIRequest(asked(PROXY, (b"x-forwarded-for", f"{LIAR}, {CLIENT}".encode())), io.BytesIO())
    assert request.META["REMOTE_ADDR"] == CLIENT
    assert get_adapter(request).get_client_ip(request) == CLIENT


@pytest.mark.parametrize("text", ["proxy", "10.0.0.5/24", "10.0.0.0/33", "10.0.0.1-10.0.0.9", "*", "10.0.0.5 10.0.0.6"])
def test_a_proxy_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="SOME_PROXIES must be addresses and networks"):
        trust(text)
