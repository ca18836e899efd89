"""A sandbox's network policy in the words of E2B's firewall, and what it cannot say.

E2B's own rules, as its documents and its sources have them: whatever is allowed goes before what is denied; names can be allowed
only where all else is denied, and are told by the Host header at port 80 and TLS's server name at port 443; what is denied is
addresses; private, link-local and metadata addresses are never reached, also where a name leads there; a firewall's list must not
overlap. So all is denied here, always, and what is allowed is listed: nothing depends on who comes first. And what listens inside
is not put on the internet, as it would be by default: whoever asks for it could be told what may not go out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from ipaddress import IPv4Network

from e2b import SandboxNetworkOpts, SandboxNetworkUpdate

from sandboxes.base import HeaderRule, NetworkMode, NetworkPolicy
from sandboxes.egress import CLOSED_4, PACKAGE_REGISTRIES, Entry, is_address, is_public, parse_entry

ALL = "0.0.0.0/0"
PORTS = (80, 443)  # at which names are told


def options(policy: NetworkPolicy, rules: Sequence[HeaderRule] = ()) -> SandboxNetworkOpts:
    """What a new sandbox gets. HostError for a host that is written wrongly."""
    names = PACKAGE_REGISTRIES if policy.mode is NetworkMode.REGISTRIES else ()
    listed = [_spelled(entry) for entry in map(parse_entry, (*names, *policy.hosts)) if not _obstacle(policy, entry)]
    addresses = _public_networks() if policy.mode is NetworkMode.PUBLIC else ()
    network: SandboxNetworkOpts = {"allow_out": _once(*addresses, *(rule.host for rule in rules), *listed), "deny_out": [ALL]}
    network["allow_public_traffic"] = False
    if rules:
        network["rules"] = {rule.host: [{"transform": {"headers": dict(rule.headers)}}] for rule in rules}
    return network


def update(policy: NetworkPolicy, rules: Sequence[HeaderRule] = ()) -> SandboxNetworkUpdate:
    """The same for a sandbox that exists: all of what it may reach from now on."""
    network = options(policy, rules)
    return {name: network[name] for name in ("allow_out", "deny_out", "rules") if name in network}  # type: ignore[return-value]


def sentences(policy: NetworkPolicy, rules: Sequence[HeaderRule] = ()) -> list[str]:
    """What of the policy is different on E2B, for those who read the run."""
    entries = list(map(parse_entry, policy.hosts))
    said = ["E2B does not record what a sandbox tries to reach."]
    if policy.mode is NetworkMode.PUBLIC:
        said.append("Public addresses can be reached at all ports.")
    elif entries or rules or policy.mode is NetworkMode.REGISTRIES:
        said.append("Names that are allowed can be reached at ports 80 and 443, and the name server 8.8.8.8 at all ports.")
    return said + [obstacle for entry in entries if (obstacle := _obstacle(policy, entry))]


def _obstacle(policy: NetworkPolicy, entry: Entry) -> str:
    """Why E2B cannot let this be reached, as a sentence; "" when it can."""
    host = entry.name.removeprefix("*.")
    if is_address(host):
        if ":" in host:
            return f"{host} cannot be reached: sandboxes of E2B have no IPv6."
        return "" if is_public(host) else f"{host} cannot be reached: it is a private or reserved address."
    if host == "localhost" or host.endswith(".localhost"):
        return f"{host} cannot be reached: it is the sandbox itself."
    if entry.port in (None, *PORTS) or policy.mode is NetworkMode.PUBLIC:
        return ""
    return f"{entry.name}:{entry.port} cannot be reached: E2B lets names be reached at ports 80 and 443 only."


def _spelled(entry: Entry) -> str:
    return f"{entry.name}/32" if is_address(entry.name) else entry.name


def _once(*names: str) -> list[str]:
    """Each once; an address that lies in a network of the list is left out, as E2B's lists must not overlap."""
    networks = [IPv4Network(name) for name in names if "/" in name]
    inner = {str(one) for one in networks if any(one != other and one.subnet_of(other) for other in networks)} if networks else set()
    return [name for name in dict.fromkeys(names) if name not in inner]


@cache
def _public_networks() -> tuple[str, ...]:
    """All of IPv4 but what is closed."""
    return tuple(map(str, _without(IPv4Network(ALL), CLOSED_4)))


def _without(network: IPv4Network, closed: Sequence[IPv4Network]) -> Iterator[IPv4Network]:
    within = [one for one in closed if one.overlaps(network)]
    if not within:
        yield network
    elif not any(network.subnet_of(one) for one in within):
        for half in network.subnets():
            yield from _without(half, within)
