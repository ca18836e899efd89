"""From STARTING to the supervisor: a sandbox is made or woken up, and the turn is handed to it, once."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from datetime import timedelta

from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from agents.registry import UnknownAgentError
from sandboxes.base import Sandbox as Box
from sandboxes.base import SandboxSpec, TurnSpec
from sandboxes.errors import AccountRefused, HeadersRefused, PreparedGone, SandboxError, SandboxGone, SandboxLimited
from tasks.errors import AppError
from tasks.models import ACTIVE, EventKind, Run, RunStatus, Sandbox, SandboxStatus, Turn
from tasks.running import (
    attachments,
    backends,
    capacity,
    counting,
    ending,
    events,
    installs,
    lifecycle,
    lifetimes,
    log_context,
    losing,
    model_access,
    nudge,
    operations,
    patches,
    prepared,
    refusals,
    scheduler,
    sleeping,
    specs,
)

logger = logging.getLogger(__name__)


def start_turn(run_id: int, generation: int) -> None:
    """Bring a STARTING run's turn to life: sandbox, then the point of no return, then the hand-over to its supervisor.

    Until the sandbox's reference stands in its row nothing has begun, and whoever finds the lease expired may start
    anew in a new generation; from then on the supervisor's own lock keeps the turn from running twice.
    """
    owner = f"job:{uuid.uuid4().hex}"
    with transaction.atomic():
        if scheduler.is_held(settings.HOST_NAME):
            lifecycle.requeue(run_id, source=[RunStatus.STARTING], fence=Q(generation=generation))
            return
        mine = Run.objects.filter(pk=run_id, status=RunStatus.STARTING, generation=generation)
        if not mine.filter(Q(lease_owner="") | Q(lease_until__lt=Now())).update(
            lease_owner=owner, lease_until=Now() + timedelta(seconds=settings.START_LEASE_S)
        ):
            return
    run = Run.objects.select_related("task__repo").get(pk=run_id)
    turn = Turn.objects.filter(run=run, status__in=ACTIVE).first()
    if turn is None:  # canceled meanwhile
        return
    log_context.add(task=run.task_id, turn=turn.number)
    if (package := installs.missing(run)) is not None:
        operations.await_install(run, package, held(generation, owner))
        return
    place = {"backend": run.backend, "host": settings.HOST_NAME if run.backend == "local" else ""}
    row, _ = Sandbox.objects.get_or_create(run=run, generation=generation, defaults=place)
    is_fresh = not row.ref
    if is_fresh and (row.backend, row.host) != (place["backend"], place["host"]):  # an earlier start came to nothing elsewhere
        Sandbox.objects.filter(pk=row.pk, ref="").update(**place)
        row.refresh_from_db()
    patch = patches.newest(run)
    restored = bytes(patch.content) if patch is not None and is_fresh else None
    begun_at = timezone.now()
    try:
        if row.backend != "local":
            _settle_headers(row, adds=capacity.adds_headers(row.backend))
        spec = specs.build(run, turn, row, restores_patch=patch is not None)
        operations.ensure_mirror(run.task.repo, run.task.base_commit)
        if is_fresh and prepared.choose(run, row):
            spec = specs.build(run, turn, row, restores_patch=patch is not None)
        with sleeping.alone(run_id) if row.ref else nullcontext():
            row.refresh_from_db(fields=["status"])
            if row.ref and row.status in (SandboxStatus.LOST, SandboxStatus.DESTROYED):
                raise SandboxGone(f"{row.ref} is being destroyed.")
            asks_for_headers = row.adds_headers
            while (box := _provisioned(run, turn, row, restored, held(generation, owner))) is None:
                spec = specs.build(run, turn, row, restores_patch=patch is not None)
            if asks_for_headers and not row.adds_headers:  # now it is certain what was refused
                capacity.refuse_headers(row.backend)
    except (SandboxError, AppError, UnknownAgentError) as error:
        _not_begun(run, turn, row, held(generation, owner), error)
        return
    with transaction.atomic():
        is_mine = lifecycle.move(
            run_id,
            source=[RunStatus.STARTING],
            to=RunStatus.RUNNING,
            fence=held(generation, owner),
            lease_owner="",
            lease_until=None,
            start_tries=0,
        )
        if is_mine:
            told = specs.told(run, row)
            told["record"] = box.record | told["record"]
            Sandbox.objects.filter(pk=row.pk).update(ref=box.ref, status=SandboxStatus.LIVE, destroyed_at=None, **told)
            if is_fresh:
                Sandbox.objects.filter(pk=row.pk).update(expires_at=lifetimes.expiry(row.backend, begun_at), warned_at=None)
            Turn.objects.filter(pk=turn.pk).update(generation=generation)
            if notice := model_access.notice(run, row):
                events.append(run_id, EventKind.STATUS, {"notice": notice}, turn_id=turn.pk)
            if is_fresh and row.prepared is not None:
                events.append(run_id, EventKind.STATUS, prepared.told(row), turn_id=turn.pk)
    if not is_mine:
        # Canceled, or taken over while this job was away. A takeover made a new generation, so a fresh sandbox is ours alone.
        if is_fresh:
            async_to_sync(box.destroy)()
        return
    _hand_over(box, spec)


def held(generation: int, owner: str) -> Q:
    """The fence of a start: it is still this job's, and nobody wants it stopped."""
    return Q(generation=generation, lease_owner=owner, stop_requested_at=None)


