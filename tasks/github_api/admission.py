"""Who may come in with GitHub: the users and the members of organizations that the settings list, asked anew at each sign-in and daily."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from typing import Final
from urllib.parse import quote

import requests
from django.conf import settings
from django.views.decorators.debug import sensitive_variables

from tasks.errors import AppError
from tasks.github_api import apps, installations
from tasks.github_api.answers import mapping
from tasks.github_api.connection import Answer, Connection
from tasks.github_api.errors import GitHubError, NotFoundOnGitHub, PermissionMissing, TokenRefused

SIGN_IN_SCOPES: Final = ("read:user", "user:email")
_OF_APPS: Final = "ghu_"  # tokens of people who signed in by a GitHub App begin so


class Unclear(AppError):
    """GitHub could not be asked, or did not say. Trying again may help."""

    code = "github_unclear"


def has_lists() -> bool:
    """Whether the settings say who may come in. Without, nobody new does."""
    return bool(settings.GITHUB_ALLOWED_USERS or settings.GITHUB_ALLOWED_ORGS)


def scopes() -> tuple[str, ...]:
    """The least that signing in asks GitHub for."""
    return (*SIGN_IN_SCOPES, "read:org") if settings.GITHUB_ALLOWED_ORGS else SIGN_IN_SCOPES


@sensitive_variables("token")
def is_listed(*, login: str, token: str) -> bool:
    """Whether the lists let this account in, of which `token` is. Unclear when that depends on what GitHub does not tell now."""
    if login.lower() in settings.GITHUB_ALLOWED_USERS:
        return True
    unclear: Unclear | None = None
    if settings.GITHUB_ALLOWED_ORGS and not token:
        raise Unclear("GitHub does not show of which organizations you are a member. Sign in with GitHub again.")
    for org in sorted(settings.GITHUB_ALLOWED_ORGS):
        try:
            if _is_member(org, token):
                return True
        except Unclear as error:
            unclear = error
    if unclear:
        raise unclear
    return False


@sensitive_variables("token")
def _is_member(org: str, token: str) -> bool:
    """Whether the token's account is an active member; who is only invited is none yet."""
    try:
        said = mapping(ask(f"/user/memberships/orgs/{quote(org, safe='')}", token).value)
    except NotFoundOnGitHub:
        _check_can_see(org, token)
        return False
    except (PermissionMissing, TokenRefused):
        raise Unclear(
            f"GitHub does not show whether you are a member of {org}. Sign in again, and let this application see that organization; "
            "its owners may have to allow the application first."
        ) from None
    return said.get("state") == "active"


@sensitive_variables("token")
def _check_can_see(org: str, token: str) -> None:
    """A token that came by the GitHub App sees no organization where that is not installed: then it has not said no."""
    app = apps.current()
    if app is None or not token.startswith(_OF_APPS):
        return
    try:
        is_there = installations.find_on_organization(app, org) is not None
    except AppError as error:
        raise Unclear(f"It could not be asked whether you are a member of {org}: {error.message}") from error
    if not is_there:
        raise Unclear(
            f"GitHub does not show whether you are a member of {org}. Its owners have to install the GitHub App {app.name} first."
        )


@sensitive_variables("token")
def ask(path: str, token: str) -> Answer:
    """GitHub's answer to one question about the token's account. Unclear when there is none now; what is an answer is raised as such."""
    try:
        with closing(Connection(token)) as connection:
            return connection.ask("GET", path)
    except (NotFoundOnGitHub, PermissionMissing, TokenRefused):
        raise
    except GitHubError as error:
        raise Unclear(f"It could not be asked who you are at GitHub: {error.message}") from error


def as_it_is(session: requests.Session) -> requests.Session:
    """The session, which puts no login of this machine's ~/.netrc in the place of the token: the answer would be about somebody else."""
    session.auth = lambda request: request
    return session


def can_push(scopes: Collection[str]) -> bool:
    """Whether a token with these scopes may write to repositories; one that tells none (of a GitHub App, fine-grained) may well."""
    return not scopes or not {"repo", "public_repo"}.isdisjoint(scopes)
