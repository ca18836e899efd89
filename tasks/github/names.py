"""What a pull request can be given beside its words: labels of its repository, and people who can review there.

They are listed for a form to search in, kept for a minute, and looked up by their names before anything is pushed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from django.core.cache import cache
from redis.exceptions import RedisError

from tasks.errors import InvalidInput
from tasks.github.asking import github_as
from tasks.github_api.answers import Label
from tasks.github_api.client import GitHub
from tasks.github_api.errors import PermissionMissing
from tasks.models import GitHubAccount, User

logger = logging.getLogger(__name__)

MOST_NAMES = 20  # labels, or reviewers
KEPT_S = 60


def labels(user: User, repository: str) -> list[Label]:
    """The first thousand."""
    return [Label(*one) for one in _kept("labels", user, repository, lambda github: [_plain(label) for label in github.labels(repository)])]


def reviewers(user: User, repository: str) -> list[str]:
    """The first thousand who can review, without the user: nobody reviews what is their own."""
    account = GitHubAccount.objects.filter(user=user).first()
    own = account.login.lower() if account else ""
    found: list[str] = _kept("reviewers", user, repository, lambda github: github.collaborators(repository))
    return [login for login in found if login.lower() != own]


def known_labels(github: GitHub, repository: str, names: Sequence[str]) -> list[str]:
    """The names as the repository writes them; InvalidInput for those it does not have."""
    _check_number(names, "labels")
    found = {name: github.label(repository, name) for name in names}
    if missing := [name for name in names if found[name] is None]:
        raise InvalidInput(f"{repository} has no label {_listed(missing)}. Choose one that is there, or make it on GitHub.", field="labels")
    return [label.name for label in found.values() if label]


def known_reviewers(github: GitHub, repository: str, logins: Sequence[str]) -> list[str]:
    """The logins; InvalidInput for those who have no access, as far as the token may see that."""
    logins = [login.removeprefix("@") for login in logins]
    _check_number(logins, "reviewers")
    try:
        missing = [login for login in logins if not github.is_collaborator(repository, login)]
    except PermissionMissing:  # then GitHub says it when it is asked for the review
        return logins
    if missing:
        raise InvalidInput(
            f"{_listed(missing)} cannot review in {repository}. Choose people who have access to it.",
            field="reviewers",
        )
    return logins


def _check_number(names: Sequence[str], field: str) -> None:
    if len(names) > MOST_NAMES:
        raise InvalidInput(f"A pull request gets at most {MOST_NAMES} {field}.", field=field)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _plain(label: Label) -> list[str]:
    return [label.name, label.color, label.description]


def _kept(what: str, user: User, repository: str, ask: Callable[[GitHub], list[Any]]) -> list[Any]:
    """What GitHub said a moment ago, else what it says now: a keystroke is no request. Without the cache it is asked each time."""
    key = f"github:{what}:{user.pk}:{repository.lower()}"
    try:
        if (found := cache.get(key)) is not None:
            return list(found)
    except (RedisError, OSError) as error:
        logger.info("GitHub is asked anew: the cache cannot be reached (%s).", error)
    with github_as(user, repository) as github:
        found = ask(github)
    try:
        cache.set(key, found, timeout=KEPT_S)
    except (RedisError, OSError) as error:
        logger.info("What GitHub said is not kept: the cache cannot be reached (%s).", error)
    return found
