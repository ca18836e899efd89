"""Host names, addresses, allowlists and the record of attempts: no sockets needed."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxes.base import NetworkMode, NetworkPolicy
from sandboxes.egress import (
    PACKAGE_REGISTRIES,
    Attempt,
    HostError,
    Policy,
    PolicyError,
    PrivateHosts,
    Record,
    Target,
    is_public,
    normalize,
    parse_authority,
    parse_entry,
    usable_addresses,
)


def refusal(network: NetworkPolicy, host: str, port: int = 443, private: tuple[str, ...] = (), usual_port: int = 443) -> str:
    """The refusal's sentence; "" when allowed."""
    try:
        Policy.of(network).check(Target(normalize(host), port), usual_port, PrivateHosts(private))
    except PolicyError as error:
        return str(error)
    return ""


def only(*hosts: str) -> NetworkPolicy:
    return NetworkPolicy(NetworkMode.NONE, hosts)


PUBLIC = NetworkPolicy(NetworkMode.PUBLIC)
REGISTRIES = NetworkPolicy(NetworkMode.REGISTRIES)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Example.ORG", "example.org"),
        ("example.org.", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("１２７.0.0.1", "127.0.0.1"),
        ("example。org", "example.org"),
        ("_dmarc.example.org", "_dmarc.example.org"),
        ("[2001:DB8:0:0::1]", "2001:db8::1"),
        ("[::FFFF:127.0.0.1]", "::ffff:7f00:1"),
    ],
)
def test_a_host_has_one_spelling(written: str, meant: str) -> None:
    assert normalize(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "127.1",
        "127.0.0.0x1",
        "1.2.3.4.5",
        "256.1.1.1",
        "example.0x",
        "127.0.0.1..",
        "①②⑦.1",
    ],
)
def test_unusual_spellings_of_an_address_are_refused(written: str) -> None:
    with pytest.raises(HostError):
        normalize(written)


@pytest.mark.parametrize(
    "written",
    [
        "",
        ".",
        "a..b",
        ".a",
        "-a.org",
        "a-.org",
        "a b",
        "a/b",
        "a@b",
        "a\\b",
        "a%62.org",
        "a\x00b",
        "a\nb",
        "*",
        "x" * 64 + ".org",
        "a." * 130 + "org",
        "[::1",
        "[]",
        "[fe80::1%eth0]",
        "[1.2.3.4]",
    ],
)
def test_what_is_no_host_is_refused(written: str) -> None:
    with pytest.raises(HostError):
        normalize(written)


@given(st.text(max_size=40))
def test_normalizing_twice_changes_nothing(text: str) -> None:
    try:
        name = normalize(text)
    except HostError:
        return
    assert normalize(f"[{name}]" if ":" in name else name) == name


@pytest.mark.parametrize(
    "text", ["user@example.org:443", "example.org:0", "example.org:65536", "example.org:44a", "example.org", "::1:443", ":443", ""]
)
def test_a_malformed_authority_is_refused(text: str) -> None:
    with pytest.raises(HostError):
        parse_authority(text, None)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1"),
        *("172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1"),
        *("203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "168.63.129.16"),
        *("::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254"),
        *(
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:2::1",
            "2001:10::1",
            "2002:7f00:1::",
            "3fff::1",
        ),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "100::1", "5f00::1"),
    ],
)
def test_private_reserved_and_metadata_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.215.14", "100.63.255.255", "172.32.0.1", "198.20.0.1", "2606:4700::1111", "64:ff9b::808:808"]
)
def test_the_rest_is_public(address: str) -> None:
    assert is_public(address)


def test_of_a_mixed_answer_only_the_public_addresses_are_used() -> None:
    target = Target("example.org", 443)
    assert usable_addresses(target, ["10.0.0.1", "8.8.8.8", "::1", "8.8.8.8"], is_exempt=False) == ["8.8.8.8"]
    with pytest.raises(PolicyError, match="private or reserved"):
        usable_addresses(target, ["10.0.0.1", "::1"], is_exempt=False)
    assert usable_addresses(target, ["10.0.0.1"], is_exempt=True) == ["10.0.0.1"]


def test_mode_none_allows_the_listed_hosts_only() -> None:
    assert refusal(only("example.org"), "example.org") == ""
    assert refusal(only("example.org"), "EXAMPLE.org.") == ""
    assert "other.org is not on this repository's network allowlist" in refusal(only("example.org"), "other.org")
    assert refusal(only("example.org"), "sub.example.org")
    assert refusal(only("example.org"), "notexample.org")
    assert refusal(only(), "pypi.org")


def test_a_wildcard_covers_subdomains_at_any_depth_but_not_the_domain() -> None:
    assert refusal(only("*.example.org"), "a.example.org") == ""
    assert refusal(only("*.example.org"), "a.b.example.org") == ""
    assert refusal(only("*.example.org"), "example.org")
    assert refusal(only("*.example.org"), "evilexample.org")
    assert refusal(only("*.bücher.example"), "a.XN--bcher-kva.example") == ""


def test_mode_registries_allows_every_package_registry_and_the_listed_hosts() -> None:
    for host in PACKAGE_REGISTRIES:
        assert refusal(REGISTRIES, host.replace("*", "de")) == ""
        assert refusal(REGISTRIES, host.replace("*", "de"), 80, usual_port=80) == ""
    assert refusal(NetworkPolicy(NetworkMode.REGISTRIES, ("example.org",)), "example.org") == ""
    assert refusal(REGISTRIES, "example.org") == (
        "example.org is not on this repository's network allowlist (package registries). "
        "An owner can add it under Repository → Environment → Network."
    )


