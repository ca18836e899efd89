"""Heartbeats: who of those that have to run was last heard of when. Each writes its own row; readiness and the doctor read them."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass

from django.conf import settings
from django.db import DatabaseError, connection

from tasks.models import Beats

logger = logging.getLogger(__name__)

EVERY_S = 5.0
LATE_S = 20.0  # after which a service is not at work any more
RECONCILE_LATE_S = 60.0  # it comes every 15 s, if a worker has time
FORGOTTEN_S = 600.0  # after which a host that is heard of no more is taken for gone

BEAT = """
INSERT INTO tasks_heartbeat AS h (kind, host, pid, started_at, at)
VALUES (%(kind)s, %(host)s, %(pid)s, clock_timestamp(), clock_timestamp())
ON CONFLICT (kind, host) DO UPDATE SET at = excluded.at, pid = excluded.pid,
    started_at = CASE WHEN h.pid = excluded.pid THEN h.started_at ELSE excluded.started_at END
"""
READ = "SELECT kind, host, extract(epoch FROM clock_timestamp() - at)::float FROM tasks_heartbeat ORDER BY kind, host"
_FORGET = "DELETE FROM tasks_heartbeat WHERE at < clock_timestamp() - make_interval(secs => %s)"


@dataclass(frozen=True)
class Heard:
    """When `kind` of `host` was last heard of: `age_s` seconds ago."""

    kind: Beats
    host: str
    age_s: float

    @property
    def is_late(self) -> bool:
        return self.age_s > (RECONCILE_LATE_S if self.kind == Beats.RECONCILE else LATE_S)

    @property
    def name(self) -> str:
        return f"{self.kind.label} of {self.host}" if self.host else self.kind.label


def params(kind: Beats) -> dict[str, str | int]:
    """Of BEAT."""
    return {"kind": kind, "host": "" if kind == Beats.RECONCILE else settings.HOST_NAME, "pid": os.getpid()}


def beat(kind: Beats) -> None:
    with connection.cursor() as cursor:
        cursor.execute(BEAT, params(kind))


class Pulse:
    """Beats for a process that comes by often: at most every EVERY_S. Without a database there is no beat, which says enough."""

    def __init__(self, kind: Beats) -> None:
        self._kind = kind
        self._due = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time for one; then the next is due in EVERY_S."""
        if time.monotonic() < self._due:
            return False
        self._due = time.monotonic() + EVERY_S
        return True

    def __call__(self) -> None:
        if self.is_due:
            try:
                beat(self._kind)
            except DatabaseError as error:
                logger.warning("%s could not say that it is there (%s).", self._kind.label, error)


def forget_old() -> None:
    """Rows of hosts that are gone."""
    with connection.cursor() as cursor:
        cursor.execute(_FORGET, [FORGOTTEN_S])
