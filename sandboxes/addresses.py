"""Where our own requests may go on a sandbox's behalf: the public internet, and what the operator has opened."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence

from sandboxes.egress import PolicyError, PrivateHosts, is_address, is_public, parse_authority

PORTS = {"http": 80, "https": 443}

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]


class Addresses:
    """`allow_private`: the operator's `host` (on the usual port) and `host:port`. HostError for a malformed one."""

    def __init__(self, allow_private: Collection[str], *, lookup: Lookup | None = None) -> None:
        self._private = PrivateHosts(allow_private)
        self._lookup = lookup or _getaddrinfo

    async def __call__(self, scheme: str, host: str, port: int) -> list[str]:
        """The addresses that a connection may go to, best first. PolicyError when there may be none; HostError for what is no
        host; OSError when the name is not found."""
        target = parse_authority(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", None)
        is_open = self._private.opens_port(target) or (port == PORTS[scheme] and target in self._private)
        if scheme == "http" and not is_open:
            raise PolicyError(f"{target} is asked without encryption. Use https, or have an operator name it in ALLOW_PRIVATE_HOSTS.")
        found = [target.host] if is_address(target.host) else await self._lookup(target.host, port)
        usable = [address for address in dict.fromkeys(found) if is_open or is_public(address)]
        if found and not usable:
            raise PolicyError(
                f"{target.host} leads to a private or reserved address. An operator can allow {target} in ALLOW_PRIVATE_HOSTS."
            )
        return usable


async def _getaddrinfo(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(info[4][0]) for info in found]
