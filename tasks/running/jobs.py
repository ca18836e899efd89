"""RQ jobs of a run's life: short, idempotent, fenced. Whatever a job finds already done, it leaves alone."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now

from agents.registry import ADAPTERS, UnknownAgentError
from sandboxes.base import Command, CommandName, FetchedPatch, TurnSpec
from sandboxes.base import Sandbox as Box
from sandboxes.errors import FileMissing, SandboxError, SandboxGone
from tasks.errors import AppError
from tasks.models import (
    ACTIVE,
    FINAL,
    EventKind,
    Mode,
    Patch,
    PatchKind,
    Repo,
    Run,
    RunStatus,
    Sandbox,
    SandboxStatus,
    Turn,
)
from tasks.running import (
    attachments,
    backends,
    events,
    installs,
    lifecycle,
    nudge,
    operations,
    patches,
    reconcile,
    scheduler,
    specs,
    usage,
    verdicts,
)
from tasks.running.redact import Redactor

logger = logging.getLogger(__name__)

_DESTROY_S = 60.0
_SLEEP = 0x61636F73 << 32  # with a run's number: an advisory lock on its sandbox's sleep


def dispatch() -> None:
    scheduler.dispatch()


def reconcile_all() -> None:
    reconcile.reconcile()


def run_operation(operation_id: int) -> None:
    operations.work(operation_id)


def look_at_repo(repo_id: int) -> None:
    for repo in Repo.objects.filter(pk=repo_id, removed_at=None):
        operations.look(repo)


def forget_drafts() -> None:
    attachments.forget_drafts()


def forget_sessions() -> None:
    """Delete sessions that have expired; Django leaves that to whoever runs it."""
    call_command("clearsessions")


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
    if (package := installs.missing(run)) is not None:
        operations.await_install(run, package, _held(generation, owner))
        return
    row, _ = Sandbox.objects.get_or_create(
        run=run, generation=generation, defaults={"backend": run.backend, "host": settings.HOST_NAME if run.backend == "local" else ""}
    )
    is_fresh = not row.ref
    restored = patches.newest(run)
    try:
        spec = specs.build(run, turn, row, restores_patch=restored is not None)
        operations.ensure_mirror(run.task.repo)
        with _alone(run_id) if row.ref else nullcontext():
            row.refresh_from_db(fields=["status"])
            if row.ref and row.status in (SandboxStatus.LOST, SandboxStatus.DESTROYED):
                raise SandboxGone(f"{row.ref} is being destroyed.")
            box = async_to_sync(_provision)(run, turn, row, restored)
    except (SandboxError, AppError, UnknownAgentError) as error:
        if row.ref and isinstance(error, SandboxGone) and generation < reconcile.MOST_GENERATIONS:
            _start_elsewhere(run, row, _held(generation, owner))
            return
        lifecycle.finish(run_id, source=[RunStatus.STARTING], to=RunStatus.ERRORED, fence=_held(generation, owner), error=str(error))
        return
    with transaction.atomic():
        is_mine = lifecycle.move(
            run_id,
            source=[RunStatus.STARTING],
            to=RunStatus.RUNNING,
            fence=_held(generation, owner),
            lease_owner="",
            lease_until=None,
            start_tries=0,
        )
        if is_mine:
            Sandbox.objects.filter(pk=row.pk).update(ref=box.ref, status=SandboxStatus.LIVE, record=box.record, destroyed_at=None)
            Turn.objects.filter(pk=turn.pk).update(generation=generation)
    if not is_mine:
        # Canceled, or taken over while this job was away. A takeover made a new generation, so a fresh sandbox is ours alone.
        if is_fresh:
            async_to_sync(box.destroy)()
        return
    _hand_over(box, spec)


def _held(generation: int, owner: str) -> Q:
    return Q(generation=generation, lease_owner=owner, stop_requested_at=None)


def _start_elsewhere(run: Run, row: Sandbox, fence: Q) -> None:
    """The sandbox that was kept for this turn is gone: a new one is made, and brought to the newest patch."""
    if lifecycle.requeue(run.pk, source=[RunStatus.STARTING], fence=fence, generation=row.generation + 1, queued_at=run.queued_at):
        Sandbox.objects.filter(pk=row.pk).exclude(status=SandboxStatus.DESTROYED).update(status=SandboxStatus.LOST)
        nudge.dispatch()


@contextmanager
def _alone(run_id: int) -> Iterator[None]:
    """Alone in waking a run's sandbox up or putting it to sleep: who sleeps one after the other has woken it would end its turn."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_SLEEP + run_id])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_SLEEP + run_id])


