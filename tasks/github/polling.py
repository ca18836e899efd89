"""Asking GitHub how open pull requests are: where no webhook comes, and for what one delivery alone cannot tell.

When to ask is remembered in the cache. If that is lost, GitHub is asked a little sooner or later than it would have been.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from django.core.cache import cache
from django.db import connection
from django.db.models import F
from django.utils import timezone
from redis.exceptions import RedisError

from tasks.errors import AppError
from tasks.github import sightings
from tasks.github.asking import github_as
from tasks.github.sightings import UNDECIDED, Seen, Sighting
from tasks.github_api.client import GitHub
from tasks.github_api.errors import PermissionMissing, RateLimited
from tasks.models import PullRequest, PullRequestState

logger = logging.getLogger(__name__)

OFTEN, SELDOM = timedelta(minutes=2), timedelta(minutes=5)
LIVELY = timedelta(hours=1)  # after the last change: so long it is looked at often
PAUSE = timedelta(minutes=5)  # after an error
MOST_BASE = 250  # characters of a branch's name that a row holds
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
            for pk, is_lively in _due():
                if time.monotonic() > end:
                    return
                _ask(pk, is_lively=is_lively)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOOKING])


def _due() -> list[tuple[int, bool]]:
    """The ids of those that it is time to look at, and whether something happened to them lately."""
    undecided = PullRequest.objects.filter(state__in=UNDECIDED).exclude(repository="")
    rows = undecided.order_by(F("seen_at").asc(nulls_first=True), "pk").values_list("pk", "seen_at", "created_at")
    found = list(rows[:MOST_LOOKED_AT])
    marks = cache.get_many([_key(kind, pk) for kind in ("soon", "lively", "pause") for pk, _, _ in found])
    now, news, old = timezone.now(), [], []
    for pk, seen_at, created_at in found:
        is_lively = _key("lively", pk) in marks or created_at > now - LIVELY
        if _key("pause", pk) in marks:
            continue
        if _key("soon", pk) in marks:
            news.append((pk, is_lively))
        elif seen_at is None or seen_at <= now - (OFTEN if is_lively else SELDOM):
            old.append((pk, is_lively))
    return news + old


def _ask(pk: int, *, is_lively: bool) -> None:
    """Ask GitHub with the token of the run's owner, and put what it says into the row. What goes wrong is tried again later."""
    row = PullRequest.objects.filter(pk=pk, state__in=UNDECIDED).first()
    if row is None:
        return
    owner = row.run.task.owner
    # Set before anything can go wrong, so that one that breaks this round is not the first of the next.
    cache.set(_key("pause", pk), True, PAUSE.total_seconds())
    has_news = False
    try:
        with github_as(owner, row.repository) as github:
            has_news = cache.delete(_key("soon", pk))  # what happens from here on has to be asked again
            sighting = _sighting(github, row, "" if has_news or _waits_for_checks(row, is_lively) else row.etag)
    except AppError as error:
        if has_news and isinstance(error, RateLimited):
            ask_soon([pk])
        logger.info("%s was not looked at: %s", row, error.message)
    else:
        if sightings.see(pk, sighting) is Seen.NEWS:
            cache.set(_key("lively", pk), True, LIVELY.total_seconds())
        cache.delete(_key("pause", pk))


def _waits_for_checks(row: PullRequest, is_lively: bool) -> bool:
    """Checks begin and end without a change of the pull request as such, so that its ETag does not tell."""
    return row.checks == "pending" or (is_lively and not row.checks)


def _sighting(github: GitHub, row: PullRequest, etag: str) -> Sighting:
    at = timezone.now()
    pull = github.pull(row.repository, row.number, etag)
    if pull is None:
        return Sighting(at=at, etag=None)
    state = PullRequestState(pull.state)
    checks = review = None
    if state in UNDECIDED:
        checks = _unless_forbidden(lambda: github.checks(row.repository, pull.head_sha).state)
        review = _unless_forbidden(lambda: github.reviews(row.repository, row.number).state)
    return Sighting(at=at, state=state, base=pull.base[:MOST_BASE], checks=checks, review=review, mergeable=pull.mergeable, etag=pull.etag)


def _unless_forbidden(ask: Callable[[], str]) -> str | None:
    """None where the token may not see it, which is no reason to see nothing else."""
    try:
        return ask()
    except PermissionMissing as error:
        logger.info("%s", error.message)
        return None


def _key(kind: str, pk: int) -> str:
    return f"github:{kind}:{pk}"
