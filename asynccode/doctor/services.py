"""The database and Redis, what is in them, and who is at work."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import psycopg
import redis
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from asynccode.doctor.checkup import is_asleep
from tasks import credentials
from tasks.models.encrypted import is_fresh, rotate
from tasks.running import condition
from tasks.running.condition import Finding, said

LEAST_POSTGRES = 14
SKEW_S = 5.0  # leases and tokens go by clocks
MOST_READ = 2000  # secrets of a kind that are looked at
ASLEEP = "asynccode is not running, so its own {} is not either. Start it: make run"


def database() -> Iterator[Finding]:
    """It, its clock, and what its heartbeats tell."""
    begun = time.time()
    try:
        with condition.asking() as conn:
            (there,) = conn.execute("SELECT extract(epoch FROM clock_timestamp())::float").fetchone() or (0.0,)
            took = time.time() - begun
            major = conn.info.server_version // 10000
            whose = "the embedded one" if settings.IS_DATABASE_EMBEDDED else "DATABASE_URL"
            if major < LEAST_POSTGRES:
                yield Finding.problem("database", f"PostgreSQL {major} is too old: asynccode needs {LEAST_POSTGRES} or newer.")
            else:
                yield Finding.ok("database", f"PostgreSQL {major} ({whose}) answered in {took * 1000:.0f} ms.")
            yield clock("the database's", there - (begun + took / 2), slack_s=took / 2)
            yield from condition.services(condition.read_heartbeats(conn))
    except psycopg.errors.UndefinedTable:
        return  # `migrations` says so
    except psycopg.Error as error:
        if is_asleep():
            yield Finding.warning("database", ASLEEP.format("PostgreSQL"))
        else:
            yield Finding.problem("database", f"PostgreSQL (DATABASE_URL) does not answer: {said(error)}")


def clock(whose: str, ahead_s: float, *, slack_s: float = 0.0) -> Finding:
    """What a clock that is ahead of ours by that much means; so much of it may come from the asking."""
    if abs(ahead_s) - slack_s < SKEW_S:
        return Finding.ok("clock", f"This machine's clock and {whose} agree.")
    direction = "behind" if ahead_s > 0 else "ahead of"
    return Finding.problem(
        "clock", f"This machine's clock is {abs(ahead_s):.0f} s {direction} {whose}. Set it by NTP: timedatectl set-ntp true"
    )


def migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        first = f"{len(plan)} migration{' is' if len(plan) == 1 else 's are'} not applied, {plan[0][0].name} first."
        yield Finding.problem("migrations", f"{first} Apply them, as `manage.py up` does: manage.py migrate")
    elif unknown := set(executor.loader.applied_migrations) - set(executor.loader.disk_migrations):
        newest = max(name for _, name in unknown)
        yield Finding.warning("migrations", f"The database has migrations of a newer version ({newest}). Go on with that version.")
    else:
        yield Finding.ok("migrations", "All are applied.")


def cache() -> Iterator[Finding]:
    client = condition.redis_client()
    try:
        told = client.info("server")
    except redis.RedisError as error:
        if settings.IS_REDIS_EMBEDDED and is_asleep():
            yield Finding.warning("redis", ASLEEP.format("Valkey"))
        else:
            yield Finding.problem("redis", f"Redis (REDIS_URL) does not answer: {said(error)}")
        return
    finally:
        client.close()
    name, version = ("Valkey", told["valkey_version"]) if "valkey_version" in told else ("Redis", told.get("redis_version", "?"))
    yield Finding.ok("redis", f"{name} {version} ({'the embedded one' if settings.IS_REDIS_EMBEDDED else 'REDIS_URL'}) answers.")


def secrets() -> Iterator[Finding]:
    """Whether all that is stored encrypted can be read, and by which key."""
    counts, lost = Counter[str](), []
    for model, column in credentials.ROTATED:
        rows = model._default_manager.order_by("-pk").values_list("pk", column)[:MOST_READ]
        for pk, value in rows:
            if not value:
                continue
            if is_fresh(value):
                counts["fresh"] += 1
            elif rotate(value) is not None:
                counts["old"] += 1
            else:
                lost.append(f"{model._meta.verbose_name} {pk}")
    if lost:
        names = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        sentence = f"No key of ENCRYPTION_KEYS can read: {names}. Add the key that they were written with at its end, or set them anew."
        yield Finding.problem("secrets", sentence)
    if counts["old"]:
        yield Finding.warning("secrets", f"{counts['old']} are written under an older key. Write them anew: manage.py rotate-keys")
    elif not lost:
        more = " The older keys can be taken out of ENCRYPTION_KEYS." if len(settings.ENCRYPTION_KEYS) > 1 else ""
        yield Finding.ok("secrets", f"{counts['fresh']} are stored, all under the first of ENCRYPTION_KEYS.{more}")
