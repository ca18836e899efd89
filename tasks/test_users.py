"""Test users: made by `manage.py create_test_user` for a while, in a world of their own, and gone with all of it afterwards."""

from __future__ import annotations

import logging
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from tasks import accounts, audit, leaving, tokens, worlds
from tasks.errors import AppError, InvalidInput, NotAllowed
from tasks.models import AuditKind, Budget, BudgetScope, Quota, QuotaScope, Repo, User, allows_test_users
from tasks.running import operations

logger = logging.getLogger(__name__)

SHORTEST, LONGEST = timedelta(minutes=1), timedelta(days=7)
MOST_AT_ONCE = 20  # users whose end one look brings about
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Made:
    """A new test user, and the two ways in, which nobody can ever be told again."""

    user: User
    token: str
    login_link: str
    repos: list[Repo]


def parse_ttl(text: str) -> timedelta:
    """How long "30m", "1h" or "2d" is."""
    found = re.fullmatch(r"([0-9]{1,6})([mhd])", text.strip())
    time = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta()
    if not SHORTEST <= time <= LONGEST:
        raise InvalidInput(f"A test user lives from 1m to {LONGEST.days}d, as in 30m, 1h or 2d; {text!r} is no such time.", field="ttl")
    return time


def create(*, ttl: timedelta) -> Made:
    """A user who is gone after `ttl`, with repositories, a token and a login link. NotAllowed where the settings do not let that be."""
    if not allows_test_users():
        if settings.ALLOW_TEST_USERS == "local":
            raise NotAllowed("There is a PUBLIC_URL here, so ALLOW_TEST_USERS=local allows no test users. Set it to public if they may be.")
        raise NotAllowed("Test users are not allowed here. Set ALLOW_TEST_USERS=local, or public where there is a PUBLIC_URL.")
    with transaction.atomic():
        user = User(username=f"test-{secrets.token_hex(6)}", expires_at=timezone.now() + ttl)
        user.set_unusable_password()
        user.save()
        _bound(user)
        audit.record(AuditKind.USER_ADDED, by=None, subject=user, username=user.username, minutes=int(ttl.total_seconds()) // 60)
    # From here on the user ends by itself, whatever becomes of what follows.
    repos = worlds.make(user)
    _, token = tokens.create_signed_token(user=user)
    return Made(user, token, accounts.create_login_link(user=user), repos)


def _bound(user: User) -> None:
    """What the user may spend and begin: as the settings say, or as little as each person may, which a row of their own would lift."""
    budget = Budget.objects.filter(scope=BudgetScope.USER, user=None).first()
    quota = Quota.objects.filter(scope=QuotaScope.USER, user=None).first()
    usd = min([Decimal(settings.TEST_USER_USD), *([budget.usd] if budget else [])])
    Budget.objects.create(scope=BudgetScope.USER, user=user, usd=usd)
    at_once = _least(settings.TEST_USER_RUNS, quota.at_once if quota else None)
    a_day = _least(settings.TEST_USER_RUNS_A_DAY, quota.a_day if quota else None)
    Quota.objects.create(scope=QuotaScope.USER, user=user, at_once=at_once, a_day=a_day)


def _least(most: int, other: int | None) -> int:
    return most if other is None else min(most, other)


def end_due() -> None:
    """Shut out those whose time is up and have all that is theirs deleted; again where that came to nothing. Some at a time."""
    for user in User.objects.filter(expires_at__lte=Now()).order_by("-is_active", "expires_at")[:MOST_AT_ONCE]:
        try:
            _end(user)
        except AppError:
            logger.exception("The time of %s is up, but they could not be deleted. It is tried again.", user)


def _end(user: User) -> None:
    if not user.is_active:
        operations.begin(leaving.KIND, f"user:{user.pk}")
        return
    with transaction.atomic():
        leaving.close_account(user=user)
        audit.record(AuditKind.USER_SHUT_OUT, by=None, subject=user, username=user.username, why="The time of this test user is up.")
