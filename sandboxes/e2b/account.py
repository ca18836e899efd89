"""Whose E2B it is, and what its answers mean to us."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from e2b import (
    AuthenticationException,
    NotFoundException,
    RateLimitException,
    SandboxException,
    SandboxNotFoundException,
    TimeoutException,
)
from e2b.exceptions import SandboxNotRunningException, ServiceBusyException

from sandboxes.errors import AccountRefused, HeadersRefused, SandboxError, SandboxGone, SandboxLimited

_MOST_SAID = 300
# Two limits of a plan are said with the status of a rate limit or as a refusal; both mean waiting.
_LIMIT_WORDS = ("concurrent", "limit", "quota", "too many")


@dataclass(frozen=True)
class Account:
    """A key of E2B and, for a self-hosted one, where it is good. The SDK would read the same from the environment."""

    api_key: str = field(repr=False)
    domain: str = ""
    api_url: str = ""
    sandbox_url: str = ""

    @property
    def mark(self) -> str:
        """Tells this key from another, and nothing else about it."""
        return hashlib.sha256(f"e2b account:{self.api_key}".encode()).hexdigest()[:12]

    @property
    def options(self) -> dict[str, Any]:
        """What each call of the SDK gets."""
        given = {"api_key": self.api_key, "domain": self.domain, "api_url": self.api_url, "sandbox_url": self.sandbox_url}
        return {name: value for name, value in given.items() if value}


@contextlib.contextmanager
def understood(doing: str, *, with_headers: bool = False) -> Iterator[None]:
    """Turn the SDK's exceptions into ours; `doing` continues "E2B could not …". `with_headers`, that is where E2B is asked to add
    some, a refusal that may be about them is HeadersRefused."""
    try:
        yield
    except (SandboxNotFoundException, SandboxNotRunningException) as error:
        raise SandboxGone(f"E2B has no such sandbox running ({_said(error)}).") from error
    except AuthenticationException as error:
        raise AccountRefused(f"E2B refused the account ({_said(error)}). Look at E2B_API_KEY.") from error
    except RateLimitException as error:
        raise limited(error) from error
    except SandboxException as error:
        if with_headers and _may_be_about_headers(error):
            raise HeadersRefused(f"E2B refused to add headers on the way out ({_said(error)}).") from error
        raise _of_status(error, doing) from error
    except (ServiceBusyException, httpx.HTTPError, OSError) as error:
        raise SandboxError(f"E2B could not {doing}: {_said(error)}") from error


def _of_status(error: SandboxException, doing: str) -> SandboxError:
    status, said = error.status_code, _said(error)
    if status in (401, 403) and not _is_of_limits(said):
        return AccountRefused(f"E2B refused the account ({said}). Look at E2B_API_KEY.")
    if status in (402, 403, 429):
        return limited(error)
    return SandboxError(f"E2B could not {doing}: {said}")


def _is_of_limits(said: str) -> bool:
    return any(word in said.lower() for word in _LIMIT_WORDS)


def _may_be_about_headers(error: SandboxException) -> bool:
    """In which words E2B says so is nowhere promised: whether it was that shows when the same goes through without."""
    return error.status_code in (400, 403, 422) and not is_missing(error) and not _is_of_limits(_said(error))


def limited(error: BaseException, retry_after_s: float | None = None) -> SandboxLimited:
    """What a rate limit means, and for how many seconds E2B has asked to wait, if it has."""
    return SandboxLimited(f"E2B takes no more just now ({_said(error)}).", retry_after_s=retry_after_s)


def is_missing(error: BaseException | None) -> bool:
    """Whether E2B knows no such template or snapshot."""
    return isinstance(error, NotFoundException) or (
        isinstance(error, SandboxException) and getattr(error, "status_code", None) in (400, 404) and "template" in str(error).lower()
    )


def is_passing(error: SandboxError) -> bool:
    """Whether the same may work a moment later: a dropped connection, a stall, an answer of the kind 5xx."""
    cause = error.__cause__
    status = getattr(cause, "status_code", None)
    return (
        isinstance(cause, TimeoutException | ServiceBusyException | httpx.HTTPError | OSError) and not isinstance(error, SandboxGone)
    ) or (isinstance(status, int) and status >= 500)


def _said(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:_MOST_SAID]
