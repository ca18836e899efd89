"""The log of a job of GitHub's Actions: read as it comes, of which the end is kept and what stands around errors.

GitHub leads to another host for it, which is the one time that an address of GitHub's is followed: once, without the token, to a
public address that was looked at before, by https.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import requests
import urllib3
from certifi import where as authorities
from django.conf import settings
from django.views.decorators.debug import sensitive_variables

from sandboxes.egress import is_public
from tasks.github_api.errors import Unavailable

TIMEOUT_S = 10.0  # for a connection, and for each piece
MOST_S = 20.0
MOST_BYTES = 64 * 2**20
TAIL = 150  # lines
MOST_ERRORS = 150  # lines that speak of errors, with what stands around them
AROUND = 4
_MOST_LINE = 4096  # bytes
# A colour may stand right before a word.
_ERROR = re.compile(
    rb"##\[error\]|(?:\b|\[[0-9;]*m)(?:errors?|fail(?:s|ed|ures?)?|exceptions?|traceback|panic(?:ked)?|fatal|assert\w*)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Excerpt:
    """Lines of a log by their number from 1, in order; those between are left out. `is_whole`: the log was read to its end."""

    lines: tuple[tuple[int, str], ...]
    is_whole: bool


@sensitive_variables("address", "parts")  # whoever has it may read the log
def read(address: str) -> Excerpt:
    """The log that lies there. Unavailable when it may not be asked for, or does not come."""
    parts = urlsplit(address)
    try:
        with _opened(parts) as response:
            if response.status != 200:
                raise Unavailable(f"{parts.hostname} answered with {response.status} instead of the log. Try again.")
            return excerpt(response.stream(2**16))
    except (urllib3.exceptions.HTTPError, OSError) as error:
        # The address holds what lets one read the log, so it is not told.
        raise Unavailable(f"The log did not come from {parts.hostname}: {type(error).__name__}. Try again.") from None


@contextmanager
def _opened(parts: SplitResult) -> Iterator[urllib3.BaseHTTPResponse]:
    """The answer of the very address that was judged: a name is not looked up twice."""
    try:
        host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
        is_local = parts.scheme == "http" and _is_loopback(host) and _is_loopback(urlsplit(settings.GITHUB_URL).hostname or "")
        if not host or parts.username is not None or not (parts.scheme == "https" or is_local):
            raise ValueError
    except ValueError:
        raise Unavailable("GitHub leads to an address for the log that is none of https. It was not followed.") from None
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    is_open = is_local or not {host, f"{host}:{port}"}.isdisjoint(settings.ALLOW_PRIVATE_HOSTS)
    if not found or not (is_open or all(map(is_public, found))):
        raise Unavailable(
            f"GitHub leads to {host} for the log, which is a private or local address. An operator can allow it with ALLOW_PRIVATE_HOSTS."
        )
    response = _asked(parts, host, port, list(dict.fromkeys(found)))
    try:
        yield response
    finally:
        response.close()


@sensitive_variables("parts", "target", "pool")
def _asked(parts: SplitResult, host: str, port: int, addresses: list[str]) -> urllib3.BaseHTTPResponse:
    """The answer of the first of these addresses that can be reached."""
    timeout = urllib3.Timeout(connect=TIMEOUT_S, read=TIMEOUT_S)
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    headers = {"Host": parts.netloc, "User-Agent": "asynccode", "Accept-Encoding": "identity"}
    for address in addresses:
        pool = (
            urllib3.HTTPSConnectionPool(address, port, timeout=timeout, server_hostname=host, assert_hostname=host, ca_certs=_authorities())
            if parts.scheme == "https"
            else urllib3.HTTPConnectionPool(address, port, timeout=timeout)
        )
        try:
            return pool.request("GET", target, headers=headers, redirect=False, retries=False, preload_content=False)
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
            if address == addresses[-1]:
                raise
    raise OSError(f"{host} has no address.")


def _authorities() -> str:
    """Those that the API's host is checked against."""
    verify = requests.Session().merge_environment_settings(settings.GITHUB_URL, {}, None, None, None)["verify"]
    return verify if isinstance(verify, str) else authorities()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def excerpt(chunks: Iterable[bytes]) -> Excerpt:
    """What is kept of a log that comes in these pieces. It takes the memory of the lines that it keeps."""
    until, size = time.monotonic() + MOST_S, 0
    errors: dict[int, bytes] = {}
    tail: deque[tuple[int, bytes]] = deque(maxlen=TAIL)
    before: deque[tuple[int, bytes]] = deque(maxlen=AROUND)
    number, after, rest, is_whole = 0, 0, b"", True

    def take(line: bytes) -> None:
        nonlocal number, after
        number += 1
        line = line[:_MOST_LINE]
        tail.append((number, line))
        if len(errors) >= MOST_ERRORS:
            return
        if _ERROR.search(line):
            errors.update(before)
            after = AROUND + 1
        if after:
            errors[number] = line
            after -= 1
        before.append((number, line))

    for chunk in chunks:
        size += len(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[:_MOST_LINE]  # the rest of a line that never ends is let go
        for line in lines:
            take(line)
        if size > MOST_BYTES or time.monotonic() > until:
            is_whole = False
            break
    if rest:
        take(rest)
    kept = sorted((errors | dict(tail)).items())
    return Excerpt(tuple((at, line.decode(errors="replace")) for at, line in kept), is_whole)
