"""Tokens that expire, as those of people who sign in by a GitHub App: renewed when they are used, shortly before their end."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import requests
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from tasks.github_api import apps
from tasks.github_api.admission import as_it_is
from tasks.github_api.answers import mapping, number, text
from tasks.github_api.apps import Client
from tasks.github_api.connection import TIMEOUT_S
from tasks.github_api.errors import Unavailable
from tasks.models import GitHubAccount

logger = logging.getLogger(__name__)

EARLY = timedelta(minutes=10)
_MOST_S = 400 * 24 * 3600  # that a lifetime of GitHub's can be


class _Refused(Exception):
    """GitHub does not renew this token, now or later."""


@dataclass(frozen=True)
class _New:
    token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: datetime | None
    refresh_expires_at: datetime | None


def renewed(account: GitHubAccount) -> GitHubAccount:
    """The account with a token that is good for some minutes more, if it is one that can be renewed.

    What GitHub refuses to renew is marked as refused. Unavailable when the token is over and GitHub cannot be asked. Not within a
    transaction: each refresh token is good once, so the next one has to be kept whatever happens to the caller's work.
    """
    if not _is_due(account):
        return account
    with transaction.atomic(durable=True):
        # Whoever comes second waits here until the first has the new token.
        row = GitHubAccount.objects.select_for_update(no_key=True).get(pk=account.pk)
        if _is_due(row):
            _renew(row)
    return row


def _is_due(account: GitHubAccount) -> bool:
    if not account.refresh_token_encrypted or account.refused_at or account.expires_at is None:
        return False
    return account.expires_at <= timezone.now() + EARLY


def _renew(row: GitHubAccount) -> None:
    try:
        new = _ask(apps.client_of(row.client_id), row.refresh_token)
    except _Refused as refusal:
        logger.info("GitHub does not renew the token of %s: %s", row.login, refusal)
        if row.expires_at and row.expires_at <= timezone.now():
            row.refused_at = timezone.now()
        row.refresh_token = ""
        row.save(update_fields=["refused_at", "refresh_token_encrypted"])
    except Unavailable:
        if row.expires_at and row.expires_at <= timezone.now():
            raise
    else:
        row.token, row.refresh_token = new.token, new.refresh_token
        row.expires_at, row.refresh_expires_at = new.expires_at, new.refresh_expires_at
        row.save(update_fields=["token_encrypted", "refresh_token_encrypted", "expires_at", "refresh_expires_at"])


@sensitive_variables()
def _ask(client: Client | None, refresh_token: str) -> _New:
    if client is None:
        raise _Refused("the application that they signed in by is not in use any more")
    form = {
        "client_id": client.id,
        "client_secret": client.secret,
        "grant_type": "refresh_token",
        "refresh_token": refresh_token,
    }
    try:
        with as_it_is(requests.Session()) as session:
            answer = session.post(
                f"{settings.GITHUB_URL}/login/oauth/access_token",
                data=form,
                headers={"Accept": "application/json"},
                timeout=TIMEOUT_S,
                allow_redirects=False,
            )
            said = mapping(answer.json()) if answer.ok else {}
    except (requests.RequestException, RecursionError) as error:  # without its cause, whose frames hold the form
        logger.info("A token is not renewed now: %s", type(error).__name__)
        raise Unavailable("GitHub does not answer, so that your token there cannot be renewed. Try again.") from None
    if said.get("error") or answer.status_code in (400, 401, 404, 422):
        raise _Refused(text(said.get("error"))[:100] or f"it answered {answer.status_code}")
    return _read(said)


@sensitive_variables()
def _read(said: dict[str, Any]) -> _New:
    token, refresh_token = text(said.get("access_token")), text(said.get("refresh_token"))
    if not token or not token.isascii():
        raise Unavailable("GitHub answers in a way that makes no sense, so that your token there cannot be renewed. Try again.")
    return _New(token, refresh_token, ends(said.get("expires_in")), ends(said.get("refresh_token_expires_in")))


def ends(seconds: Any) -> datetime | None:
    """When something that GitHub says to live for so long is over; None where it does not say."""
    return timezone.now() + timedelta(seconds=min(number(seconds), _MOST_S)) if number(seconds) else None
