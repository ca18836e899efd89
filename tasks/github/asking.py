"""Asking GitHub for a user, by their own token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.github_api import credentials, limits
from tasks.github_api.client import GitHub
from tasks.github_api.errors import RateLimited, TokenRefused
from tasks.models import User


@contextmanager
def github_as(user: User, repository: str) -> Iterator[GitHub]:
    """GitHub, to be asked about a repository (owner/name) for this user.

    While GitHub is known to want to hear nothing, RateLimited is raised without asking; when it says so, that is remembered. A token
    that it refuses is noted, so that pages ask to connect again.
    """
    token = credentials.token_for(user, repository)
    if until := limits.of_token(token):
        limits.remember(token, user.pk, until)  # it may have been heard when the token was used for somebody else
        raise RateLimited(f"GitHub was asked too often. It answers again at {until:%H:%M} UTC.", until=until)
    try:
        with GitHub(token) as github:
            yield github
    except RateLimited as error:
        limits.remember(token, user.pk, error.until)
        raise
    except TokenRefused:
        credentials.refused(user, repository)
        raise
