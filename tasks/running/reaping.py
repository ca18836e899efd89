"""Sandboxes that nobody needs any more: destroyed by their row, or found where there is no row that wants them."""

from __future__ import annotations

import asyncio
import logging

from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import connection
from django.db.models import Q
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now

from sandboxes.base import Backend, SandboxInfo
from sandboxes.errors import SandboxError, SandboxGone
from tasks.models import ACTIVE, FINAL, RunStatus, Sandbox, SandboxStatus
from tasks.running import backends, capacity, losing, nudge, sleeping

logger = logging.getLogger(__name__)

_DESTROY_S = 60.0
_REAPING = 0x61636F72  # advisory lock: one look through E2B's sandboxes at a time
_KEPT = (SandboxStatus.LIVE, SandboxStatus.PAUSED)


def destroy_sandbox(sandbox_id: int) -> None:
    """Destroy a sandbox and close its row; twice is fine. One that is wanted again since this was asked for stays: its task may
    have come back out of the archive, and a turn begun in it."""
    row = Sandbox.objects.filter(pk=sandbox_id).exclude(status=SandboxStatus.DESTROYED).first()
    if row is None:
        return
    with sleeping.alone(row.run_id):
        is_idle = Q(status=SandboxStatus.LOST) | Q(run__status__in=FINAL) | Q(run__generation__gt=row.generation)
        is_in_use = Q(run__status__in=ACTIVE, run__generation=row.generation)
        if not Sandbox.objects.filter(is_idle & ~is_in_use, pk=row.pk).update(status=SandboxStatus.LOST):
            return
    if row.ref:
        try:
            async_to_sync(_destroy)(row)
        except SandboxGone:
            logger.info("%s was gone already.", row)
        except SandboxError as error:
            logger.warning("%s was not destroyed (%s); reconcile tries again.", row, error)
            return
    Sandbox.objects.filter(pk=row.pk).update(status=SandboxStatus.DESTROYED, destroyed_at=Now())
    if row.backend != "local":
        nudge.dispatch()  # others may have waited for it to be gone


async def _destroy(row: Sandbox) -> None:
    box = await backends.backend(row.backend).connect(row.ref)
    await box.destroy()


def reap() -> None:
    """Compare the sandboxes there are with the rows there are, in both directions: on this host, and with E2B when it is used."""
    _reap("local")
    if settings.E2B_API_KEY:
        with connection.cursor() as cursor:  # one worker at a time, over all hosts
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [_REAPING])
            if not cursor.fetchone()[0]:
                return
            try:
                _reap(capacity.E2B)
            finally:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [_REAPING])


def _reap(name: str) -> None:
    backend = backends.backend(name)
    here = {"host": settings.HOST_NAME} if name == "local" else {}
    # Only what was known before the list was made can be missing in it.
    rows = Sandbox.objects.filter(backend=name, status__in=_KEPT, **here).exclude(ref="")
    known = {ref: (pk, account) for ref, pk, account in rows.values_list("ref", "pk", "record__account")}
    try:
        found = async_to_sync(backend.list)()
    except SandboxError as error:
        logger.warning("The sandboxes of %s were not looked through (%s); trying again in a minute.", name, error)
        return
    for info in found:
        installation, _, rest = info.key.partition(":")
        run_id, _, generation = rest.partition(":")
        if installation == backends.installation() and run_id.isdecimal() and generation.isdecimal():
            _destroy_stray(backend, info, run_id=int(run_id), generation=int(generation))
    present, account = {info.ref for info in found}, backends.account(name)
    for ref, (sandbox_id, made_by) in known.items():
        if ref in present:
            if made_by != account:  # the same team's, with a new key
                Sandbox.objects.filter(pk=sandbox_id).update(record=RawSQL("record || jsonb_build_object('account', %s::text)", [account]))
        elif made_by in (None, account):
            _close_missing(backend, ref, sandbox_id)
        else:  # it may well be there, but our key is another team's
            logger.warning("%s was made with another key of %s, so whether it is there cannot be told.", ref, name)


def _destroy_stray(backend: Backend, info: SandboxInfo, *, run_id: int, generation: int) -> None:
    """Destroy a sandbox of this installation's that no row wants."""
    rows = Sandbox.objects.filter(run=run_id, generation=generation, backend=backend.name)
    # Without a reference it is wanted only while a start is under way: else its start was canceled or taken over.
    is_being_made = Q(ref="", run__status=RunStatus.STARTING, run__generation=generation)
    if rows.filter(Q(ref=info.ref) | is_being_made, status__in=[SandboxStatus.STARTING, *_KEPT]).exists():
        return
    try:
        async_to_sync(_destroy_ref)(backend, info.ref)
    except (TimeoutError, SandboxError) as error:
        logger.warning("%s was not destroyed (%s); trying again in a minute.", info.ref, error or "it is locked")
        return
    closed = rows.filter(Q(ref=info.ref) | Q(ref="")).exclude(status=SandboxStatus.DESTROYED)
    closed.update(status=SandboxStatus.DESTROYED, destroyed_at=Now())


async def _destroy_ref(backend: Backend, ref: str) -> None:
    async with asyncio.timeout(_DESTROY_S):  # a frozen process of ours may hold the sandbox's lock
        await (await backend.connect(ref)).destroy()


def _close_missing(backend: Backend, ref: str, sandbox_id: int) -> None:
    """Close the row of a sandbox that is not there any more. A turn at work in it is lost; a start in it will see for itself."""
    try:
        async_to_sync(backend.connect)(ref)
    except SandboxGone:
        pass
    except SandboxError as error:
        logger.warning("%s is not in the list, but may be there (%s).", ref, error)
        return
    else:
        return  # the list was not up to date
    row = Sandbox.objects.select_related("run").filter(pk=sandbox_id, ref=ref, status__in=_KEPT).first()
    if row is None:
        return
    is_present = row.run.generation == row.generation
    if is_present and row.run.status == RunStatus.RUNNING:
        losing.sandbox_lost(row.run_id, row.generation)
    elif not (is_present and row.run.status == RunStatus.STARTING) and capacity.lose(row.pk):
        Sandbox.objects.filter(pk=row.pk).update(status=SandboxStatus.DESTROYED, destroyed_at=Now())
