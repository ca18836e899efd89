"""Asking GitHub how pull requests are: where no webhook comes, and for what one delivery alone cannot tell.

When to ask is remembered in the cache. If that is lost, GitHub is asked a little sooner or later than it would have been.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from django.core.cache import cache
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

_ASKED_FOR_S = 600


def ask_soon(pull_request_ids: Iterable[int]) -> None:
    """Let GitHub be asked about these in the next round; told of them many times, it is asked once."""
    try:
        cache.set_many({_soon(pk): True for pk in pull_request_ids}, _ASKED_FOR_S)
    except (RedisError, OSError) as error:
        logger.warning("GitHub is not asked at once: the cache cannot be reached (%s).", error)


def _soon(pk: int) -> str:
    return f"github:soon:{pk}"
