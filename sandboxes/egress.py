"""What a sandbox may reach: host names, allowlists, addresses, and the record of what was tried.

Nothing here opens a connection or looks a name up; `sandboxes.gateway` does, and asks here first.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from sandboxes.base import NetworkMode, NetworkPolicy

PACKAGE_REGISTRIES = (
    *("pypi.org", "files.pythonhosted.org"),
    *("registry.npmjs.org", "registry.yarnpkg.com", "repo.yarnpkg.com"),
    *("crates.io", "index.crates.io", "static.crates.io"),
    *("proxy.golang.org", "sum.golang.org"),
    *("repo.maven.apache.org", "repo1.maven.org"),
    *("rubygems.org", "index.rubygems.org"),
    *("packagist.org", "repo.packagist.org"),
    *("api.nuget.org", "www.nuget.org", "globalcdn.nuget.org"),
    *("deb.debian.org", "security.debian.org"),
    *("archive.ubuntu.com", "*.archive.ubuntu.com", "security.ubuntu.com", "ports.ubuntu.com"),
    *("dl-cdn.alpinelinux.org",),
    *("hex.pm", "repo.hex.pm", "builds.hex.pm"),
    *("conda.anaconda.org", "repo.anaconda.com"),
)

MODE_LABELS = {
    NetworkMode.NONE: "only the hosts listed there",
    NetworkMode.REGISTRIES: "package registries",
    NetworkMode.PUBLIC: "everything public",
}
WHERE = "under Repository → Environment → Network"


class HostError(ValueError):
    """The text names no host; the message is a sentence."""


class PolicyError(Exception):
    """The policy says no; the message is a sentence that says what to do."""


# Names -----------------------------------------------------------------------------------------------------------

_AUTHORITY = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?")
_BRACKETED = re.compile(r"\[([0-9a-fA-F:.]+)\]")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class Target(NamedTuple):
    """A host in its one spelling (see `normalize`) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Entry(NamedTuple):
    """One line of an allowlist: a host, or `*.` and the domain whose subdomains are meant; None: the usual port."""

    name: str
    port: int | None


def normalize(host: str) -> str:
    """The one spelling of a host: lower case, IDNA, no trailing dot, addresses canonical (IPv6 without brackets).

    Raises HostError for what is no host, and for addresses spelled in octal, hexadecimal, as one number or in short
    form: programs disagree about what these mean.
    """
    if host.startswith("["):
        try:
            bracketed = _BRACKETED.fullmatch(host)
            return str(IPv6Address(bracketed[1] if bracketed else ""))
        except ValueError:
            raise HostError("The IPv6 address in brackets is not valid.") from None
    if len(host) > 254:
        raise HostError("The host name is longer than 253 characters.")
    try:
        name = host.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        raise HostError("The host name is not valid (an empty or too long label, or a character no name may have).") from None
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise HostError("The host name has an empty label or a character that no host name may have.")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(IPv4Address(name))
        except ValueError:
            raise HostError("Write an IPv4 address as four plain decimal numbers; other spellings are refused.") from None
    return name


def parse_authority(text: str, default_port: int | None) -> Target:
    """`host[:port]` as a Target. Raises HostError, also when the port is missing and there is no default."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise HostError("A host is written as name, name:port or [IPv6]:port, without a user name.")
    port = int(match[2]) if match[2] else default_port
    if port is None or not 0 < port < 65536:
        raise HostError("A port between 1 and 65535 is needed.")
    return Target(normalize(match[1]), port)


def parse_entry(text: str) -> Entry:
    """An allowlist line: `example.org`, `*.example.org` (its subdomains, not itself), each with `:port` if need be.

    Raises HostError with a sentence; forms may show it.
    """
    text = text.strip()
    wildcard = "*." if text.startswith("*.") else ""
    match = _AUTHORITY.fullmatch(text.removeprefix(wildcard))
    if match is None:
        raise HostError("Write a host as example.org, *.example.org or example.org:8443.")
    host, port = parse_authority(match[0], 443)
    if wildcard and is_address(host):
        raise HostError("A wildcard stands before a domain name, not before an address.")
    return Entry(wildcard + host, port if match[2] else None)


# Addresses -------------------------------------------------------------------------------------------------------

# What is not the public internet (IANA's special-purpose registries), and metadata services on public addresses.
CLOSED_4 = tuple(
    map(
        IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
            *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            "168.63.129.16/32",
        ),
    )
)
# Everything outside 2000::/3 is closed: loopback, mapped and compatible IPv4, link-local, unique local, multicast,
# local NAT64 (64:ff9b:1::/48). Within it: IETF protocol assignments (Teredo, benchmarks, ORCHID), examples, 6to4.
_GLOBAL_6 = IPv6Network("2000::/3")
_CLOSED_6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_NAT64 = IPv6Network("64:ff9b::/96")


def is_address(host: str) -> bool:
    """Whether a normalized host is a literal address."""
    return ":" in host or host.rpartition(".")[2].isdecimal()


@lru_cache(maxsize=4096)
def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet; one that embeds an IPv4 address is judged by that one."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        if ip in _NAT64:  # on hosts with IPv6 only, DNS64 answers like this for every IPv4 name
            return is_public(str(IPv4Address(int(ip) & 0xFFFF_FFFF)))
        return ip in _GLOBAL_6 and not any(ip in network for network in _CLOSED_6)
    return not any(ip in network for network in CLOSED_4)


def usable_addresses(target: Target, addresses: Iterable[str], *, is_exempt: bool) -> list[str]:
    """The addresses a connection may go to, in the order given; PolicyError when not one of them is public."""
    found = list(dict.fromkeys(addresses))
    usable = found if is_exempt else [address for address in found if is_public(address)]
    if found and not usable:
        raise _private(target)
    return usable


def _private(target: Target) -> PolicyError:
    return PolicyError(
        f"{target.host} leads to a private or reserved address, and sandboxes reach only the public internet. "
        f"An operator can allow {target} in ALLOW_PRIVATE_HOSTS."
    )


# Policies --------------------------------------------------------------------------------------------------------


class PrivateHosts:
    """The operator's exceptions from the address check: `host` (on its usual ports) or `host:port`, matched exactly."""

    def __init__(self, entries: Collection[str] = ()) -> None:
        self._entries = {parse_entry(entry) for entry in entries}

    def __contains__(self, target: Target) -> bool:
        return Entry(target.host, None) in self._entries or self.opens_port(target)

    def opens_port(self, target: Target) -> bool:
        return Entry(target.host, target.port) in self._entries


