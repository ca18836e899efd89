"""What a turn at work is told: to stop, or one more message."""

from __future__ import annotations

import logging

from asgiref.sync import async_to_sync
from django.db import transaction
from django.db.models.functions import Now

from agents.registry import ADAPTERS
from sandboxes.base import Command, CommandName
from sandboxes.errors import SandboxError, SandboxGone
from tasks.models import EventKind, Run, RunStatus, Sandbox, SandboxStatus, Turn
from tasks.running import backends, events, losing

logger = logging.getLogger(__name__)


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
        losing.sandbox_lost(run_id, generation)


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
