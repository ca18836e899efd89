"""Reading what is on GitHub as its owner here does: nobody gets to see what their own account at GitHub may not see."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.conf import settings
from django.views.decorators.debug import sensitive_variables

from tasks.git.commands import GitFailed
from tasks.git.refusals import ReadRefused, reading_refusal
from tasks.git.sources import Source
from tasks.github_api import credentials
from tasks.github_api.credentials import NoToken
from tasks.github_api.places import name_of
from tasks.models import Repo, User

T = TypeVar("T")


@sensitive_variables("token")
def token_for(user: User, repository: str = "") -> str:
    """The token by which this user may read. NoToken says why there is none, and an error of GitHub's what is in the way.

    The site's token reads for operators only, as folders of this machine do: what it may see was given to the site, and to
    nobody who merely has an account here.
    """
    token = credentials.token_for(user, repository)
    if token == settings.GITHUB_TOKEN and not user.is_operator:
        raise NoToken("GitHub is not connected. Connect your repositories in Settings, under GitHub.")
    return token


@sensitive_variables("token")
def read(repo: Repo, source: Source, fetch: Callable[[str], T]) -> T:
    """What `fetch` gives when it contacts the repository's source with the owner's token, or with "" for none: then they see what
    everybody sees.

    A token that GitHub does not take any more is noted, and what is public is read without. Errors: those of `fetch`,
    ReadRefused in place of GitFailed where GitHub refuses, and an error of GitHub's when it does not tell which token may read.
    """
    repository = name_of(source.url)
    token = missing = ""
    if repository:
        try:
            token = token_for(repo.owner, repository)
        except NoToken as error:
            missing = error.message
    try:
        return fetch(token)
    except GitFailed as error:
        refusal = reading_refusal(error.stderr, source, is_signed_in=bool(token)) if repository else None
        if refusal is None:
            raise
        if refusal.reason != "token":
            raise (ReadRefused(f"{refusal.message} {missing}", refusal.reason) if missing else refusal) from error
    if token == settings.GITHUB_TOKEN:
        refusal = ReadRefused(f"{source.where} does not take this server's GITHUB_TOKEN any more. An operator has to set another.", "token")
    credentials.refused(repo.owner, repository)
    return _without(refusal, fetch)


def _without(refusal: ReadRefused, fetch: Callable[[str], T]) -> T:
    try:
        return fetch("")
    except GitFailed as error:
        raise refusal from error
