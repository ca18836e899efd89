"""Sandboxes that nobody needs any more: destroyed by their row, or found where there is no row that wants them."""

from __future__ import annotations

import asyncio
import logging

from asgiref.sync import async_to_sync
from django.db.models import Q
from django.db.models.functions import Now

from sandboxes.errors import SandboxError, SandboxGone
from tasks.models import ACTIVE, FINAL, RunStatus, Sandbox, SandboxStatus
from tasks.running import backends, sleeping

logger = logging.getLogger(__name__)

_DESTROY_S = 60.0


def destroy_sandbox(sandbox_id: int) -> None:
    """Destroy a sandbox and close its row; twice is fine. One that is wanted again since this was asked for stays: its task may
    have come back out of the archive, and a turn begun in it."""
    row = Sandbox.objects.filter(pk=sandbox_id).exclude(status=SandboxStatus.DESTROYED).first()
    if row is None:
        return
    with sleeping.alone(row.run_id):
        is_idle = Q(status=SandboxStatus.LOST) | Q(run__status__in=FINAL)
        is_in_use = Q(run__status__in=ACTIVE, run__generation=row.generation)
        if not Sandbox.objects.filter(is_idle & ~is_in_use, pk=row.pk).update(status=SandboxStatus.LOST):
            return
    if row.ref:
        try:
            async_to_sync(_destroy)(row)
        except SandboxGone:
            logger.info("%s was gone already.", row)
    Sandbox.objects.filter(pk=row.pk).update(status=SandboxStatus.DESTROYED, destroyed_at=Now())


async def _destroy(row: Sandbox) -> None:
    box = await backends.backend(row.backend).connect(row.ref)
    await box.destroy()


def reap() -> None:
    """Destroy this installation's sandboxes on this host that no row wants any more."""
    async_to_sync(_reap)()


async def _reap() -> None:
    backend = backends.backend("local")
    for info in await backend.list():
        installation, run_id, generation = info.key.split(":")
        if installation != backends.installation():
            continue
        rows = Sandbox.objects.filter(run=int(run_id), generation=int(generation))
        # Without a reference it is wanted only while a start is under way: else its start was canceled or taken over.
        is_wanted = ~Q(ref="") | Q(run__status=RunStatus.STARTING, run__generation=int(generation))
        if not await rows.filter(is_wanted).exclude(status__in=[SandboxStatus.LOST, SandboxStatus.DESTROYED]).aexists():
            try:
                async with asyncio.timeout(_DESTROY_S):  # a frozen process of ours may hold the sandbox's lock
                    await (await backend.connect(info.ref)).destroy()
            except (TimeoutError, SandboxError) as error:
                logger.warning("%s was not destroyed (%s); trying again in a minute.", info.ref, error or "it is locked")
                continue
            await rows.aupdate(status=SandboxStatus.DESTROYED, destroyed_at=Now())
