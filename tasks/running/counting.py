"""Counters of /metrics for what no row tells for good: one hash in Redis, so that all processes of all hosts count in one place.

Redis can be lost, and then they begin at zero again, as Prometheus allows a counter to. So nothing but /metrics may depend on
them, and a count that cannot be written is dropped.
"""

from __future__ import annotations

import json
import logging
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache

import redis
from django.conf import settings
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

HASH = "asynccode:metrics"
TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Counter:
    """Its labels' values are ours, or of a small set: an agent's or a stranger's words would be series without end."""

    name: str
    help: str
    labels: tuple[str, ...] = ()

    def add(self, amount: float, *values: str) -> None:
        if amount:
            _write({_field(self.name, *values): amount})


@dataclass(frozen=True)
class Histogram:
    """How often something took how long, in seconds; `bounds` ascend."""

    name: str
    help: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...]

    def observe(self, seconds: float, *values: str) -> None:
        place = bisect_left(self.bounds, seconds)
        le = str(self.bounds[place]) if place < len(self.bounds) else "+Inf"
        _write({_field(self.name, *values, le): 1.0, _field(f"{self.name}_sum", *values): seconds})


EVENTS = Counter("asynccode_events", "Events stored from the journals of runs.")
TURNS = Counter("asynccode_turns_ended", "Turns that ended, by how and by agent.", ("status", "agent"))
START_SECONDS = Histogram(
    "asynccode_sandbox_start_seconds",
    "How long sandboxes took to be made, or to be woken up.",
    ("backend", "how"),
    (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
)
START_FAILURES = Counter("asynccode_sandbox_start_failures", "Sandboxes that were not made or woken up.", ("backend", "how", "reason"))
MODEL_CALLS = Counter(
    "asynccode_model_calls", "Requests that the broker sent to providers, by the class of the answer.", ("provider", "answer")
)
MODEL_TOKENS = Counter("asynccode_model_tokens", "Tokens that the broker saw, cached and written ones apart.", ("provider", "kind"))
MODEL_COST = Counter("asynccode_model_cost_usd", "What they cost, as far as prices are known.", ("provider",))
MENDS = Counter("asynccode_reconcile_mends", "What reconcile had to send again, take over or clean up.", ("kind",))
DELIVERIES = Counter("asynccode_webhook_deliveries", "Deliveries of GitHub that were worked on.", ("outcome",))

COUNTERS = (EVENTS, TURNS, START_FAILURES, MODEL_CALLS, MODEL_TOKENS, MODEL_COST, MENDS, DELIVERIES)
HISTOGRAMS = (START_SECONDS,)


def read() -> dict[tuple[str, ...], float]:
    """(name, label values) → what was counted. RedisError when Redis is away."""
    return {tuple(json.loads(field)): float(value) for field, value in _redis().hgetall(HASH).items()}


def _field(*words: str) -> str:
    return json.dumps([str(word) for word in words])


def _write(amounts: dict[str, float]) -> None:
    try:
        with _redis().pipeline(transaction=False) as pipeline:
            for field, amount in amounts.items():
                pipeline.hincrbyfloat(HASH, field, amount)
            pipeline.execute()
    except (RedisError, OSError) as error:
        logger.warning("%s was not counted (%s).", ", ".join(amounts), error)


@cache
def _redis() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
