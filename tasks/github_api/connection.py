"""Requests to GitHub's API for one token, by PyGithub's requester: no waiting, no other host, no endless answers.

Nothing here follows a link of GitHub's: pages are asked for by their number. So only the host of GITHUB_API_URL is contacted.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import requests
from django.conf import settings
from django.views.decorators.debug import sensitive_variables
from github import Auth, Github
from github.Requester import HTTPRequestsConnectionClass, HTTPSRequestsConnectionClass, RequestsResponse

from tasks.github_api.errors import GitHubError, NotFoundOnGitHub, PermissionMissing, RateLimited, Refused, TokenRefused, Unavailable

logger = logging.getLogger(__name__)

TIMEOUT_S = 15  # for a connection, and for each piece of an answer
MOST_S = 60  # for an answer whose pieces never end
PER_PAGE = 100
_MOST_BYTES = 16 * 2**20  # of one answer
_SECONDARY_WAIT = timedelta(minutes=1)  # where GitHub does not say how long
_LONGEST_WAIT = timedelta(hours=2)
_WORDS_LENGTH = 500
# A scope that holds others.
_HOLDS = {
    "repo": {"public_repo", "repo:status", "repo_deployment", "repo:invite"},
    "user": {"user:email", "read:user"},
    "admin:org": {"read:org", "write:org"},
    "write:org": {"read:org"},
}


class _TooMuch(Exception):
    """The answer is longer than any that is meant well."""


class _Response:
    """What PyGithub wants to know of a response. 202 is told as an error: PyGithub would sleep on it, for ever if need be."""

    def __init__(self, response: requests.Response) -> None:
        self.status = 503 if response.status_code == 202 else response.status_code
        self._headers = response.headers
        content, until = bytearray(), time.monotonic() + MOST_S
        for chunk in response.iter_content(2**16):
            if time.monotonic() > until:
                raise requests.Timeout
            content += chunk
            if len(content) > _MOST_BYTES:
                raise _TooMuch
        self._text = content.decode(errors="replace")

    def getheaders(self) -> Any:
        return self._headers.items()

    def read(self) -> str:
        return self._text


def _bounded(connection: HTTPRequestsConnectionClass | HTTPSRequestsConnectionClass) -> RequestsResponse:
    url = f"{connection.protocol}://{connection.host}:{connection.port}{connection.url}"
    with connection.session.request(
        connection.verb,
        url,
        headers=connection.headers,
        data=connection.input,
        timeout=TIMEOUT_S,
        allow_redirects=False,
        stream=True,
    ) as response:
        return _Response(response)  # type: ignore[return-value]


class _Http(HTTPRequestsConnectionClass):
    def getresponse(self) -> RequestsResponse:
        return _bounded(self)


class _Https(HTTPSRequestsConnectionClass):
    def getresponse(self) -> RequestsResponse:
        return _bounded(self)


@dataclass(frozen=True)
class Answer:
    """`value` is JSON, or None where there is none; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    value: Any

    @property
    def has_more(self) -> bool:
        return 'rel="next"' in self.headers.get("link", "")

    @property
    def scopes(self) -> tuple[str, ...] | None:
        """Those of the token; None of one that GitHub tells none of."""
        said = self.headers.get("x-oauth-scopes")
        return None if said is None else tuple(one.strip() for one in said.split(",") if one.strip())


