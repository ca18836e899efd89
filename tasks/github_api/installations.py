"""Where the GitHub App is installed, and its tokens, each for one repository.

What GitHub said is remembered in the cache for a while, tokens encrypted, under a mark of the repository's owner: a new mark
forgets all that was known of them. If the cache is lost, GitHub is asked again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from django.conf import settings
from django.core.cache import cache
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from github import Auth
from redis.exceptions import RedisError

from tasks.errors import AppError
from tasks.github_api import apps
from tasks.github_api.answers import line, link, mapping, number, text
from tasks.github_api.connection import Answer, Connection
from tasks.github_api.conversations import repository_path
from tasks.github_api.errors import NotFoundOnGitHub, PermissionMissing, Refused, TokenRefused, Unavailable
from tasks.models import GitHubAccount, GitHubApp
from tasks.models.encrypted import decrypt, encrypt

logger = logging.getLogger(__name__)

JWT_S = 300  # GitHub takes 600 at most
INSTALLED_S, PERMISSION_S = 300, 60
CHANGING_S = 10  # for what people change just now, and come back to see: where it is not installed, suspended, or may not write
EARLY = timedelta(minutes=5)  # so long before its end a token is not given out any more
_MARK_S = 24 * 3600
_MOST_PAGES = 10  # of installations
_LEVELS = ("read", "write", "admin")


class NotInstalled(AppError):
    """The app cannot act in a repository; the message says what to do."""

    code = "github_app_not_installed"


@dataclass(frozen=True)
class Installation:
    """On one account; `address` is where its owners configure it."""

    id: int
    account: str
    permissions: Mapping[str, str]
    is_suspended: bool
    has_all: bool  # repositories of the account, not some only
    address: str

    @property
    def can_write(self) -> bool:
        return not self.is_suspended and self.permissions.get("contents") in ("write", "admin")


# --- in a repository ------------------------------------------------------------------------------------------------------


def find(app: GitHubApp, repository: str) -> Installation | None:
    """The installation that this repository is in. NotInstalled when GitHub does not know the app itself."""
    return _find(app, f"{repository_path(repository)}/installation", repository.split("/")[0], repository)


def find_on_organization(app: GitHubApp, name: str) -> Installation | None:
    return _find(app, f"/orgs/{quote(name, safe='')}/installation", name, "")


def _find(app: GitHubApp, path: str, owner: str, name: str) -> Installation | None:
    key = _key(app, owner, f"installation:{name}")
    known = _recall(key)
    if known is not None:
        return known or None
    try:
        found = _read(_ask(app, "GET", path).value)
    except NotFoundOnGitHub:
        found = None
    _remember(key, found or False, INSTALLED_S if found and found.can_write else CHANGING_S)
    return found


def check(app: GitHubApp, repository: str) -> Installation:
    """The installation by which the app may work on this repository. NotInstalled says why there is none."""
    found, where = find(app, repository), apps.install_address(app)
    if found is None:
        raise NotInstalled(f"The GitHub App {app.name} is not installed on {repository}. Install it there: {where}")
    if found.is_suspended:
        raise NotInstalled(f"The GitHub App {app.name} is suspended on {found.account}. Its owners can end that: {found.address or where}")
    if not found.can_write:
        raise NotInstalled(
            f"The GitHub App {app.name} may not write to repositories of {found.account}. "
            f"Its owners have to accept its permissions: {found.address or where}"
        )
    return found


@sensitive_variables("token", "known")
def token(app: GitHubApp, repository: str) -> str:
    """A token of the app's for this one repository. NotInstalled, or an error of GitHub's."""
    owner, name = repository.split("/", 1)
    key = _key(app, owner, f"token:{name}")
    if known := _opened(_recall(key)):
        return known
    installation = check(app, repository)
    body = {"repositories": [name], "permissions": _least(installation.permissions)}
    try:
        said = mapping(_ask(app, "POST", f"/app/installations/{installation.id}/access_tokens", body=body).value)
    except (NotFoundOnGitHub, PermissionMissing, Refused) as error:  # it was changed since it was asked about
        logger.info("The GitHub App gets no token for %s: %s", repository, error)
        forget(app, owner)
        check(app, repository)
        raise NotInstalled(f"GitHub gives the GitHub App {app.name} no token for {repository}. Try again in a minute.") from None
    token, ends = text(said.get("token")), _time(said.get("expires_at"))
    if not token or not token.isascii() or ends is None:
        raise Unavailable("GitHub gives the GitHub App no token that makes sense. Try again.")
    _remember(key, encrypt(token), (ends - timezone.now() - EARLY).total_seconds())
    return token


def _least(granted: Mapping[str, str]) -> dict[str, str]:
    """What a token is asked for: no more than work on a repository needs, and than the installation has."""
    return {
        name: min(wanted, granted[name], key=_LEVELS.index)
        for name, wanted in apps.REPOSITORY_PERMISSIONS.items()
        if granted.get(name) in _LEVELS
    }


def may_write(app: GitHubApp, repository: str, account: GitHubAccount) -> bool:
    """Whether this account at GitHub, known by its id, may write to the repository; remembered for a minute."""
    owner, name = repository.split("/", 1)
    key = _key(app, owner, f"writes:{account.github_id}:{name}")
    known = _recall(key)
    if known is None:
        known = _may_write(app, repository, account)
        _remember(key, known, PERMISSION_S)
    return bool(known)


def _may_write(app: GitHubApp, repository: str, account: GitHubAccount) -> bool:
    path = f"{repository_path(repository)}/collaborators/{quote(account.login, safe='')}/permission"
    try:
        with closing(Connection(token(app, repository))) as connection:
            said = mapping(connection.ask("GET", path).value)
    except NotFoundOnGitHub:
        return False
    except TokenRefused:  # it was taken back since
        forget(app, repository.split("/")[0])
        raise NotInstalled("GitHub takes the GitHub App’s token for this repository no more. Try again.") from None
    is_them = mapping(said.get("user")).get("id") == account.github_id  # names change hands
    return is_them and said.get("permission") in ("admin", "maintain", "write")


# --- on accounts ----------------------------------------------------------------------------------------------------------


def everywhere(app: GitHubApp) -> list[Installation]:
    """All installations, 1000 at most."""
    key = f"{_prefix(app)}:everywhere"
    if (known := _recall(key)) is None:
        with closing(Connection(_jwt(app), is_app=True)) as connection:
            try:
                rows = list(connection.pages("/app/installations", most=_MOST_PAGES))
            except TokenRefused:
                raise _unknown(app) from None
        known = [found for row in rows if (found := _read(row))]
        _remember(key, known, CHANGING_S)
    return list(known)


def forget(app: GitHubApp, owner: str) -> None:
    """Whatever is known of this owner's repositories, tokens among it: from now on GitHub is asked again."""
    try:
        cache.delete_many([f"{_prefix(app)}:everywhere", _mark_key(app, owner)])
    except (RedisError, OSError) as error:
        logger.warning("What is known of installations of the GitHub App was not forgotten: the cache cannot be reached (%s).", error)


