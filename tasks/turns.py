"""Verbs on the turns of a run beyond sending the next one: approving, interrupting, branching, going back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from django.conf import settings
from django.db import transaction
from django.db.models import F, Max
from django.db.models.functions import Now

from agents.registry import ADAPTERS
from tasks import services
from tasks.attachments import give_again
from tasks.errors import Conflict, InvalidInput
from tasks.git import workspaces
from tasks.models import (
    ACTIVE,
    Attachment,
    EndReason,
    EventKind,
    Mode,
    Patch,
    PatchKind,
    Run,
    RunStatus,
    Sandbox,
    SandboxStatus,
    Task,
    Turn,
    TurnKind,
    User,
)
from tasks.running import checks, events, lifecycle, nudge, patches, quotas

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_APPROVED = "The plan is approved. Carry it out now; you may change files. The plan as it was approved:\n\n"


def approve_plan(*, run: Run, by: User, plan: str) -> Turn:
    """Let a run that waits with its plan go on as Code, with the plan as it was edited."""
    if not plan.strip():
        raise InvalidInput("The plan is empty. Write what is to be done, or send a follow-up instead.", field="plan")
    with transaction.atomic():
        locked = Run.objects.select_for_update().get(pk=run.pk)
        if locked.status != RunStatus.WAITING:
            raise Conflict("This run does not wait for a plan to be approved any more. Reload the page.")
        return services.send_follow_up(run=run, by=by, prompt=_APPROVED + plan, mode=Mode.CODE)


def send_now(*, turn: Turn, by: User) -> Literal["joined", "interrupted"]:
    """Let a follow-up that waits not wait for the end of the turn at work: the agent is given it while it works, if it takes
    messages ("joined": as soon as it was given to it); else the turn at work is stopped, and the follow-up goes next."""
    with transaction.atomic():
        run = Run.objects.select_for_update().get(pk=turn.run_id)
        if not run.turns.filter(pk=turn.pk, status=RunStatus.QUEUED, number__gt=1).exists():
            raise Conflict("This follow-up has begun already, or was removed.")
        if run.status != RunStatus.RUNNING:
            raise Conflict("No turn is at work that it could be given to. It starts as soon as it can.")
        if ADAPTERS[run.agent].can_steer and not turn.attachments.exists() and not run.stop_requested_at:
            host = Sandbox.objects.filter(run=run, generation=run.generation).values_list("host", flat=True).first()
            nudge.enqueue(f"host-{host}" if host else settings.QUEUE_RUNS, "deliver_message", turn.pk, run.generation)
            return "joined"
        _interrupt(run)
        _let_pass(run, turn)
        return "interrupted"


def stop_and_send(
    *, run: Run, by: User, prompt: str, attachments: Sequence[Attachment] = (), mode: str = ""
) -> Literal["queued", "joined", "interrupted"]:
    """Send a follow-up and do not let it wait."""
    with transaction.atomic():
        turn = services.send_follow_up(run=run, by=by, prompt=prompt, attachments=attachments, mode=mode)
        if Run.objects.filter(pk=run.pk, status=RunStatus.RUNNING).exists():
            return send_now(turn=turn, by=by)
        return "queued"


def _let_pass(run: Run, turn: Turn) -> None:
    """Give those that were sent before a follow-up, and wait, numbers after all others: turns go by their numbers."""
    last = run.turns.aggregate(Max("number"))["number__max"]
    for number, earlier in enumerate(run.turns.filter(status=RunStatus.QUEUED, number__lt=turn.number).order_by("number"), start=last + 1):
        run.turns.filter(pk=earlier.pk).update(number=number)


def _interrupt(run: Run) -> None:
    """Stop the turn at work so that what waits goes next. A turn that we end for another reason, or that is stopped, ends so."""
    if Run.objects.filter(pk=run.pk, stop_requested_at=None).update(stop_requested_at=Now()):
        run.turns.filter(status=RunStatus.RUNNING).update(end_reason=EndReason.FOLLOW_UP)
        nudge.tell([nudge.run_group(run.pk), nudge.user_group(run.task.owner_id)])


def branch_run(*, run: Run, by: User, after: int, prompt: str) -> Run:
    """A new attempt of the same agent that goes on from what was said and changed until turn `after` of this run."""
    turn = run.turns.filter(number=after, started_at__isnull=False).exclude(status__in=[*ACTIVE, RunStatus.QUEUED]).first()
    if turn is None:
        raise Conflict("A branch begins after a turn that is over.")
    services.check_follow_up(run=run, prompt=prompt, mode=turn.mode)
    with transaction.atomic():
        task = Task.objects.hold(run.task_id)
        quotas.check_day(owner=task.owner, runs=1)
        same = Run.objects.filter(task=task, agent=run.agent, model=run.model)
        attempt = (same.aggregate(Max("attempt"))["attempt__max"] or 0) + 1
        new = Run.objects.create(
            task=task,
            agent=run.agent,
            model=run.model,
            options={key: value for key, value in run.options.items() if key != services.RETRY_OF},
            attempt=attempt,
            backend=run.backend,
            branch=workspaces.checkout_branch_name(task.pk, task.title, run.agent, attempt),
            parent=run,
            parent_turn=after,
        )
        first = Turn.objects.create(run=new, number=1, mode=turn.mode, prompt=prompt, author=by)
        give_again(earlier=run.turns.get(number=1), turn=first)
        nudge.dispatch()
        nudge.tell([nudge.user_group(task.owner_id)])
    return new


def revert_run(*, run: Run, by: User, to: int) -> Turn:
    """Bring the run back to what it had changed after turn `to` (0: when it began). Nothing is deleted: the later turns stay in
    its history, and the next turn begins in a new sandbox, from that patch and a transcript of what still counts."""
    with transaction.atomic():
        Task.objects.hold(run.task_id)
        locked = Run.objects.select_for_update().get(pk=run.pk)
        if locked.status in ACTIVE or locked.turns.filter(status=RunStatus.QUEUED).exists():
            raise Conflict("A turn is at work or waits. Stop the run first, then go back.")
        if locked.status == RunStatus.WAITING:  # its plan is one of the things that are set aside
            lifecycle.finish(run.pk, source=[RunStatus.WAITING], to=RunStatus.CANCELED)
        last = locked.turns.aggregate(Max("number"))["number__max"]
        if not 0 <= to < last:
            raise Conflict("There is nothing after that turn to go back from.")
        kept = patches.after(locked, to)
        turn = Turn.objects.create(
            run=locked,
            number=last + 1,
            kind=TurnKind.REVERT,
            mode=Mode.CODE,
            prompt="",
            author=by,
            status=RunStatus.SUCCEEDED,
            reverts_to=to,
            started_at=Now(),
            finished_at=Now(),
        )
        content = bytes(kept.content) if kept else b""
        fields = ("sha256", "files", "additions", "deletions", "left_out", "secrets_found")
        said = {field: getattr(kept, field) for field in fields} if kept else {"sha256": EMPTY_SHA256}
        patch = Patch.objects.create(run=locked, turn=turn, kind=PatchKind.FINAL, content=content, **said)
        checks.after_turn(turn, RunStatus.SUCCEEDED, patch)
        Sandbox.objects.filter(run=locked).exclude(status=SandboxStatus.DESTROYED).update(status=SandboxStatus.LOST)
        Run.objects.filter(pk=locked.pk).update(generation=F("generation") + 1)
        events.append(run.pk, EventKind.STATUS, {"reverted_to": to}, turn_id=turn.pk)
        nudge.tell([nudge.user_group(run.task.owner_id)])
    return turn