@dataclass(frozen=True)
class Policy:
    """A sandbox's network policy, ready to be asked."""

    mode: NetworkMode
    ports: dict[str, set[int | None]]  # allowlist name → its ports; None: the usual port

    @classmethod
    def of(cls, network: NetworkPolicy) -> Policy:
        """Raises HostError when a host of the policy is not written as `parse_entry` wants it."""
        ports: dict[str, set[int | None]] = {}
        presets = PACKAGE_REGISTRIES if network.mode is NetworkMode.REGISTRIES else ()
        for entry in map(parse_entry, (*presets, *network.hosts)):
            ports.setdefault(entry.name, set()).add(entry.port)
        return cls(network.mode, ports)

    def check(self, target: Target, usual_port: int, private: PrivateHosts) -> None:
        """Raise PolicyError unless `target` may be looked up and reached. `usual_port` is the scheme's: 443 or 80.

        The addresses of a name are judged afterwards, by `usable_addresses`.
        """
        host, port = target
        if target not in private:
            if host == "localhost" or host.endswith(".localhost"):
                raise PolicyError("localhost is the sandbox itself; reach it directly, without the proxy.")
            if is_address(host) and not is_public(host):
                raise _private(target)
            if is_address(host) and self.mode is not NetworkMode.PUBLIC:
                raise PolicyError(f"{host} is an address, and this repository's network allowlist is one of names. Use the host's name.")
        ports: set[int | None] = {None} if self.mode is NetworkMode.PUBLIC else set()
        for name in _names(host):
            ports |= self.ports.get(name, set())
        if not ports:
            raise PolicyError(
                f"{host} is not on this repository's network allowlist ({MODE_LABELS[self.mode]}). An owner can add it {WHERE}."
            )
        if port not in ports and not (None in ports and (port == usual_port or private.opens_port(target))):
            raise PolicyError(f"Port {port} of {host} is not on this repository's network allowlist. An owner can add {target} {WHERE}.")


def _names(host: str) -> list[str]:
    """The allowlist names that would cover a host: itself, and a wildcard for each domain above it."""
    if is_address(host):
        return [host]
    labels = host.split(".")
    return [host, *("*." + ".".join(labels[depth:]) for depth in range(1, len(labels)))]


# The record ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attempt:
    """One try to leave the sandbox, or `count` like ones of the same ten seconds.

    `at` is the first one's start (seconds since the epoch); bytes and seconds are sums. `reason` is the sentence of
    a refusal, or of a failure at the other end (then `is_allowed` is true); "" when all went well.
    """

    at: float
    method: str
    host: str
    port: int
    is_allowed: bool
    reason: str = ""
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: float = 0.0
    count: int = 1


class _Like(NamedTuple):
    host: str
    port: int
    reason: str


@dataclass
class _Window:
    timer: asyncio.TimerHandle
    reported: int = 0
    gathered: dict[_Like, Attempt | None] = field(default_factory=dict)


class Record:
    """Passes attempts on so that no sandbox can flood whoever stores them.

    In a window of `window_s` seconds a sandbox gets at most `most` attempts through at once. A refusal like an
    earlier one of the window, and everything past `most`, is gathered and passed on at the window's end, one
    attempt with a count for each host, port and reason; past `most` of those, in one without a host.
    """

    def __init__(self, report: Callable[[str, Attempt], None], *, window_s: float, most: int = 64) -> None:
        self._report, self._window_s, self._most = report, window_s, most
        self._windows: dict[str, _Window] = {}

    def add(self, key: str, attempt: Attempt) -> None:
        window = self._windows.get(key)
        if window is None:
            timer = asyncio.get_running_loop().call_later(self._window_s, self.flush, key)
            window = self._windows[key] = _Window(timer)
        like = _Like(attempt.host, attempt.port, attempt.reason)
        is_new = attempt.is_allowed or like not in window.gathered
        if is_new and window.reported < self._most:
            window.reported += 1
            if not attempt.is_allowed:
                window.gathered[like] = None
            self._report(key, attempt)
            return
        if like not in window.gathered and len(window.gathered) >= 2 * self._most:
            reason = "" if attempt.is_allowed else "Many more hosts were refused."
            like = _Like("", 0, reason)
            attempt = replace(attempt, host="", port=0, reason=reason)
        earlier = window.gathered.get(like)
        window.gathered[like] = attempt if earlier is None else _sum(earlier, attempt)

    def flush(self, key: str) -> None:
        window = self._windows.pop(key)
        window.timer.cancel()
        for attempt in window.gathered.values():
            if attempt is not None:
                self._report(key, attempt)

    def flush_all(self) -> None:
        for key in list(self._windows):
            self.flush(key)


def _sum(one: Attempt, other: Attempt) -> Attempt:
    return replace(
        one,
        bytes_up=one.bytes_up + other.bytes_up,
        bytes_down=one.bytes_down + other.bytes_down,
        seconds=one.seconds + other.seconds,
        count=one.count + other.count,
    )
