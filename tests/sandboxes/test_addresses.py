"""Where our own requests may go on a sandbox's behalf."""

from __future__ import annotations

import pytest

from sandboxes.addresses import Addresses
from sandboxes.egress import HostError, PolicyError

NAMES = {
    "models.example": ["93.184.215.14", "2a00:1450:4001::1"],
    "mixed.example": ["10.0.0.1", "93.184.215.14", "::1"],
    "inside.example": ["10.0.0.1"],
    "nobody.example": [],
}


async def lookup(host: str, port: int) -> list[str]:
    return NAMES[host]


async def test_public_hosts_are_reached_with_tls_only() -> None:
    addresses = Addresses([], lookup=lookup)
    assert await addresses("https", "models.example", 443) == NAMES["models.example"]
    assert await addresses("https", "93.184.215.14", 8443) == ["93.184.215.14"]
    with pytest.raises(PolicyError, match=r"^models\.example:80 is asked without encryption\. Use https, or have an operator name it"):
        await addresses("http", "models.example", 80)


async def test_private_addresses_are_left_out_and_a_host_with_no_other_is_refused() -> None:
    addresses = Addresses([], lookup=lookup)
    assert await addresses("https", "mixed.example", 443) == ["93.184.215.14"]
    assert await addresses("https", "nobody.example", 443) == []
    with pytest.raises(PolicyError, match=r"An operator can allow inside\.example:443 in ALLOW_PRIVATE_HOSTS\.$"):
        await addresses("https", "inside.example", 443)


async def test_what_the_operator_opened_is_reached_at_its_port_also_without_tls() -> None:
    addresses = Addresses(["inside.example:8080", "mixed.example"], lookup=lookup)
    assert await addresses("http", "inside.example", 8080) == ["10.0.0.1"]
    assert await addresses("https", "mixed.example", 443) == NAMES["mixed.example"]
    assert await addresses("http", "mixed.example", 80) == NAMES["mixed.example"]
    for scheme, host, port in (("http", "inside.example", 8081), ("https", "inside.example", 443), ("http", "mixed.example", 443)):
        with pytest.raises(PolicyError):
            await addresses(scheme, host, port)
    assert await addresses("https", "mixed.example", 8443) == ["93.184.215.14"], "another port is not opened"


@pytest.mark.parametrize("host", ["", "a b", "0x7f000001", "127.1", "[::1"])
async def test_odd_spellings_are_refused(host: str) -> None:
    with pytest.raises((HostError, PolicyError)):
        await Addresses([], lookup=lookup)("https", host, 443)
