"""How asynccode is just now: what has to be there and at work, each with a sentence. Readiness and the doctor say the same."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psycopg
import redis
from django.conf import settings
from django.db import connection
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks.models import Beats
from tasks.running import heartbeats
from tasks.running.heartbeats import Heard

logger = logging.getLogger(__name__)

TIMEOUT_S = 2  # of each question; libpq takes no less
KEPT_S = 1.0  # whoever asks more often is given the same answer
GIB = 1024**3
FREE, LEAST_FREE = 5 * GIB, GIB  # bytes below which it is worth a word, and below which runs are going to fail

_HOW = {
    Beats.FOLLOW: "manage.py follow",
    Beats.GATEWAY: "manage.py gateway",
    Beats.WORKER: "manage.py work",
    Beats.OPERATIONS: "manage.py work",
    Beats.RECONCILE: "manage.py rqcron asynccode.cron",
}


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """What came of a check. The sentence of what is not ok says what to do."""

    check: str
    state: State
    sentence: str

    @classmethod
    def ok(cls, check: str, sentence: str) -> Finding:
        return cls(check, State.OK, sentence)

    @classmethod
    def warning(cls, check: str, sentence: str) -> Finding:
        return cls(check, State.WARNING, sentence)

    @classmethod
    def problem(cls, check: str, sentence: str) -> Finding:
        return cls(check, State.PROBLEM, sentence)


_lock = threading.Lock()
_kept: tuple[float, list[Finding]] | None = None


def recently() -> list[Finding]:
    """As `look`, at most KEPT_S ago: anybody may ask for it, and shall not keep the database busy by that."""
    global _kept  # noqa: PLW0603 (one answer for all threads)
    with _lock:
        if _kept is None or time.monotonic() - _kept[0] > KEPT_S:
            found = look()
            _log_news(_kept[1] if _kept else [], found)
            _kept = (time.monotonic(), found)
        return _kept[1]


def _log_news(before: Sequence[Finding], now: Sequence[Finding]) -> None:
    old, new = ({finding.check: finding.sentence for finding in found if finding.state is State.PROBLEM} for found in (before, now))
    for check in new.keys() - old.keys():
        logger.warning("Not ready: %s", new[check])
    for check in old.keys() - new.keys():
        logger.info("Ready again: %s", check)


def look() -> list[Finding]:
    """What runs need; takes no longer than some seconds, whatever is away. It uses no connection of Django's, of which there may be
    none left."""
    try:
        with asking() as conn:
            found = [Finding.ok("database", "PostgreSQL answers."), *services(read_heartbeats(conn))]
    except psycopg.errors.UndefinedTable:
        found = [Finding.problem("database", "The tables are not those of this version. Bring them up to date: manage.py migrate")]
    except psycopg.Error as error:
        found = [Finding.problem("database", f"PostgreSQL (DATABASE_URL) does not answer: {said(error)}")]
    return [*found, redis_answers(), disk()]


@contextmanager
def asking() -> Iterator[psycopg.Connection[Any]]:
    """A connection for a few quick questions. psycopg.Error."""
    params = connection.get_connection_params()
    wanted = {key: value for key, value in params.items() if key not in ("cursor_factory", "context", "prepare_threshold")}
    wanted["options"] = f"{wanted.get('options', '')} -c statement_timeout={TIMEOUT_S}s".strip()
    with psycopg.connect(**wanted | {"connect_timeout": TIMEOUT_S}, autocommit=True) as conn:
        yield conn


def read_heartbeats(conn: psycopg.Connection[Any]) -> list[Heard]:
    return [Heard(Beats(kind), host, age_s) for kind, host, age_s in conn.execute(heartbeats.READ)]


def services(heard: Sequence[Heard]) -> list[Finding]:
    """Of each kind of service: one has to be at work somewhere, and those of this host. What another host lacks is only said: it may
    be gone for good."""
    return [_service(kind, [one for one in heard if one.kind == kind]) for kind in Beats]


def _service(kind: Beats, heard: Sequence[Heard]) -> Finding:
    late = [one for one in heard if one.is_late]
    ours = [one for one in late if one.host in ("", settings.HOST_NAME)]
    if not heard:
        return Finding.problem(kind, f"{kind.label} was not heard of. `manage.py up` starts it; by itself it is `{_HOW[kind]}`.")
    if ours or len(late) == len(heard):
        return Finding.problem(kind, f"{_last(ours or late)} Its log says why; by itself it is started by `{_HOW[kind]}`.")
    if late:
        return Finding.warning(kind, f"{_last(late)} If that host is gone for good, it is forgotten after ten minutes.")
    return Finding.ok(kind, _last(heard))


def _last(heard: Sequence[Heard]) -> str:
    newest = min(heard, key=lambda one: one.age_s)
    return f"{newest.name} was last heard of {max(0, newest.age_s):.0f} s ago."


def redis_answers() -> Finding:
    client = redis_client()
    try:
        client.ping()
    except redis.RedisError as error:
        return Finding.problem("redis", f"Redis (REDIS_URL) does not answer: {said(error)}")
    finally:
        client.close()
    return Finding.ok("redis", "Redis answers.")


def redis_client() -> redis.Redis:
    """One that waits for nothing for long."""
    bounds = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
    return redis.Redis.from_url(settings.REDIS_URL, retry=Retry(NoBackoff(), 0), **bounds)


def disk() -> Finding:
    try:
        free = shutil.disk_usage(settings.DATA).free
    except OSError as error:
        return Finding.problem("disk", f"The data folder {settings.DATA} cannot be used: {error.strerror}. Set ASYNCCODE_DATA.")
    sentence = f"{free / GIB:.1f} GiB are free where the data folder lies."
    if free >= FREE:
        return Finding.ok("disk", sentence)
    advice = "Make room, or set SANDBOX_RETENTION_H lower: sandboxes of finished runs are kept that long."
    return (Finding.problem if free < LEAST_FREE else Finding.warning)("disk", f"{sentence} {advice}")


def said(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].removesuffix(".") + "."
