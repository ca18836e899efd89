"""A sandbox sleeps between the turns of its run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from asgiref.sync import async_to_sync
from django.db import connection

from sandboxes.errors import SandboxError, SandboxGone
from tasks.models import ACTIVE, Sandbox, SandboxStatus
from tasks.running import backends, capacity, nudge

logger = logging.getLogger(__name__)

_SLEEP = 0x61636F73 << 32  # with a run's number: an advisory lock on its sandbox's sleep


@contextmanager
def alone(run_id: int) -> Iterator[None]:
    """Alone in waking a run's sandbox up or putting it to sleep: who sleeps one after the other has woken it would end its turn."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_SLEEP + run_id])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_SLEEP + run_id])


def put_to_sleep(run_id: int, generation: int) -> None:
    """Pause the sandbox of a run that is over; when the next turn has been dispatched already, it needs it awake."""
    with alone(run_id):
        row = Sandbox.objects.filter(run=run_id, generation=generation, status=SandboxStatus.LIVE).exclude(run__status__in=ACTIVE).first()
        if row is None:
            return
        try:
            async_to_sync(_pause)(row)
        except SandboxGone:
            capacity.lose(row.pk)
        except SandboxError as error:
            logger.warning("%s was not put to sleep (%s); reconcile tries again.", row, error)
            return
        else:
            slept = {"status": SandboxStatus.PAUSED, "expires_at": None, "warned_at": None}
            Sandbox.objects.filter(pk=row.pk, status=SandboxStatus.LIVE).update(**slept)
    if row.backend != "local":
        nudge.dispatch()  # others may have waited for it to be asleep


async def _pause(row: Sandbox) -> None:
    box = await backends.backend(row.backend).connect(row.ref)
    await box.pause()
