"""By which token we act at GitHub for somebody: their own account's, else the GitHub App's, else the site's."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from tasks.errors import AppError, InvalidInput
from tasks.github_api import admission, apps, installations, renewal
from tasks.github_api.admission import Unclear
from tasks.github_api.answers import line, mapping, number
from tasks.github_api.errors import NotFoundOnGitHub, PermissionMissing, TokenRefused
from tasks.models import GitHubAccount, GitHubApp, GitHubCredentialKind, User

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Person:
    """Somebody at GitHub who has just shown that they are this account, and the token that came with it."""

    github_id: int
    login: str
    token: str = field(repr=False)
    name: str = ""
    email: str = ""
    scopes: Sequence[str] = ()
    expires_at: datetime | None = None
    refresh_token: str = field(default="", repr=False)
    refresh_expires_at: datetime | None = None
    client_id: str = ""  # of the application that the token came by
    kind: str = GitHubCredentialKind.OAUTH


class Refused(InvalidInput):
    """GitHub does not take this token."""

    code = "github_token_refused"

    def __init__(self) -> None:
        super().__init__("GitHub does not take this token. Copy it again, or make a new one there.", field="token")


@sensitive_variables("token")
def look(token: str) -> Person:
    """Whose token this is and what it may do, by one cheap call. Refused, or Unclear when GitHub does not say now."""
    try:
        answer = admission.ask("/user", token)
    except TokenRefused:
        raise Refused from None
    except (NotFoundOnGitHub, PermissionMissing) as error:
        raise Unclear(f"GitHub does not tell whose token this is: {error.message}") from error
    said = mapping(answer.value)
    if not number(said.get("id")) or not line(said.get("login")):
        raise Unclear("GitHub does not tell whose token this is. Try again in a few minutes.")
    if answer.scopes == () and token.startswith("ghp_"):  # others with none have permissions, which GitHub does not tell
        raise InvalidInput("This token has no scopes. Give it repo and workflow at GitHub, and paste it again.", field="token")
    return Person(
        github_id=said["id"],
        login=line(said["login"]),
        token=token,
        scopes=answer.scopes or (),
        expires_at=_time(answer.headers.get("github-authentication-token-expiration", "")),
        kind=GitHubCredentialKind.PAT,
    )


def _time(text: str) -> datetime | None:
    """`2026-12-31 10:00:00 UTC`, as GitHub writes when a token ends; None for what is not written so."""
    try:
        return datetime.strptime(text.removesuffix(" UTC"), "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


class NoToken(AppError):
    """There is no token by which this user may act at GitHub."""

    code = "github_not_connected"


def token_for(user: User, repository: str = "") -> str:
    """The token of the user's own account, when it may write to repositories; else one of the GitHub App's for this repository, when
    the user's account at GitHub may write to it; else the site's. NoToken says what to do, and an error of GitHub's what is in the way.

    `repository` is owner/name where one is meant; "" where none is. GitHub may be asked, so this is nothing for within a transaction.
    """
    account = own(user)
    problem = _problem(account)
    app = apps.current() if repository else None
    if account is not None and not problem and (app is None or _reaches(account, app, repository)):
        return account.token
    if app is not None and account is not None:
        try:
            if installations.may_write(app, repository, account):
                return installations.token(app, repository)
            problem = problem or f"Your GitHub account {account.login} may not write to {repository}. Ask its owners for write access."
        except installations.NotInstalled as error:
            problem = f"{problem} Or: {error.message}" if problem else error.message
    if settings.GITHUB_TOKEN:
        return settings.GITHUB_TOKEN
    raise NoToken(problem)


def app_token(repository: str) -> str | None:
    """The GitHub App's token for a repository, to speak there as itself; None where it is not installed. GitHub may be asked."""
    app = apps.current()
    try:
        return installations.token(app, repository) if app else None
    except installations.NotInstalled as error:
        logger.info("%s", error.message)
        return None


def own(user: User) -> GitHubAccount | None:
    """The user's account at GitHub, its token renewed if it was about to expire. Unavailable when it is over and GitHub is silent."""
    account = GitHubAccount.objects.filter(user=user).first()
    return renewal.renewed(account) if account else None


def _reaches(account: GitHubAccount, app: GitHubApp, repository: str) -> bool:
    """Whether the account's token can reach this repository at all: one that came by the app, where the app is installed only."""
    if account.client_id != app.client_id:
        return True
    try:
        return bool(installations.check(app, repository))
    except installations.NotInstalled:
        return False


def _problem(account: GitHubAccount | None) -> str:
    """Why an account's token cannot be used, and what to do; "" when it can."""
    if account is None or not account.token_encrypted:
        return "GitHub is not connected. Connect your repositories in Settings, under GitHub."
    if needs_sign_in(account):
        return "GitHub does not take your token any more. Connect GitHub again in Settings, under GitHub."
    if not admission.can_push(account.scopes):
        return "You are signed in with GitHub, but your repositories are not connected. Connect them in Settings, under GitHub."
    return ""


def missing(account: GitHubAccount) -> list[str]:
    """What the account's token cannot do of what work on repositories needs, in sentences; of a token that tells no scopes, nothing."""
    if not account.scopes:
        return []
    found = []
    if not admission.can_push(account.scopes):
        found.append("It cannot reach your private repositories, push branches or open pull requests (scope repo).")
    elif "repo" not in account.scopes:
        found.append("It reaches public repositories only (scope repo would reach private ones too).")
    if "workflow" not in account.scopes:
        found.append("It cannot push changes to files in .github/workflows (scope workflow).")
    if settings.GITHUB_ALLOWED_ORGS and {"read:org", "write:org", "admin:org"}.isdisjoint(account.scopes):
        found.append("It does not show of which organizations you are a member (scope read:org).")
    return found


def needs_sign_in(account: GitHubAccount) -> bool:
    """Whether the token there is no good any more, nor can be renewed, so that the user has to sign in again."""
    now = timezone.now()
    is_over = account.expires_at is not None and account.expires_at <= now
    is_renewable = bool(account.refresh_token_encrypted) and (account.refresh_expires_at is None or account.refresh_expires_at > now)
    return bool(account.token_encrypted) and (account.refused_at is not None or (is_over and not is_renewable))


def is_refused(user: User) -> bool:
    """Whether the user is to be asked to connect GitHub again: one cheap question, for pages."""
    is_over = Q(expires_at__lte=Now()) & (Q(refresh_token_encrypted=b"") | Q(refresh_expires_at__lte=Now()))
    refused = GitHubAccount.objects.filter(Q(refused_at__isnull=False) | is_over, user=user)
    return refused.exclude(token_encrypted=b"").exists()


def refused(user: User, repository: str = "") -> None:
    """GitHub has answered with 401 to the token of `token_for`: if it was the user's own, they are asked to connect again; if it was
    the GitHub App's, a new one is made next time."""
    account = GitHubAccount.objects.filter(user=user).first()
    app = apps.current() if repository else None
    is_own = account is not None and not _problem(account) and (app is None or _reaches(account, app, repository))
    if app is not None:
        installations.forget(app, repository.split("/")[0])
    if account is not None and is_own:
        same = GitHubAccount.objects.filter(pk=account.pk, token_encrypted=account.token_encrypted)  # it may have been replaced
        same.update(refused_at=Now())
