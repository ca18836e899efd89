"""What a user may choose from at GitHub, as somebody types: remembered for a minute, and not asked while GitHub wants to hear nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

from django.core.cache import cache
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.views.decorators.debug import sensitive_variables
from redis.exceptions import RedisError

from tasks.github_api import credentials, reading
from tasks.github_api.answers import Repositories
from tasks.github_api.client import GitHub
from tasks.github_api.errors import RateLimited, TokenRefused
from tasks.models import User

logger = logging.getLogger(__name__)

KEPT_S = 60
ACCESS_KEPT_S = 600  # whether somebody may push, which changes seldom
T = TypeVar("T")


def repos(user: User, query: str = "", page: int = 1) -> Repositories:
    """Repositories that the user can push to, as GitHub.repos finds them. NoToken, GitHubError."""
    token = reading.token_for(user)
    first = _remembered(user, token, "repos::1", lambda github: github.repos())
    words = query.lower().split()
    if not words and page == 1:
        return first
    if first.next_page is None and not (len(words) == 1 and "/" in query):  # these are all, but one that is named may be elsewhere
        return replace(first, found=tuple(one for one in first.found if all(word in one.full_name.lower() for word in words)))
    return _remembered(user, token, f"repos:{' '.join(words)}:{page}", lambda github: github.repos(" ".join(words), page))


def branches(user: User, repository: str, query: str = "") -> list[str]:
    """Branches whose name contains `query`, as GitHub.branches finds them. NoToken, GitHubError."""
    token = reading.token_for(user, repository)
    return _remembered(
        user, token, f"branches:{repository}:{query}", lambda github: github.branches(repository, query), repository=repository
    )


@sensitive_variables("token")
def can_push(user: User, repository: str) -> bool:
    """Whether the user may push there, which a pull request needs. NoToken, GitHubError."""
    token = credentials.token_for(user, repository)
    return _remembered(
        user, token, f"access:{repository}", lambda github: github.repo(repository).can_push, repository=repository, kept_s=ACCESS_KEPT_S
    )


@sensitive_variables("token")
def _remembered(user: User, token: str, question: str, ask: Callable[[GitHub], T], *, repository: str = "", kept_s: int = KEPT_S) -> T:
    """GitHub's answer to this question with this token, which is for `repository` or for all.

    Keys hold a keyed digest: who reads them learns neither token nor question."""
    whose = salted_hmac("github", token, algorithm="sha256").hexdigest()[:32]
    limit = f"github:chosen:limit:{whose}"
    key = f"github:chosen:{user.pk}:{whose}:{salted_hmac('github', question, algorithm='sha256').hexdigest()[:32]}"
    known = _recalled([key, limit])
    if key in known:
        return cast(T, known[key])
    if (limited := known.get(limit)) and limited[1] > timezone.now():
        raise RateLimited(limited[0], until=limited[1])
    try:
        with GitHub(token) as github:
            found = ask(github)
    except RateLimited as error:
        _remember(limit, (error.message, error.until), (error.until - timezone.now()).total_seconds())
        raise
    except TokenRefused:
        credentials.refused(user, repository)
        raise
    _remember(key, found, kept_s)
    return found


def _recalled(keys: list[str]) -> dict[str, Any]:
    try:
        return cache.get_many(keys)
    except (RedisError, OSError) as error:
        logger.warning("What GitHub said is not remembered: the cache cannot be reached (%s).", error)
        return {}


def _remember(key: str, value: Any, seconds: float) -> None:
    try:
        if seconds > 0:
            cache.set(key, value, seconds)
    except (RedisError, OSError) as error:
        logger.warning("What GitHub said is not remembered: the cache cannot be reached (%s).", error)