# --- asking as the app ----------------------------------------------------------------------------------------------------


@sensitive_variables()
def _jwt(app: GitHubApp) -> str:
    auth = Auth.AppAuth(str(app.app_id), app.private_key, jwt_expiry=JWT_S, jwt_issued_at=-60)
    return auth.create_jwt()


def _ask(app: GitHubApp, method: str, path: str, *, body: Any = None) -> Answer:
    try:
        with closing(Connection(_jwt(app), is_app=True)) as connection:
            return connection.ask(method, path, body=body)
    except TokenRefused:  # not a user's, so that none is asked to sign in again
        raise _unknown(app) from None


def _unknown(app: GitHubApp) -> NotInstalled:
    return NotInstalled(
        f"GitHub does not take the GitHub App {app.name} any more. Ask an operator of this server to look whether it is still there, "
        "and else to forget it here and to create a new one."
    )


def _read(said: Any) -> Installation | None:
    said = mapping(said)
    if not number(said.get("id")):
        return None
    permissions = {name: line(level) for name, level in mapping(said.get("permissions")).items() if isinstance(name, str)}
    address = link(said.get("html_url"))
    return Installation(
        id=number(said["id"]),
        account=line(mapping(said.get("account")).get("login")),
        permissions=permissions,
        is_suspended=bool(said.get("suspended_at")),
        has_all=said.get("repository_selection") == "all",
        address=address if address.startswith(f"{settings.GITHUB_URL}/") else "",
    )


def _time(value: Any) -> datetime | None:
    try:
        return datetime.strptime(line(value), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


# --- remembering ----------------------------------------------------------------------------------------------------------


def _prefix(app: GitHubApp) -> str:
    return f"github:app:{app.app_id}"


def _mark_key(app: GitHubApp, owner: str) -> str:
    return f"{_prefix(app)}:mark:{quote(owner.lower())}"


def _key(app: GitHubApp, owner: str, about: str) -> str:
    """Where something about this owner is remembered; "" when nothing can be."""
    try:
        mark = cache.get_or_set(_mark_key(app, owner), lambda: uuid4().hex, _MARK_S)
    except (RedisError, OSError) as error:
        logger.warning("What GitHub says of the GitHub App is not remembered: the cache cannot be reached (%s).", error)
        return ""
    return f"{_prefix(app)}:{mark}:{quote(about.lower())}"


def _recall(key: str) -> Any:
    try:
        return cache.get(key) if key else None
    except (RedisError, OSError):  # it was told of when the key was made
        return None


def _remember(key: str, value: Any, seconds: float) -> None:
    try:
        if key and seconds > 0:
            cache.set(key, value, seconds)
    except (RedisError, OSError) as error:
        logger.warning("What GitHub says of the GitHub App is not remembered: the cache cannot be reached (%s).", error)


def _opened(known: Any) -> str:
    """A token that was remembered; "" for none, or one under an encryption key that is gone."""
    try:
        return decrypt(known) if known else ""
    except AppError:
        return ""
