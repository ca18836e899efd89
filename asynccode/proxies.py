"""Who asks, when a proxy stands before us: the client's address, from no header that the client could have written itself.

Each proxy adds the address of who asked it at the end of X-Forwarded-For; what stands further left came along with the request. So
the header is read from its end, only as far as the proxies are ours, and only when the connection itself comes from one of them.
All that asks for an address (the audit log, limits, allauth) finds the outcome as the request's REMOTE_ADDR.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable, Sequence
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HEADER = b"x-forwarded-for"

logger = logging.getLogger(__name__)


class BehindProxies:
    """An ASGI application whose requests and sockets have the client's address. With no trusted proxies nothing is changed."""

    def __init__(self, application: Any, trusted: Sequence[Network]) -> None:
        self._application = application
        self._trusted = trusted
        self._has_told = False

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if self._trusted and scope["type"] in ("http", "websocket"):
            peer = scope["client"][0] if scope.get("client") else None
            forwarded = [value for name, value in scope["headers"] if name == _HEADER]
            if (found := client_address(peer, forwarded, self._trusted)) != peer:
                scope = {**scope, "client": [found, 0]}
            elif forwarded and not self._has_told and peer is not None and not _is_trusted(peer, self._trusted):
                self._has_told = True  # once: anybody can send this
                logger.warning(
                    "A request came from %s with X-Forwarded-For, which was not believed. If it is your proxy, add it to TRUSTED_PROXIES.",
                    peer,
                )
        await self._application(scope, receive, send)


def client_address(peer: str | None, forwarded: Iterable[bytes], trusted: Sequence[Network]) -> str | None:
    """The address of who asked the first of our proxies.

    `peer`: who is connected to us; None at a UNIX socket, which only programs of this machine that were given it can open, so it is
    trusted. `forwarded`: the values of X-Forwarded-For in the order of the lines. What is no address ends the search: the answer is
    then the last proxy that is known, never what somebody made up.
    """
    found = peer
    entries = [entry for value in forwarded for entry in value.split(b",")]
    for entry in reversed(entries):
        if found is not None and not _is_trusted(found, trusted):
            break
        address = _address(entry.decode("latin-1"))
        if address is None:
            break
        found = str(address)
    return found


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    known = _address(address)
    return known is not None and any(known in network for network in trusted)


def _address(text: str) -> Address | None:
    """An address, as proxies write it: some add the port. An IPv4 address that was written as an IPv6 one counts as what it is."""
    text = text.strip()
    if text.startswith("["):
        text, closing, port = text[1:].partition("]")
        if not closing or (port and not _is_port(port.removeprefix(":"))):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _is_port(port):
            return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:  # means something on one machine only
            return None
        return address.ipv4_mapped or address
    return address


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5
