"""Stopping this host's sandboxes in order: checkpoint, `interrupted`, and nothing new meanwhile."""

from __future__ import annotations

import asyncio
import logging
import time

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db.models import QuerySet

from sandboxes.errors import FileMissing, SandboxError, SandboxGone
from tasks.models import Mode, PatchKind, RunStatus, Sandbox, SandboxStatus, Turn
from tasks.running import backends, lifecycle, patches, scheduler, sleeping
from tasks.running.redact import redactor

logger = logging.getLogger(__name__)

POLL_S = 0.1


def interrupt_host(*, within_s: float = 60.0) -> int:
    """Checkpoint and stop the local sandboxes of this host whose turns are at work; their turns end `interrupted`.

    Starts that have not begun go back into the queue, and the sandboxes of runs that are over sleep, should their jobs not have come
    to that. Gives how many turns were interrupted; returns when all have ended (workers and follower must be running), or when
    the time is up. Nothing starts on this host while this process lives.
    """
    scheduler.hold(settings.HOST_NAME)
    deadline = time.monotonic() + within_s
    rows = list(_at_work())
    asyncio.run(_shut_down(rows))
    while time.monotonic() < deadline and _at_work().exists():
        time.sleep(POLL_S)
    for run_id, generation in _here().filter(run__status__in=lifecycle.OVER).values_list("run", "generation"):
        sleeping.put_to_sleep(run_id, generation)
    return len(rows)


def _here() -> QuerySet[Sandbox]:
    return Sandbox.objects.filter(host=settings.HOST_NAME, status=SandboxStatus.LIVE)


def _at_work() -> QuerySet[Sandbox]:
    return _here().filter(run__status=RunStatus.RUNNING).select_related("run__task__repo")


async def _shut_down(rows: list[Sandbox]) -> None:
    await asyncio.gather(*(_shut_down_one(row) for row in rows))


async def _shut_down_one(row: Sandbox) -> None:
    turn = await Turn.objects.select_related("run__task__repo").filter(run=row.run_id, status=RunStatus.RUNNING).afirst()
    if turn is None:
        return
    try:
        box = await backends.backend(row.backend).connect(row.ref)
        await box.pause()
    except SandboxError as error:
        logger.warning("Run %s: its sandbox did not stop in order (%s).", row.run_id, error)
        return
    if turn.mode != Mode.CODE:
        return  # it was to change nothing, so nothing of it is kept
    try:
        fetched = await box.patch(turn.number, PatchKind.CHECKPOINT)
    except (FileMissing, SandboxGone):
        return  # it was still checking out: there is nothing to keep
    await sync_to_async(patches.store)(turn, PatchKind.CHECKPOINT, fetched, await sync_to_async(redactor)(turn.run))
