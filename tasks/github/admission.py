"""Who may come in with GitHub: the users and the members of organizations that the settings list, asked anew at each sign-in and daily."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final
from urllib.parse import quote

import requests
from django.conf import settings
from django.views.decorators.debug import sensitive_variables

from tasks.errors import AppError

ASK_S: Final = 10.0
SIGN_IN_SCOPES: Final = ("read:user", "user:email")


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
    answer = ask(f"/user/memberships/orgs/{quote(org, safe='')}", token)
    if answer.status_code == 404:
        return False
    if answer.status_code in (401, 403):
        raise Unclear(
            f"GitHub does not show whether you are a member of {org}. Sign in again, and let this application see that organization; "
            "its owners may have to allow the application first."
        )
    if answer.status_code != 200:
        raise Unclear(
            f"GitHub has trouble ({answer.status_code}), so it cannot be seen whether you are a member. Try again in a few minutes."
        )
    return told(answer).get("state") == "active"


@sensitive_variables("token")
def ask(path: str, token: str) -> requests.Response:
    """GitHub's answer to one question about the token's account, whatever its status. Unclear when there is none."""
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"}
    try:
        with as_it_is(requests.Session()) as session:
            return session.get(settings.GITHUB_API_URL + path, headers=headers, timeout=ASK_S, allow_redirects=False)
    except requests.RequestException:
        raise Unclear("GitHub does not answer. Try again in a few minutes.") from None


def as_it_is(session: requests.Session) -> requests.Session:
    """The session, which puts no login of this machine's ~/.netrc in the place of the token: the answer would be about somebody else."""
    session.auth = lambda request: request
    return session


def told(answer: requests.Response) -> dict[str, Any]:
    """The object that an answer holds."""
    try:
        said = answer.json()
    except requests.JSONDecodeError:
        said = None
    if not isinstance(said, dict):
        raise Unclear("GitHub's answer makes no sense. Try again in a few minutes.")
    return said


def can_push(scopes: Collection[str]) -> bool:
    """Whether a token with these scopes may write to repositories; one that tells none (of a GitHub App, fine-grained) may well."""
    return not scopes or not {"repo", "public_repo"}.isdisjoint(scopes)