def _not_begun(run: Run, turn: Turn, row: Sandbox, fence: Q, error: Exception) -> None:
    """What becomes of a start that came to nothing."""
    if isinstance(error, SandboxLimited):
        refusals.wait_for_room(run, row, fence, error)
    elif isinstance(error, AccountRefused):
        refusals.account_refused(run, turn, row, fence, error)
    elif isinstance(error, SandboxGone) and row.ref and (row.backend != "local" or row.generation < losing.MOST_GENERATIONS):
        _start_elsewhere(run, row, fence, tries=run.start_tries)
    elif isinstance(error, SandboxGone) and row.backend != "local" and run.start_tries + 1 < losing.MOST_START_TRIES:
        _start_elsewhere(run, row, fence, tries=run.start_tries + 1)  # it vanished before it was of any use
    else:
        lifecycle.finish(run.pk, source=[RunStatus.STARTING], to=RunStatus.ERRORED, fence=fence, error=str(error))


def _start_elsewhere(run: Run, row: Sandbox, fence: Q, *, tries: int) -> None:
    """The sandbox for this turn is gone: a new one is made, and brought to the newest patch."""
    anew = {"generation": row.generation + 1, "queued_at": run.queued_at, "start_tries": tries}
    if lifecycle.requeue(run.pk, source=[RunStatus.STARTING], fence=fence, **anew):
        capacity.lose(row.pk)
        nudge.dispatch()


def _provisioned(run: Run, turn: Turn, row: Sandbox, restored: bytes | None, fence: Q) -> Box | None:
    """As `_provision`; None when the row has to do without something that its backend does not give, and may be tried again."""
    try:
        return async_to_sync(_provision)(run, turn, row, restored, specs.sandbox(run, row), fence)
    except PreparedGone:
        prepared.gone(run, row)
    except HeadersRefused as error:
        if not row.adds_headers:
            raise
        logger.warning("Run %s is tried without headers on the way out: %s", run.pk, error)
        _settle_headers(row, adds=False)
    return None


def _settle_headers(row: Sandbox, *, adds: bool) -> None:
    """Written down, so that a turn that is handed over again finds its key where it was."""
    row.adds_headers = adds
    Sandbox.objects.filter(pk=row.pk).update(adds_headers=adds)


async def _provision(run: Run, turn: Turn, row: Sandbox, restored: bytes | None, made_of: SandboxSpec, fence: Q) -> Box:
    """The sandbox of this generation, awake, with what must lie in it before the turn begins; again and again is fine."""
    backend = backends.backend(row.backend)
    given = await sync_to_async(attachments.paths)(turn)
    if row.ref:
        box = await backend.connect(row.ref)
        if lifetimes.is_near_its_end(row):  # still awake from the turn before; between two of them its time may begin anew
            await box.pause()
            await Sandbox.objects.filter(pk=row.pk, status=SandboxStatus.LIVE).aupdate(status=SandboxStatus.PAUSED)
        # Said before it is so: if the start comes to nothing, reconcile puts it to sleep again.
        await Sandbox.objects.filter(pk=row.pk, status=SandboxStatus.PAUSED).aupdate(
            status=SandboxStatus.LIVE, expires_at=lifetimes.expiry(row.backend, timezone.now()), warned_at=None
        )
        with _counted(row.backend, "woken"):
            await box.resume(made_of)
        await attachments.put(box, given[turn.number])
    else:
        async with nullcontext() if row.backend == "local" else _showing_life(run.pk, fence):
            with _counted(row.backend, "made"):
                box = await backend.create(backends.key(run.pk, row.generation), made_of)
        if row.backend != "local":
            await sync_to_async(capacity.made)(row.backend)
        if restored is not None:
            await box.put(specs.RESTORED_PATCH, restored)
        for files in given.values():
            await attachments.put(box, files)
    return box


@contextmanager
def _counted(backend: str, how: str) -> Iterator[None]:
    """Count a sandbox's start, by how long it took or what kind of error came of it."""
    begun = time.monotonic()
    try:
        yield
    except SandboxError as error:
        counting.START_FAILURES.add(1, backend, how, type(error).__name__)
        raise
    counting.START_SECONDS.observe(time.monotonic() - begun, backend, how)


@asynccontextmanager
async def _showing_life(run_id: int, fence: Q) -> AsyncIterator[None]:
    """Keep the lease of a start: a sandbox that is made far away, with all that is sent there, may take longer than that."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(settings.START_LEASE_S / 3)
            lease_until = Now() + timedelta(seconds=settings.START_LEASE_S)
            await Run.objects.filter(fence, pk=run_id, status=RunStatus.STARTING).aupdate(lease_until=lease_until)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing


def _hand_over(box: Box, spec: TurnSpec) -> None:
    try:
        async_to_sync(box.turn)(spec)
    except SandboxError as error:
        logger.warning("Turn %s of %s was not handed over (%s); reconcile will see to it.", spec.turn, box.ref, error)


def hand_turn(run_id: int, generation: int) -> None:
    """Hand a RUNNING run's turn to its sandbox again; a turn that has begun there does not begin twice."""
    run = Run.objects.select_related("task__repo").filter(pk=run_id, status=RunStatus.RUNNING, generation=generation).first()
    row = Sandbox.objects.filter(run=run_id, generation=generation).exclude(ref="").first()
    turn = Turn.objects.filter(run=run_id, status=RunStatus.RUNNING, outcome__isnull=True).first()
    if run is None or row is None or turn is None:
        return
    try:
        box = async_to_sync(backends.backend(row.backend).connect)(row.ref)
        spec = specs.build(run, turn, row, restores_patch=patches.newest(run) is not None)
    except SandboxGone:
        losing.sandbox_lost(run_id, generation)
    except (AppError, UnknownAgentError) as error:
        ending.give_up(run_id, generation, str(error))
    else:
        _hand_over(box, spec)
