"""Until when GitHub wants to hear nothing, of a token and of a user. The cache remembers it; if that is lost, GitHub says it again."""

from __future__ import annotations

import hashlib
import logging
from datetime import datetime

from django.core.cache import cache
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


@sensitive_variables("token")
def of_token(token: str) -> datetime | None:
    """Until when nothing may be asked by this token; None when it may."""
    return _known(_of_token(token))


def of_user(user_id: int) -> datetime | None:
    """Until when nothing is asked for this user, as far as that was heard when something was asked for them."""
    return _known(_of_user(user_id))


@sensitive_variables("token")
def remember(token: str, user_id: int, until: datetime) -> None:
    """What GitHub said when this token was used for this user."""
    left = max(1.0, (until - timezone.now()).total_seconds())
    try:
        cache.set_many({_of_token(token): until, _of_user(user_id): until}, left)
    except (RedisError, OSError) as error:
        logger.warning("GitHub's limit is not remembered: the cache cannot be reached (%s).", error)


def _known(key: str) -> datetime | None:
    try:
        until: datetime | None = cache.get(key)
    except (RedisError, OSError) as error:
        logger.warning("Whether GitHub's limit is reached is not known: the cache cannot be reached (%s).", error)
        return None
    return until if until and until > timezone.now() else None


@sensitive_variables("token")
def _of_token(token: str) -> str:
    return f"github:limit:{hashlib.sha256(token.encode()).hexdigest()[:32]}"


def _of_user(user_id: int) -> str:
    return f"github:limit-of:{user_id}"
