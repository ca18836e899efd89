"""What was worked out and is so for good, since its key is a hash of all that it came of. Without a cache it is worked out again."""

from __future__ import annotations

import logging
import pickle
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.cache import cache
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

MOST_BYTES = 1024 * 1024  # of one value, compressed
_KEPT_S = 3 * 24 * 3600


def recall(keys: Iterable[str]) -> dict[str, Any]:
    """What is kept under these keys."""
    try:
        found = cache.get_many(list(keys))
    except (RedisError, OSError) as error:
        logger.warning("Diffs are worked out anew: the cache cannot be reached (%s).", error)
        return {}
    return {key: pickle.loads(zlib.decompress(value)) for key, value in found.items()}  # noqa: S301 (our own, as Django's cache does)


def keep(values: Mapping[str, Any]) -> None:
    """Keep these values; what is too large is not kept."""
    packed = {key: zlib.compress(pickle.dumps(value), 1) for key, value in values.items()}
    small = {key: value for key, value in packed.items() if len(value) <= MOST_BYTES}
    try:
        if small:
            cache.set_many(small, _KEPT_S)
    except (RedisError, OSError) as error:
        logger.warning("Diffs are not kept: the cache cannot be reached (%s).", error)