async def _provision(run: Run, turn: Turn, row: Sandbox, restored: Patch | None) -> Box:
    """The sandbox of this generation, awake, with what must lie in it before the turn begins; again and again is fine."""
    backend = backends.backend(row.backend)
    given = await sync_to_async(attachments.paths)(turn)
    if row.ref:
        box = await backend.connect(row.ref)
        # Said before it is so: if the start comes to nothing, reconcile puts it to sleep again.
        await Sandbox.objects.filter(pk=row.pk, status=SandboxStatus.PAUSED).aupdate(status=SandboxStatus.LIVE)
        await box.resume()
        await attachments.put(box, given[turn.number])
    else:
        box = await backend.create(backends.key(run.pk, row.generation), backends.spec(run))
        if restored is not None:
            await box.put(specs.RESTORED_PATCH, bytes(restored.content))
        for files in given.values():
            await attachments.put(box, files)
    return box


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
        sandbox_lost(run_id, generation)
    except (AppError, UnknownAgentError) as error:
        give_up(run_id, generation, str(error))
    else:
        _hand_over(box, spec)


def give_up(run_id: int, generation: int, error: str) -> None:
    """End a RUNNING run that cannot be handed over or followed; reconcile puts its sandbox to sleep."""
    lifecycle.finish(run_id, source=[RunStatus.RUNNING], to=RunStatus.ERRORED, fence=Q(generation=generation), error=error)


def collect_checkpoint(run_id: int, turn_id: int, generation: int) -> None:
    """Fetch the newest checkpoint of a turn that is still at work."""
    turn = Turn.objects.select_related("run__task__repo").filter(pk=turn_id, run__generation=generation, status=RunStatus.RUNNING).first()
    if turn is not None and turn.mode == Mode.CODE and (fetched := _fetch(turn, PatchKind.CHECKPOINT)):
        patches.store(turn, PatchKind.CHECKPOINT, fetched, redactor(turn.run))


def _fetch(turn: Turn, kind: PatchKind) -> FetchedPatch | None:
    """Fetch a patch; None when the sandbox has none (any more)."""
    row = Sandbox.objects.get(run=turn.run_id, generation=turn.run.generation)

    async def fetch() -> FetchedPatch:
        box = await backends.backend(row.backend).connect(row.ref)
        return await box.patch(turn.number, kind)

    try:
        return async_to_sync(fetch)()
    except (FileMissing, SandboxGone):
        return None


def redactor(run: Run) -> Redactor:
    return Redactor({v.name: v.value for v in run.task.repo.variables.filter(is_secret=True)})


def finish_turn(run_id: int, generation: int) -> None:
    """End a turn whose journal says that it is over: patch, status, then the sandbox sleeps."""
    turn = (
        Turn.objects.select_related("run__task__repo")
        .filter(run=run_id, run__generation=generation, run__status=RunStatus.RUNNING, status=RunStatus.RUNNING, outcome__isnull=False)
        .first()
    )
    if turn is None or turn.outcome is None:
        return
    said = turn.outcome
    kind = PatchKind.CHECKPOINT if said["reason"] == "shutdown" else PatchKind.FINAL
    fetched = _fetch(turn, kind) if said.get("has_patch") else None
    to, stage, outcome = verdicts.judge(turn, said, has_patch=fetched is not None or not said.get("has_patch"))
    fence = Q(generation=generation)
    message = redactor(turn.run).text(outcome.message)
    end: dict[str, Any] = {"to": to, "stage": stage, "error": message, "error_class": outcome.error_class}
    with transaction.atomic():
        Run.objects.select_for_update().get(pk=run_id)
        if not Turn.objects.filter(pk=turn.pk, status=RunStatus.RUNNING, run__generation=generation).exists():
            return  # another job has ended it meanwhile, and what follows is done once
        if fetched is not None and turn.mode == Mode.CODE:
            patches.store(turn, kind, fetched, redactor(turn.run))
        elif fetched is not None and (spoiled := verdicts.disobeyed(turn, fetched)):
            end |= {"generation": generation + 1}  # what is to come begins in a sandbox without those changes
            events.append(run_id, EventKind.ERROR, {"text": spoiled, "class": "mode"}, turn_id=turn.pk)
            Sandbox.objects.filter(run=run_id, generation=generation).update(status=SandboxStatus.LOST)
        if verdicts.is_tried_again(turn, outcome):
            end |= {"not_before": verdicts.try_again(turn)}
        usage.settle(turn)
        lifecycle.finish(run_id, source=[RunStatus.RUNNING], fence=fence, **end)
    put_to_sleep(run_id, generation)