class Connection:
    """`close` it, or use it as a context, since it keeps its connection for the next request.

    `is_app`: the token is the one by which a GitHub App shows who it is. "" asks as nobody.
    """

    @sensitive_variables("token")
    def __init__(self, token: str, *, is_app: bool = False) -> None:
        github = Github(
            auth=(Auth.AppAuthToken if is_app else Auth.Token)(token) if token else None,
            base_url=settings.GITHUB_API_URL,
            timeout=TIMEOUT_S,
            user_agent="asynccode",
            retry=None,
            seconds_between_requests=None,
            seconds_between_writes=None,
        )
        self._requester = github.requester
        address = urlsplit(settings.GITHUB_API_URL)
        self._connection = (_Http if address.scheme == "http" else _Https)(address.hostname or "", address.port)

    def close(self) -> None:
        self._connection.close()

    @sensitive_variables("headers")
    def ask(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        body: Any = None,
        etag: str = "",
        expect: frozenset[int] = frozenset(),
    ) -> Answer:
        """One request; `path` is what follows the API's address. Statuses of 300 and more are errors but those expected."""
        headers = {"Accept": "application/vnd.github+json"} | ({"If-None-Match": etag} if etag else {})
        try:
            status, said, text = self._requester.requestJson(method, path, dict(parameters or {}), headers, body, cnx=self._connection)
        # Without their causes, whose frames hold the request's headers, and so the token.
        except requests.Timeout:
            raise Unavailable("GitHub did not answer in time. Try again.") from None
        except requests.RequestException as error:
            logger.info("GitHub cannot be reached: %s", error)
            raise Unavailable(f"GitHub cannot be reached at {_host()}. Check the server's network, and try again.") from None
        except _TooMuch:
            raise Unavailable(f"GitHub's answer is longer than {_MOST_BYTES // 2**20} MB, which is more than is read.") from None
        except (RuntimeError, ValueError) as error:  # redirected elsewhere or in a circle; headers that are no numbers
            logger.info("GitHub's answer to %s makes no sense: %s", path, error)
            raise Unavailable(f"{_host()} answered in a way that GitHub does not. Check GITHUB_URL.") from None
        headers = {name.lower(): str(value) for name, value in said.items()}
        if status >= 300 and status not in expect:
            raise _error(status, headers, text)
        return Answer(status, headers, _json(text) if status < 300 and text.strip() else None)

    def pages(self, path: str, parameters: Mapping[str, Any] | None = None, *, most: int, inside: str = "") -> Iterator[dict[str, Any]]:
        """What is listed there, of at most `most` pages of 100; `inside` names the list in an answer that is no list itself."""
        for page in range(1, most + 1):
            answer = self.ask("GET", path, {**(parameters or {}), "per_page": PER_PAGE, "page": page})
            value = answer.value.get(inside) if inside and isinstance(answer.value, dict) else answer.value
            yield from (one for one in value if isinstance(one, dict)) if isinstance(value, list) else ()
            if not answer.has_more:
                return

    def graphql(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL query; its errors are errors."""
        answer = self.ask("POST", self._requester.graphql_url, body={"query": query, "variables": dict(variables)})
        value = answer.value if isinstance(answer.value, dict) else {}
        errors = value.get("errors")
        if isinstance(errors, list) and errors:
            first = errors[0] if isinstance(errors[0], dict) else {}
            words, kind = str(first.get("message", ""))[:_WORDS_LENGTH], first.get("type")
            if kind == "NOT_FOUND":
                raise _not_found()
            if kind == "RATE_LIMITED":
                raise _limited(answer.headers)
            if kind in ("FORBIDDEN", "INSUFFICIENT_SCOPES"):
                raise PermissionMissing(f"GitHub does not allow that with this token: {words}")
            raise Refused(f"GitHub refused: {words}")
        data = value.get("data")
        return data if isinstance(data, dict) else {}


def _host() -> str:
    return urlsplit(settings.GITHUB_API_URL).netloc


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unavailable(f"{_host()} answered with something that is no JSON. Check GITHUB_URL, or try again.") from error


# --- errors -----------------------------------------------------------------------------------------------------------


def _error(status: int, headers: Mapping[str, str], text: str) -> GitHubError:
    words = _words(text)
    if status == 401:
        return TokenRefused("GitHub does not take the token any more. Connect your GitHub account again.")
    if status in (403, 429) and _is_limit(status, headers, words):
        return _limited(headers)
    if status in (404, 410):
        return _scope_missing(headers) or _not_found()
    if status in (403, 451):
        return _forbidden(headers, words)
    if status in (301, 302, 307, 308):
        return NotFoundOnGitHub("It has moved on GitHub. Add the repository again by its new address.")
    if status >= 500:
        return Unavailable(f"GitHub has trouble at the moment (it answered {status}). Try again.")
    return Refused(f"GitHub refused: {words}" if words else f"GitHub refused it (it answered {status}).")


def _words(text: str) -> str:
    """GitHub's message and what it says of single fields, as one line."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(said, dict):
        return ""
    found = [str(said.get("message") or "")]
    errors = said.get("errors")
    for one in errors[:5] if isinstance(errors, list) else [errors] if errors else []:
        if not isinstance(one, dict):
            found.append(str(one))
        elif one.get("message"):
            found.append(str(one["message"]))
        else:
            found.append(f"{one.get('field', one.get('resource', 'a value'))} is {one.get('code', 'invalid')}")
    details = [one for one in found if one and one != "Validation Failed"] or found
    return re.sub(r"\s+", " ", ". ".join(one.rstrip(".") for one in details))[:_WORDS_LENGTH]


def _is_limit(status: int, headers: Mapping[str, str], words: str) -> bool:
    return (
        status == 429
        or "retry-after" in headers
        or headers.get("x-ratelimit-remaining") == "0"
        or "rate limit" in words.lower()
        or "abuse detection" in words.lower()
    )


def _limited(headers: Mapping[str, str]) -> RateLimited:
    now = datetime.now(UTC)
    until = now + _SECONDARY_WAIT
    if (after := headers.get("retry-after", "")).isdecimal():
        until = now + min(timedelta(seconds=int(after[:9])), _LONGEST_WAIT)
    elif headers.get("x-ratelimit-remaining") == "0" and (reset := headers.get("x-ratelimit-reset", "")).isdecimal():
        until = min(datetime.fromtimestamp(int(reset[:10]), UTC), now + _LONGEST_WAIT)
    until = max(until, now + timedelta(seconds=1))
    return RateLimited(f"GitHub was asked too often. It answers again at {until:%H:%M} UTC.", until=until)


def _not_found() -> NotFoundOnGitHub:
    return NotFoundOnGitHub("It is not there on GitHub, or your GitHub account may not see it. Check the name and who has access.")


def _scope_missing(headers: Mapping[str, str]) -> PermissionMissing | None:
    """GitHub says "not found" too where a classic token lacks a scope; then its headers tell."""
    accepted = {one.strip() for one in headers.get("x-accepted-oauth-scopes", "").split(",")} - {""}
    if not headers.get("x-oauth-scopes") or not accepted:  # a GitHub App's are told to have none, and need none
        return None
    has = {one.strip() for one in headers["x-oauth-scopes"].split(",")}
    for _ in range(2):
        has |= {one for scope in has for one in _HOLDS.get(scope, ())}
    if accepted & has:
        return None
    needed = " or ".join(sorted(accepted))
    return PermissionMissing(f"The GitHub token lacks the scope {needed}. Connect your GitHub account again and allow it.", needed=needed)


def _forbidden(headers: Mapping[str, str], words: str) -> GitHubError:
    sso = re.search(r"url=(\S+)", headers.get("x-github-sso", ""))
    if "x-github-sso" in headers:
        where = f" at {sso[1]}" if sso and sso[1].startswith(f"{settings.GITHUB_URL}/") else ""
        return PermissionMissing(f"The organization wants the token to be authorized for its single sign-on. Do so{where} and try again.")
    if needed := headers.get("x-accepted-github-permissions", "")[:_WORDS_LENGTH]:
        return PermissionMissing(f"The GitHub token lacks a permission: {needed}. Add it to the token at GitHub.", needed=needed)
    if missing := _scope_missing(headers):
        return missing
    if "archived" in words.lower():
        return Refused(f"GitHub refused: {words}")
    return PermissionMissing(f"GitHub does not allow that: {words or 'it did not say why'}")