def test_mode_public_allows_every_name() -> None:
    assert refusal(PUBLIC, "example.org") == ""


def test_only_the_usual_port_is_open_unless_another_is_listed() -> None:
    assert "Port 22 of example.org" in refusal(PUBLIC, "example.org", 22)
    assert refusal(PUBLIC, "example.org", 80)
    assert refusal(only("example.org:8443"), "example.org", 8443) == ""
    assert refusal(only("example.org:8443"), "example.org", 443)
    assert refusal(only("example.org", "example.org:8443"), "example.org", 443) == ""
    assert refusal(only("*.example.org:8443"), "a.example.org", 8443) == ""
    assert refusal(NetworkPolicy(NetworkMode.PUBLIC, ("example.org:8443",)), "example.org", 8443) == ""
    assert refusal(only("git.corp"), "git.corp", 3000, private=("git.corp:3000",)) == ""


def test_a_literal_address_needs_mode_public_and_must_be_public() -> None:
    assert refusal(PUBLIC, "8.8.8.8") == ""
    assert refusal(PUBLIC, "[2606:4700::1111]") == ""
    assert "private or reserved" in refusal(PUBLIC, "10.0.0.1")
    assert "private or reserved" in refusal(PUBLIC, "[::ffff:8.8.8.8]")
    assert "Use the host's name" in refusal(NetworkPolicy(NetworkMode.REGISTRIES, ("8.8.8.8",)), "8.8.8.8")


def test_localhost_is_refused() -> None:
    assert "localhost is the sandbox itself" in refusal(PUBLIC, "localhost")
    assert refusal(PUBLIC, "a.LOCALHOST.")


def test_a_private_host_needs_the_operator_and_the_policy() -> None:
    assert refusal(only("10.0.0.1:8080"), "10.0.0.1", 8080, private=("10.0.0.1:8080",)) == ""
    assert refusal(PUBLIC, "10.0.0.1", 8080, private=("10.0.0.1:8080",)) == ""
    assert refusal(PUBLIC, "10.0.0.1", 443, private=("10.0.0.1",)) == ""
    assert refusal(PUBLIC, "10.0.0.1", 8081, private=("10.0.0.1:8080",))
    assert refusal(PUBLIC, "10.0.0.2", 8080, private=("10.0.0.1:8080",))
    assert "allowlist" in refusal(REGISTRIES, "10.0.0.1", 8080, private=("10.0.0.1:8080",))


@pytest.mark.parametrize(
    "entry", ["", "*", "*.", "*.10.0.0.1", "https://example.org", "example.org/path", "a.*.org", "example.org:", "example.org:99999"]
)
def test_a_malformed_allowlist_line_is_an_error(entry: str) -> None:
    with pytest.raises(HostError):
        parse_entry(entry)


# The record of attempts


def refused(host: str = "example.org", reason: str = "No.") -> Attempt:
    return Attempt(1.0, "CONNECT", host, 443, is_allowed=False, reason=reason)


def allowed(host: str = "example.org") -> Attempt:
    return Attempt(1.0, "CONNECT", host, 443, is_allowed=True, bytes_up=1, bytes_down=10, seconds=0.5)


async def test_like_refusals_become_one_with_a_count() -> None:
    got: list[tuple[str, Attempt]] = []
    record = Record(lambda key, attempt: got.append((key, attempt)), window_s=60)
    for _ in range(1000):
        record.add("a", refused())
    record.add("a", refused("other.org"))
    record.add("b", refused())
    assert [(key, attempt.host, attempt.count) for key, attempt in got] == [
        ("a", "example.org", 1),
        ("a", "other.org", 1),
        ("b", "example.org", 1),
    ]
    record.flush_all()
    assert [(key, attempt.host, attempt.count) for key, attempt in got[3:]] == [("a", "example.org", 999)]


async def test_what_was_gathered_is_reported_when_the_window_ends() -> None:
    got: list[Attempt] = []
    done = asyncio.Event()

    def report(_: str, attempt: Attempt) -> None:
        got.append(attempt)
        if len(got) == 2:
            done.set()

    record = Record(report, window_s=0.01)
    for _ in range(3):
        record.add("a", refused())
    await asyncio.wait_for(done.wait(), 5)
    assert [attempt.count for attempt in got] == [1, 2]


async def test_allowed_attempts_are_reported_one_by_one_and_a_flood_of_them_summed() -> None:
    got: list[Attempt] = []
    record = Record(lambda _, attempt: got.append(attempt), window_s=60, most=3)
    for _ in range(10):
        record.add("a", allowed())
    assert got == [allowed()] * 3
    record.flush_all()
    assert got[3:] == [Attempt(1.0, "CONNECT", "example.org", 443, is_allowed=True, bytes_up=7, bytes_down=70, seconds=3.5, count=7)]


async def test_no_flood_of_different_hosts_reaches_the_events() -> None:
    got: list[Attempt] = []
    record = Record(lambda _, attempt: got.append(attempt), window_s=60, most=10)
    for number in range(5000):
        record.add("a", refused(f"host{number}.example", f"host{number} is not on the list."))
    record.flush_all()
    assert len(got) < 40
    assert sum(attempt.count for attempt in got) == 5000
