"""A network policy in E2B's words."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

import pytest
from e2b.sandbox.sandbox_api import build_network_config, build_network_update_body

from sandboxes.base import HeaderRule, NetworkMode, NetworkPolicy
from sandboxes.e2b.network import options, sentences
from sandboxes.egress import PACKAGE_REGISTRIES, is_public

RULE = HeaderRule("api.example.com", {"x-api-key": "sk-real"})


def allowed(mode: str, *hosts: str, rules: tuple[HeaderRule, ...] = ()) -> list[str]:
    network = options(NetworkPolicy(NetworkMode(mode), hosts), rules)
    assert network["deny_out"] == ["0.0.0.0/0"]
    return list(network["allow_out"])


def said(mode: str, *hosts: str) -> str:
    return " ".join(sentences(NetworkPolicy(NetworkMode(mode), hosts)))


def test_no_network_is_what_is_listed_and_nothing_else() -> None:
    assert allowed("none") == []
    assert allowed("none", "example.org", "*.example.net", "example.org:443") == ["example.org", "*.example.net"]


def test_registries_are_those_of_every_sandbox() -> None:
    assert allowed("registries", "example.org") == [*PACKAGE_REGISTRIES, "example.org"]


def test_public_is_every_public_address_and_no_other() -> None:
    networks = [IPv4Network(one) for one in allowed("public")]
    assert len(networks) < 256
    assert not any(one.overlaps(other) for one, other in combinations(networks, 2))
    for address in (
        *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.168.1.1", "168.63.129.16"),
        *("1.1.1.1", "8.8.8.8", "93.184.215.14", "172.15.255.255", "192.0.0.192", "223.255.255.255", "224.0.0.1", "255.255.255.255"),
    ):
        assert any(IPv4Address(address) in one for one in networks) == is_public(address), address
    assert all(not one.network_address.is_unspecified for one in networks)  # E2B refuses such


def test_headers_go_to_their_host_which_is_allowed_then() -> None:
    assert allowed("none", rules=(RULE,)) == ["api.example.com"]
    network = options(NetworkPolicy(NetworkMode.PUBLIC), [RULE])
    assert network["allow_out"][-1] == "api.example.com"
    assert network["rules"] == {"api.example.com": [{"transform": {"headers": {"x-api-key": "sk-real"}}}]}
    assert "rules" not in options(NetworkPolicy(NetworkMode.PUBLIC))


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("10.0.0.5", "10.0.0.5 cannot be reached: it is a private or reserved address."),
        ("127.0.0.1:3000", "127.0.0.1 cannot be reached: it is a private or reserved address."),
        ("[2606:4700::1111]", "2606:4700::1111 cannot be reached: sandboxes of E2B have no IPv6."),
        ("localhost:3000", "localhost cannot be reached: it is the sandbox itself."),
        ("example.org:8443", "example.org:8443 cannot be reached: E2B lets names be reached at ports 80 and 443 only."),
    ],
)
def test_what_cannot_be_reached_is_left_out_and_said(host: str, sentence: str) -> None:
    assert allowed("none", host) == []
    assert sentence in said("none", host)


def test_a_public_address_can_be_listed() -> None:
    assert allowed("none", "93.184.215.14:8443") == ["93.184.215.14/32"]
    assert allowed("public", "93.184.215.14") == allowed("public")  # E2B's lists must not overlap
    assert allowed("public", "example.org:8443")[-1] == "example.org"
    assert "example.org" not in said("public", "example.org:8443")


def test_what_is_different_on_e2b_is_said() -> None:
    assert said("none") == "E2B does not record what a sandbox tries to reach."
    assert "at ports 80 and 443, and the name server 8.8.8.8" in said("registries")
    assert "at all ports" in said("public")


def test_what_listens_inside_is_not_on_the_internet() -> None:
    assert options(NetworkPolicy(NetworkMode.PUBLIC))["allow_public_traffic"] is False


def test_the_sdk_takes_it_for_a_new_sandbox_and_for_one_that_is_there() -> None:
    network = options(NetworkPolicy(NetworkMode.NONE, ("example.org",)), [RULE])
    created = build_network_config(network)
    assert created is not None
    assert (created["allow_out"], created["deny_out"]) == (["api.example.com", "example.org"], ["0.0.0.0/0"])
    assert build_network_update_body(network).to_dict() == {
        "allowOut": ["api.example.com", "example.org"],
        "denyOut": ["0.0.0.0/0"],
        "rules": {"api.example.com": [{"transform": {"headers": {"x-api-key": "sk-real"}}}]},
    }