def put_to_sleep(run_id: int, generation: int) -> None:
    """Pause the sandbox of a run that is over; when the next turn has been dispatched already, it needs it awake."""
    with _alone(run_id):
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


def deliver_stop(run_id: int, generation: int) -> None:
    """Tell a sandbox to stop its turn; the follower does the same, whoever comes first."""
    run = Run.objects.filter(pk=run_id, generation=generation, status=RunStatus.RUNNING, stop_requested_at__isnull=False).first()
    row = Sandbox.objects.filter(run=run_id, generation=generation).exclude(ref="").first()
    if run is None or row is None:
        return

    async def stop() -> None:
        box = await backends.backend(row.backend).connect(row.ref)
        await box.tell(Command(CommandName.STOP))

    try:
        async_to_sync(stop)()
    except SandboxGone:
        sandbox_lost(run_id, generation)


def sandbox_lost(run_id: int, generation: int) -> None:
    """A running turn's sandbox is gone: start over if the turn never began or its conversation can go on, else say so."""
    run = Run.objects.filter(pk=run_id, generation=generation, status=RunStatus.RUNNING).first()
    if run is None:
        return
    turn = Turn.objects.filter(run=run, status=RunStatus.RUNNING).first()
    if turn is None or turn.outcome is not None:
        nudge.enqueue_now(settings.QUEUE_HOST, "finish_turn", run_id, generation)
        return
    Sandbox.objects.filter(run=run, generation=generation).update(status=SandboxStatus.LOST)
    row = Sandbox.objects.get(run=run, generation=generation)
    has_begun = row.parse_state.get("turn") == turn.number
    fence = Q(generation=generation)
    if run.stop_requested_at:
        lifecycle.finish(run_id, source=[RunStatus.RUNNING], to=RunStatus.CANCELED, fence=fence)
    elif generation < reconcile.MOST_GENERATIONS and (not has_begun or ADAPTERS[run.agent].can_resume):
        with transaction.atomic():
            text = "The sandbox was lost; the run goes on in a new one, from the last checkpoint and a transcript of what was said."
            events.append(run_id, EventKind.ERROR, {"text": text}, turn_id=turn.pk)
            lifecycle.requeue(run_id, source=[RunStatus.RUNNING], fence=fence, generation=generation + 1)
        nudge.dispatch()
    else:
        lifecycle.finish(
            run_id,
            source=[RunStatus.RUNNING],
            to=RunStatus.INTERRUPTED,
            fence=fence,
            error="The sandbox stopped before the turn was over. The last checkpoint is kept; retry starts a new attempt.",
        )


def destroy_sandbox(sandbox_id: int) -> None:
    """Destroy a sandbox and close its row; twice is fine. One that is wanted again since this was asked for stays: its task may
    have come back out of the archive, and a turn begun in it."""
    row = Sandbox.objects.filter(pk=sandbox_id).exclude(status=SandboxStatus.DESTROYED).first()
    if row is None:
        return
    with _alone(row.run_id):
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


def deliver_message(turn_id: int, generation: int) -> None:
    """Give a follow-up that waits to the turn at work, as one line on its standard input; if that turn is over, it goes on waiting."""
    waiting = Turn.objects.select_related("run").filter(pk=turn_id, status=RunStatus.QUEUED, run__generation=generation).first()
    if waiting is None:
        return
    at_work = Turn.objects.filter(run=waiting.run_id, status=RunStatus.RUNNING, outcome__isnull=True).first()
    row = Sandbox.objects.filter(run=waiting.run_id, generation=generation, status=SandboxStatus.LIVE).first()
    if at_work is None or row is None:
        return
    line = ADAPTERS[waiting.run.agent].message(waiting.prompt)
    with transaction.atomic():
        Run.objects.select_for_update().get(pk=waiting.run_id)  # neither the scheduler nor a withdrawal takes it meanwhile
        joined = Turn.objects.filter(pk=turn_id, status=RunStatus.QUEUED).update(
            status=RunStatus.SUCCEEDED, joined=at_work, finished_at=Now()
        )
        if not joined:
            return
        try:
            async_to_sync(_say)(row, line)
        except SandboxError as error:
            logger.info("A message to run %s was not taken (%s); it waits for its turn.", waiting.run_id, error)
            transaction.set_rollback(True)
            return
        events.append(waiting.run_id, EventKind.MESSAGE, {"text": waiting.prompt, "from": "user"}, turn_id=at_work.pk)


async def _say(row: Sandbox, line: str) -> None:
    box = await backends.backend(row.backend).connect(row.ref)
    await box.tell(Command(CommandName.MESSAGE, line))
