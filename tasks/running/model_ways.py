"""How an agent reaches its model from where its sandbox is, and so where the key is meanwhile.

On this host that is always the broker, at the sandbox's own socket. From a sandbox elsewhere it is, the first that can be had:
the broker at its public address; the model's own address, with the key in headers that the sandbox's backend adds on the way
out; or that address with the key in the environment of the agent, which the run then says.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from django.conf import settings

from agents.apis.registry import APIS
from agents.grants import Key
from agents.upstream import Address
from sandboxes.base import HeaderRule, NetworkMode
from sandboxes.egress import PrivateHosts, Target, is_address, is_public
from tasks.errors import AppError
from tasks.models.credential import PROVIDERS

INSIDE = "http://127.0.0.1:3128"  # the way to the gateway, as a local sandbox sees it
LABELS = {str(provider): label for provider, label in PROVIDERS}

PLACEHOLDER = "the-key-is-added-on-the-way-out"
PORTS = (80, 443)  # at which sandboxes elsewhere reach names, but where all of the internet is open to them
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
# Whoever adds headers to what is encrypted answers with a certificate of its own, which the system there knows; Node and some
# other programs look elsewhere unless they are told.
_TRUST = {"NODE_EXTRA_CA_CERTS": _CERTIFICATES, "SSL_CERT_FILE": _CERTIFICATES}
_OWN_NETWORKS = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


class Keys(enum.StrEnum):
    """Where the model's key is while an agent works; the sandbox's record says it as `keys`."""

    BROKER = "broker"  # with us
    HEADERS = "headers"  # with the sandbox's backend, outside of the sandbox
    ENVIRONMENT = "environment"  # in the agent's environment


@dataclass(frozen=True)
class Way:
    """`base_url` is as the agent is told it (see ModelAccess). `token` is what it shows there: "" for one of the turn's own.

    `host` is what the sandbox's network must let through for it, "" for nothing; `rule` the headers that are added on the way
    out; `environment` what the agent's programs need besides; `notice` what the run's readers should know, in a sentence.
    """

    keys: Keys
    provider: str
    base_url: str
    is_subscription: bool = False
    token: str = field(default="", repr=False)
    host: str = ""
    rule: HeaderRule | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    notice: str = ""


def way(key: Key, *, backend: str, network: NetworkMode, adds_headers: bool = True) -> Way:
    """The way for a sandbox of this backend, whose own network is as open as this. AppError when there is none."""
    if backend == "local":
        return Way(Keys.BROKER, key.provider, f"{INSIDE}/{key.provider}", key.is_subscription)
    if settings.GATEWAY_PUBLIC_URL:
        host = _public_host(network)
        return Way(Keys.BROKER, key.provider, f"{settings.GATEWAY_PUBLIC_URL}/{key.provider}", key.is_subscription, host=host)
    try:
        address = Address.of(key.base_url or APIS[key.provider].base_url)
    except ValueError as error:
        raise AppError(str(error)) from None
    if obstacle := _obstacle(address, network):
        raise AppError(
            f"The model API of {LABELS[key.provider]} is at {address.authority} ({obstacle}), where this sandbox cannot reach it: it "
            "is not on this host. Have an operator set GATEWAY_PUBLIC_URL, or start the run in a local sandbox."
        )
    if address.scheme == "http" and Target(address.host, address.port) not in PrivateHosts(settings.ALLOW_PRIVATE_HOSTS):
        raise AppError(f"{address.authority} is asked without encryption. Use https, or have an operator name it in ALLOW_PRIVATE_HOSTS.")
    is_for_headers = address.scheme == "https" and address.port == 443 and not is_address(address.host)
    if is_for_headers and adds_headers:
        rule = HeaderRule(address.host, _secret_headers(key))
        return Way(Keys.HEADERS, key.provider, address.base_url, key.is_subscription, PLACEHOLDER, address.host, rule, environment=_TRUST)
    if is_for_headers:
        why = "E2B does not add it to requests for this account"
    else:
        why = "its address is not https" if address.scheme == "http" else "its address is not a name at port 443"
    return Way(
        Keys.ENVIRONMENT,
        key.provider,
        address.base_url,
        key.is_subscription,
        key.secret,
        address.host,
        notice=f"The key of {LABELS[key.provider]} is in this sandbox's environment, because {why}; set GATEWAY_PUBLIC_URL to keep it out.",
    )


def _public_host(network: NetworkMode) -> str:
    """The host of the broker's public address. AppError when sandboxes cannot use that address."""
    url = settings.GATEWAY_PUBLIC_URL
    try:
        address = Address.of(url)
    except ValueError:
        raise AppError(f"GATEWAY_PUBLIC_URL is “{url}”, which is no address. It should look like https://models.example.org.") from None
    is_here = address.host == "localhost" or (is_address(address.host) and not is_public(address.host))
    if address.scheme != "https" and not is_here:
        raise AppError(f"GATEWAY_PUBLIC_URL is “{url}”. It must begin with https://, as the tokens of runs are sent there.")
    if not is_address(address.host) and not is_here and (why := _obstacle(address, network)):
        raise AppError(f"GATEWAY_PUBLIC_URL is “{url}” ({why}), where sandboxes on other machines cannot reach it.")
    return f"[{address.host}]" if ":" in address.host else address.host


def _obstacle(address: Address, network: NetworkMode) -> str:
    """Why a sandbox elsewhere cannot reach an address; "" when, as far as the address itself tells, it can."""
    host = address.host
    if is_address(host):
        return "an address of IPv6" if ":" in host else "" if is_public(host) else "a private address"
    if "." not in host or host.endswith(_OWN_NETWORKS):
        return "a name of a private network"
    if address.port not in PORTS and network is not NetworkMode.PUBLIC:
        return f"port {address.port}; only {PORTS[0]} and {PORTS[1]} can be reached"
    return ""


def _secret_headers(key: Key) -> dict[str, str]:
    """Those that hold the key; what else the provider needs, the agent sends itself, and its own word is not to be overwritten."""
    headers: dict[str, str] = {}
    APIS[key.provider].authorize(key, headers)
    return {name: value for name, value in headers.items() if key.secret in value}
