"""The figures of /metrics. What rows tell is asked of them at each scrape, by few and cheap queries, so it is right whichever process
answers and whatever died; the rest was counted where it happened (running/counting.py). Events are never counted here: there are
millions of them."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator

import django_rq
from django.conf import settings
from django.db import connection
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from tasks.models import RunStatus
from tasks.running import counting, heartbeats

logger = logging.getLogger(__name__)

_LABELED = {
    "asynccode_runs": (
        "Runs, by what they are.",
        ("status",),
        f"SELECT s, coalesce(runs, 0) FROM unnest(ARRAY{RunStatus.values}) s"
        " LEFT JOIN (SELECT status, count(*) AS runs FROM tasks_run GROUP BY 1) r ON r.status = s ORDER BY s",
    ),
    "asynccode_sandboxes": (
        "Sandboxes that are not destroyed.",
        ("backend", "status"),
        "SELECT backend, status, count(*) FROM tasks_sandbox WHERE status <> 'destroyed' GROUP BY 1, 2",
    ),
    "asynccode_operations": (
        "Long chores, by what they are.",
        ("kind", "status"),
        "SELECT kind, status, count(*) FROM tasks_operation GROUP BY 1, 2",
    ),
    "asynccode_heartbeat_age_seconds": ("Since a service was last heard of.", ("kind", "host"), heartbeats.READ),
}
_PLAIN = {
    "asynccode_queue_age_seconds": (
        "How long the run that could start has waited longest; 0 when none waits.",
        "SELECT max(extract(epoch FROM clock_timestamp() - greatest(queued_at, not_before))) FROM tasks_run"
        " WHERE status = 'queued' AND coalesce(not_before <= clock_timestamp(), true)",
    ),
    "asynccode_follower_lag_seconds": (
        "Since the journal of a running run was last read, of the one where that is longest; there is something to read every 10 s.",
        "SELECT max(extract(epoch FROM clock_timestamp() - greatest(s.seen_at, r.started_at))) FROM tasks_run r"
        " LEFT JOIN tasks_sandbox s ON s.run_id = r.id AND s.generation = r.generation WHERE r.status = 'running'",
    ),
    "asynccode_webhook_deliveries_waiting": (
        "Deliveries of GitHub that wait to be worked on.",
        "SELECT count(*) FROM tasks_delivery WHERE status = 'queued'",
    ),
}


class Rows(Collector):
    """What the database tells."""

    def collect(self) -> Iterator[Metric]:
        with connection.cursor() as cursor:
            for name, (text, labels, query) in _LABELED.items():
                family = GaugeMetricFamily(name, text, labels=labels)
                cursor.execute(query)
                for *values, number in cursor.fetchall():
                    family.add_metric([str(value) for value in values], float(number))
                yield family
            for name, (text, query) in _PLAIN.items():
                cursor.execute(query)
                yield GaugeMetricFamily(name, text, value=max(0.0, float(cursor.fetchone()[0] or 0)))


class Counted(Collector):
    """What was counted in Redis, and what waits there; nothing but that it is away, while it is."""

    def collect(self) -> Iterable[Metric]:
        try:
            found = [*self._counters(counting.read()), self._jobs()]
        except RedisError as error:
            logger.warning("Redis tells /metrics nothing (%s).", error)
            found = []
        return [GaugeMetricFamily("asynccode_redis_up", "Whether Redis answers.", value=float(bool(found))), *found]

    def _counters(self, counts: dict[tuple[str, ...], float]) -> Iterator[Metric]:
        of: dict[str, list[tuple[tuple[str, ...], float]]] = defaultdict(list)
        for (name, *labels), number in counts.items():
            of[name].append((tuple(labels), number))
        for counter in counting.COUNTERS:
            family = CounterMetricFamily(counter.name, counter.help, labels=counter.labels)
            for values, number in sorted(of[counter.name]) or ([] if counter.labels else [((), 0.0)]):
                family.add_metric(values, number)
            yield family
        for histogram in counting.HISTOGRAMS:
            yield self._histogram(histogram, dict(of[histogram.name]), dict(of[f"{histogram.name}_sum"]))

    def _histogram(self, kind: counting.Histogram, places: dict[tuple[str, ...], float], sums: dict[tuple[str, ...], float]) -> Metric:
        family = HistogramMetricFamily(kind.name, kind.help, labels=kind.labels)
        for values, total in sorted(sums.items()):
            buckets, reached = [], 0.0
            for le in (*map(str, kind.bounds), "+Inf"):
                reached += places.get((*values, le), 0.0)
                buckets.append((le, reached))
            family.add_metric(values, buckets, total)
        return family

    def _jobs(self) -> Metric:
        family = GaugeMetricFamily("asynccode_jobs_waiting", "Jobs that no worker has begun, in the queues of this host.", labels=["queue"])
        for name in settings.RQ_QUEUES:
            family.add_metric([name], float(django_rq.get_queue(name).count))
        return family


REGISTRY = CollectorRegistry(auto_describe=False)
REGISTRY.register(Rows())
REGISTRY.register(Counted())
