"""A sandbox sleeps between the turns of its run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from asgiref.sync import async_to_sync
from django.db import connection

from sandboxes.errors import SandboxGone
from tasks.models import ACTIVE, Sandbox, SandboxStatus
from tasks.running import backends

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
            Sandbox.objects.filter(pk=row.pk).update(status=SandboxStatus.LOST)
        else:
            Sandbox.objects.filter(pk=row.pk, status=SandboxStatus.LIVE).update(status=SandboxStatus.PAUSED)


async def _pause(row: Sandbox) -> None:
    box = await backends.backend(row.backend).connect(row.ref)
    await box.pause()
