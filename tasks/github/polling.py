"""Asking GitHub how open pull requests are: where no webhook comes, and for what one delivery alone cannot tell.

When to ask is remembered in the cache. If that is lost, GitHub is asked a little sooner or later than it would have been.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.core.cache import cache
from django.db import connection
from django.db.models import F
from django.utils import timezone
from redis.exceptions import RedisError

from tasks.errors import AppError
from tasks.github import credentials, sightings
from tasks.github.client import GitHub
from tasks.github.errors import PermissionMissing, RateLimited, TokenRefused
from tasks.github.sightings import UNDECIDED, Seen, Sighting
from tasks.models import PullRequest, PullRequestState

logger = logging.getLogger(__name__)

OFTEN, SELDOM = timedelta(minutes=2), timedelta(minutes=5)
LIVELY = timedelta(hours=1)  # after the last change: so long it is looked at often
PAUSE = timedelta(minutes=5)  # after an error
ROUND_S = 60.0
MOST_LOOKED_AT = 1000  # in one round: those that were seen longest ago
_ASKED_FOR = timedelta(minutes=10)
_LOOKING = 0x61636F67  # advisory lock: one round at a time, over all hosts


def ask_soon(pull_request_ids: Iterable[int]) -> None:
    """Something has happened to these: let GitHub be asked about them in the next round, once however often this is called, and often
    from now on."""
    keys = list(pull_request_ids)
    try:
        cache.set_many({_key("soon", pk): True for pk in keys}, _ASKED_FOR.total_seconds())
        cache.set_many({_key("lively", pk): True for pk in keys}, LIVELY.total_seconds())
    except (RedisError, OSError) as error:
        logger.warning("GitHub is not asked at once: the cache cannot be reached (%s).", error)


def look() -> None:
    """One round: ask about those that are due, those first to which something has happened, until its time is over."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_LOOKING])
        if not cursor.fetchone()[0]:
            return
        try:
            end = time.monotonic() + ROUND_S
            for due in _due():
                if time.monotonic() > end:
                    return
                _ask(due)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOOKING])


@dataclass(frozen=True)
class _Due:
    """A pull request that it is time to look at. `has_news`: something has happened to it that GitHub is to be asked about."""

    row: PullRequest
    has_news: bool
    is_lively: bool

    @property
    def etag(self) -> str:
        """ "" where the whole answer is wanted: checks begin and end without a change of the pull request as such."""
        waits_for_checks = self.row.checks == "pending" or (self.is_lively and not self.row.checks)
        return "" if self.has_news or waits_for_checks else self.row.etag


def _due() -> list[_Due]:
    undecided = PullRequest.objects.filter(state__in=UNDECIDED).exclude(repository="").select_related("run__task__owner")
    rows = list(undecided.order_by(F("seen_at").asc(nulls_first=True), "pk")[:MOST_LOOKED_AT])
    marks = cache.get_many(_key(kind, row.pk) for kind in ("soon", "lively", "pause") for row in rows)
    now, found = timezone.now(), []
    for row in rows:
        has_news = _key("soon", row.pk) in marks
        is_lively = _key("lively", row.pk) in marks or row.created_at > now - LIVELY
        is_old = row.seen_at is None or row.seen_at <= now - (OFTEN if is_lively else SELDOM)
        if (has_news or is_old) and _key("pause", row.pk) not in marks:
            found.append(_Due(row, has_news, is_lively))
    return sorted(found, key=lambda due: not due.has_news)


def _ask(due: _Due) -> None:
    """Ask GitHub with the token of the run's owner, and put what it says into the row. What goes wrong is tried again later."""
    row, owner = due.row, due.row.run.task.owner
    try:
        token = credentials.token_for(owner)
    except AppError as error:
        _pause(row, error)
        return
    if (until := cache.get(_limit_key(token))) is not None and until > timezone.now():
        return
    cache.delete(_key("soon", row.pk))  # what happens from here on has to be asked again
    try:
        with GitHub(token) as github:
            sighting = _sighting(github, row, due.etag)
    except RateLimited as error:
        _wait(token, error)
        if due.has_news:
            ask_soon([row.pk])
    except TokenRefused as error:
        credentials.refused(owner)
        _pause(row, error)
    except AppError as error:
        _pause(row, error)
    else:
        if sightings.see(row.pk, sighting) is Seen.NEWS:
            cache.set(_key("lively", row.pk), True, LIVELY.total_seconds())


def _sighting(github: GitHub, row: PullRequest, etag: str) -> Sighting:
    at = timezone.now()
    pull = github.pull(row.repository, row.number, etag)
    if pull is None:
        return Sighting(at=at, etag=etag)
    state = PullRequestState(pull.state)
    checks = review = None
    if state in UNDECIDED:
        checks = _unless_forbidden(lambda: github.checks(row.repository, pull.head_sha).state)
        review = _unless_forbidden(lambda: github.reviews(row.repository, row.number).state)
    return Sighting(at=at, state=state, base=pull.base, checks=checks, review=review, mergeable=pull.mergeable, etag=pull.etag)


def _unless_forbidden(ask: Callable[[], str]) -> str | None:
    """None where the token may not see it, which is no reason to see nothing else."""
    try:
        return ask()
    except PermissionMissing as error:
        logger.info("%s", error.message)
        return None


def _pause(row: PullRequest, error: AppError) -> None:
    logger.info("%s was not looked at: %s", row, error.message)
    cache.set(_key("pause", row.pk), True, PAUSE.total_seconds())


def _wait(token: str, error: RateLimited) -> None:
    logger.warning("%s", error.message)
    seconds = (error.until - timezone.now()).total_seconds()
    if seconds > 0:
        cache.set(_limit_key(token), error.until, seconds)


def _key(kind: str, pk: int) -> str:
    return f"github:{kind}:{pk}"


def _limit_key(token: str) -> str:
    return f"github:limit:{hashlib.sha256(token.encode()).hexdigest()[:32]}"
