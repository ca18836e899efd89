"""How often something may be tried. Counted in the cache, which may be lost: then nothing is limited, and the log says so."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass

from django.core.cache import cache
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limit:
    """At most `most` tries of one key in each stretch of `seconds`.

    A try is counted before it is made, so that many at the same time do not slip through; one that was rightful is given back.
    """

    name: str
    most: int
    seconds: int

    def take(self, key: str) -> int:
        """Count a try; 0 when it may be made, else in how many seconds the next one may."""
        now = time.time()
        try:
            cache.add(self._key(key, now), 0, timeout=self.seconds + 5)
            count = cache.incr(self._key(key, now))
        except ValueError:  # it ended between the two
            return 0
        except (RedisError, OSError) as error:
            logger.warning("Tries by %s are not limited now: the cache cannot be reached (%s).", self.name, error)
            return 0
        return 0 if count <= self.most else max(1, round(self.seconds - now % self.seconds))

    def give_back(self, key: str) -> None:
        try:
            cache.decr(self._key(key, time.time()))
        except ValueError:
            return  # the stretch is over
        except (RedisError, OSError) as error:
            logger.info("A try by %s was not given back (%s).", self.name, error)

    def _key(self, key: str, now: float) -> str:
        digest = hashlib.sha256(key.casefold().encode(errors="surrogatepass")).hexdigest()[:32]
        return f"limit:{self.name}:{digest}:{int(now // self.seconds)}"


# An office may share one address; nobody types one name's password wrong this often.
ADDRESS = Limit("address", most=30, seconds=300)
USERNAME = Limit("username", most=10, seconds=300)
# By the address that comes with no good token; nobody guesses one.
TOKENS = Limit("tokens", most=60, seconds=60)
# Each asks a provider over the network.
KEYS = Limit("keys", most=20, seconds=300)
GITHUB = Limit("github", most=60, seconds=300)  # an office's sign-ins; each leaves a session
