"""The verbs: what users do, each validated first, each in one transaction. Pages, commands and the API only call these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Max
from django.db.models.functions import Now

from tasks import audit
from tasks.attachments import give, give_again
from tasks.choices import (
    COMBINES,
    MOST_ATTEMPTS,
    MOST_PROMPT,
    MOST_STEPS,
    RETRY_OF,
    AgentChoice,
    check_agents,
    check_mode,
    check_prompt,
    parse_agent,
)
from tasks.errors import Conflict, InvalidInput, NotAllowed
from tasks.git import workspaces
from tasks.git.sources import valid_branch
from tasks.models import (
    ACTIVE,
    FINAL,
    Attachment,
    AuditKind,
    Check,
    EndReason,
    Mode,
    Repo,
    Run,
    RunStatus,
    Sandbox,
    SandboxStatus,
    Task,
    Turn,
    TurnKind,
    User,
)
from tasks.running import checks, lifecycle, nudge, operations, quotas

MOST_TASKS = 50  # of one submission
MOST_RUNS = 100
__all__ = ["MOST_ATTEMPTS", "MOST_PROMPT", "MOST_STEPS", "RETRY_OF", "AgentChoice", "parse_agent"]  # besides what is here

FAILED = (RunStatus.FAILED, RunStatus.ERRORED, RunStatus.INTERRUPTED)


# --- tasks --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Origin:
    """Where a task was asked for when it was not here: the address, a text that begins with what to call it, and whether it is
    restricted."""

    url: str
    title: str
    is_restricted: bool


def create_task(
    *,
    by: User,
    repo: Repo,
    prompt: str,
    agents: Sequence[AgentChoice],
    branch: str = "",
    mode: str = Mode.CODE,
    backend: str = "",
    attachments: Sequence[Attachment] = (),
    submission: UUID | None = None,
    origin: Origin | None = None,
) -> Task:
    """One task of `create_tasks`."""
    return create_tasks(
        by=by,
        repo=repo,
        prompts=[prompt],
        agents=agents,
        branch=branch,
        mode=mode,
        backend=backend,
        attachments=attachments,
        submission=submission,
        origin=origin,
    )[0]


def create_tasks(
    *,
    by: User,
    repo: Repo,
    prompts: Sequence[str],
    agents: Sequence[AgentChoice],
    branch: str = "",
    mode: str = Mode.CODE,
    backend: str = "",
    attachments: Sequence[Attachment] = (),
    submission: UUID | None = None,
    origin: Origin | None = None,
) -> list[Task]:
    """A task for each prompt, a run for each agent, model and attempt, their first turns; queued in one transaction.

    The base commit, the same for all, is pinned now, from a fresh fetch; a repository whose first mirror is still being made
    pins it then. `attachments` go with every first turn. What is sent again with the same `submission` makes nothing: it gives
    the tasks of the first time.
    """
    if repo.owner_id != by.pk:
        raise NotAllowed("This repository belongs to somebody else.")
    repo.check_present()
    backend = backend or settings.SANDBOX_BACKEND
    check_tasks(by=by, prompts=prompts, agents=agents, mode=mode, backend=backend)
    branch = valid_branch(branch) if branch else ""
    if already := _submitted(by, submission):
        return already
    commit = ""
    if repo.mirrored_at is not None:
        branch = branch or repo.default_branch
        commit = operations.pin(repo, branch)
    try:
        with transaction.atomic():
            Repo.objects.hold(repo.pk)
            quotas.check_day(owner=by, runs=len(prompts) * sum(choice.attempts for choice in agents))
            tasks = Task.objects.bulk_create(
                Task(
                    owner=by,
                    repo=repo,
                    title=title_of(origin.title if origin else prompt),
                    prompt=prompt,
                    mode=mode,
                    base_branch=branch,
                    base_commit=commit,
                    submission=submission,
                    position=position,
                    origin=origin.url if origin else "",
                    is_restricted=bool(origin and origin.is_restricted),
                )
                for position, prompt in enumerate(prompts)
            )
            give(by=by, attachments=attachments, turns=_add_runs(tasks, agents, backend))
            if not commit:
                operations.begin("mirror", f"repo:{repo.pk}")
            nudge.dispatch()
            nudge.tell([nudge.user_group(by.pk)])
    except IntegrityError:
        if not (already := _submitted(by, submission)):  # the same form, sent at the same time
            raise
        return already
    return tasks


def _submitted(by: User, submission: UUID | None) -> list[Task]:
    """The tasks that were made of this submission."""
    return list(Task.objects.filter(owner=by, submission=submission).order_by("position")) if submission else []


def _add_runs(tasks: Sequence[Task], agents: Sequence[AgentChoice], backend: str) -> list[Turn]:
    """The runs of new tasks; gives their first turns."""
    runs = [
        Run(
            task=task,
            agent=choice.agent,
            model=choice.model,
            options=dict(choice.options),
            attempt=attempt,
            backend=backend,
            branch=workspaces.checkout_branch_name(task.pk, task.title, choice.agent, attempt),
        )
        for task in tasks
        for choice in agents
        for attempt in range(1, choice.attempts + 1)
    ]
    Run.objects.bulk_create(runs)
    first = [Turn(run=run, number=1, mode=run.task.mode, prompt=run.task.prompt, author=run.task.owner) for run in runs]
    return Turn.objects.bulk_create(first)


def check_tasks(*, by: User, prompts: Sequence[str], agents: Sequence[AgentChoice], mode: str = Mode.CODE, backend: str = "") -> None:
    """Whether `create_tasks` would take these; else InvalidInput."""
    if not 1 <= len(prompts) <= MOST_TASKS:
        raise InvalidInput(f"These are {len(prompts)} tasks; from 1 to {MOST_TASKS} can be started together.", field="prompt")
    for prompt in prompts:
        check_prompt(prompt)
    check_agents(agents, mode=mode, backend=backend or settings.SANDBOX_BACKEND, by=by)
    runs = len(prompts) * sum(choice.attempts for choice in agents)
    if runs > MOST_RUNS:
        raise InvalidInput(f"These are {runs} runs; {MOST_RUNS} are the most that can be started together.", field="agents")


def title_of(prompt: str) -> str:
    """The first line that says something, cut to 120 characters; a script's `#!` line says nothing."""
    lines = (line.strip() for line in prompt.splitlines())
    first = next((line for line in lines if line and not line.startswith("#!")), prompt.strip())
    first = first.lstrip("# ").strip() or first
    return first if len(first) <= 120 else first[:119] + "…"


def archive_task(*, task: Task, by: User) -> None:
    """Archive a task; its runs are stopped and its sandboxes destroyed, its history stays."""
    archive_tasks(tasks=[task], by=by)


def archive_tasks(*, tasks: Sequence[Task], by: User) -> None:
    """Archive tasks, all or none; what is archived already stays as it is."""
    with transaction.atomic():
        list(Task.objects.filter(pk__in=[task.pk for task in tasks]).order_by("pk").select_for_update(no_key=True).values_list("pk"))
        for run in Run.objects.filter(task__in=tasks).exclude(status__in=FINAL).select_related("task").order_by("pk"):
            cancel_run(run=run, by=by)
        checks.cancel(Check.objects.filter(patch__run__task__in=tasks))
        Task.objects.filter(pk__in=[task.pk for task in tasks], archived_at=None).update(archived_at=Now())
        _tell_owners(tasks)


def unarchive_tasks(*, tasks: Sequence[Task], by: User) -> int:
    """Bring tasks back. Stopped runs stay stopped, and sandboxes that are gone stay gone: a follow-up starts in a new one, from the
    run's newest patch. Gives the number of runs whose sandbox is gone."""
    with transaction.atomic():
        Task.objects.filter(pk__in=[task.pk for task in tasks], is_trial=False).exclude(archived_at=None).update(archived_at=None)
        _tell_owners(tasks)
    gone = Sandbox.objects.filter(run__task__in=tasks, generation=F("run__generation"), status=SandboxStatus.DESTROYED)
    return gone.count()


def _tell_owners(tasks: Sequence[Task]) -> None:
    nudge.tell([nudge.user_group(owner) for owner in {task.owner_id for task in tasks}])


# --- runs ---------------------------------------------------------------------------------------------------------------


def check_follow_up(*, run: Run, prompt: str, mode: str) -> None:
    """Whether this may be said to a run's agent; else InvalidInput. Its model may be one that is no longer offered."""
    check_prompt(prompt)
    check_mode(run.agent, mode)


def send_follow_up(*, run: Run, by: User, prompt: str, attachments: Sequence[Attachment] = (), mode: str = "") -> Turn:
    """Another turn in the same sandbox, in the mode of the newest one unless another is asked for; queued while one is at work."""
    mode = mode or run.turns.exclude(kind=TurnKind.REVERT).order_by("number").values_list("mode", flat=True).last() or Mode.CODE
    check_follow_up(run=run, prompt=prompt, mode=mode)
    with transaction.atomic():
        Task.objects.hold(run.task_id)
        locked = Run.objects.select_for_update().get(pk=run.pk)
        if locked.stop_requested_at and locked.status in ACTIVE:
            raise Conflict("The run is being stopped. Try again in a moment.")
        number = (locked.turns.aggregate(Max("number"))["number__max"] or 0) + 1
        turn = Turn.objects.create(run=locked, number=number, mode=mode, prompt=prompt, author=by)
        give(by=by, attachments=attachments, turns=[turn])
        Run.objects.filter(pk=run.pk).update(set_aside_at=None)  # who is asked again is wanted again
        if locked.status in (*FINAL, RunStatus.WAITING):
            lifecycle.requeue(run.pk, source=[RunStatus(locked.status)])
        nudge.dispatch()
        nudge.tell([nudge.run_group(run.pk)])
    return turn


def send_follow_ups(
    *, task: Task, runs: Sequence[Run], by: User, prompt: str, attachments: Sequence[Attachment] = (), mode: str = ""
) -> list[Turn]:
    """The same follow-up to several runs of a task, all or none."""
    if not runs:
        raise InvalidInput("Choose at least one run to follow up.", field="runs")
    turns = []
    with transaction.atomic():
        for run in sorted(runs, key=lambda run: run.pk):  # always in this order, so that nobody waits for each other
            run.task = task
            try:
                turns.append(send_follow_up(run=run, by=by, prompt=prompt, attachments=attachments, mode=mode))
            except Conflict as error:
                raise Conflict(error.message if len(runs) == 1 else f"{run.label}: {error.message} Nothing was sent.") from error
    return turns


def withdraw_follow_up(*, turn: Turn, by: User) -> None:
    """Take back a follow-up that still waits; Conflict once it has begun.

    A run that was in the queue for it alone is again what it was before. Its turn stays, canceled: numbers are never used twice.
    """
    with transaction.atomic():
        run = Run.objects.select_for_update().get(pk=turn.run_id)  # the scheduler moves the run before its turn
        waiting = run.turns.filter(status=RunStatus.QUEUED)
        taken = waiting.filter(pk=turn.pk, number__gt=1, started_at=None).update(status=RunStatus.CANCELED, finished_at=Now())
        if not taken:
            raise Conflict("This follow-up has begun or is over, so it cannot be removed. Stop the run if it should not go on.")
        if run.status == RunStatus.QUEUED and not waiting.exists():
            lifecycle.leave_queue(run.pk)
        nudge.tell([nudge.run_group(run.pk), nudge.user_group(run.task.owner_id)])


def cancel_run(*, run: Run, by: User) -> bool:
    """Stop a run, whatever state it is in, with its checks, and drop the follow-ups that wait; False when it was over already.

    What has not begun ends at once. A running turn is asked to stop: the follower delivers that, its patch is kept.
    """
    is_others = run.task.owner_id != by.pk
    with transaction.atomic():
        checks.cancel(Check.objects.filter(patch__run=run))
        before = [RunStatus.QUEUED, RunStatus.STARTING, RunStatus.WAITING]
        is_ended = lifecycle.finish(run.pk, source=before, to=RunStatus.CANCELED)
        waiting = Turn.objects.filter(run=run, status=RunStatus.QUEUED)
        if is_ended:
            waiting.update(status=RunStatus.CANCELED, finished_at=Now())
            if is_others:
                audit.record(AuditKind.RUN_STOPPED, by=by, subject=run)
            return True
        running = Run.objects.filter(pk=run.pk, status=RunStatus.RUNNING)
        asked = running.filter(stop_requested_at=None).update(stop_requested_at=Now())
        # One that is being stopped for a follow-up is now stopped for good.
        asked |= running.exists() and Turn.objects.filter(run=run, status=RunStatus.RUNNING, end_reason=EndReason.FOLLOW_UP).update(
            end_reason=""
        )
        if asked:
            if is_others:
                audit.record(AuditKind.RUN_STOPPED, by=by, subject=run)
            waiting.update(status=RunStatus.CANCELED, finished_at=Now())
            host = Sandbox.objects.filter(run=run).order_by("-generation").values_list("host", flat=True).first()
            nudge.tell([nudge.run_group(run.pk), nudge.user_group(run.task.owner_id)])
            if not host:
                nudge.enqueue(settings.QUEUE_RUNS, "deliver_stop", run.pk, run.generation)
        return bool(asked)


def retry_run(*, run: Run, by: User) -> Run:
    """A new attempt of the same agent and model, from the base commit; the old one stays as it is, and is known to be retried.

    While one is under way already, that one.
    """
    if not run.is_over:
        raise Conflict("The run is not over yet. Stop it first.")
    with transaction.atomic():
        Task.objects.hold(run.task_id)
        retries = Run.objects.filter(task=run.task_id, options__contains={RETRY_OF: run.pk})
        if under_way := retries.exclude(status__in=FINAL).first():  # the button was pressed twice
            return under_way
        quotas.check_day(owner=run.task.owner, runs=1)
        same = Run.objects.filter(task=run.task_id, agent=run.agent, model=run.model)
        attempt = (same.aggregate(Max("attempt"))["attempt__max"] or 0) + 1
        branch = workspaces.checkout_branch_name(run.task_id, run.task.title, run.agent, attempt)
        new = Run.objects.create(
            task=run.task,
            agent=run.agent,
            model=run.model,
            options=run.options | {RETRY_OF: run.pk},
            attempt=attempt,
            backend=run.backend,
            branch=branch,
        )
        first = run.turns.get(number=1)
        prompt = first.prompt if COMBINES in run.options else run.task.prompt
        turn = Turn.objects.create(run=new, number=1, mode=run.task.mode, prompt=prompt, author=by)
        give_again(earlier=first, turn=turn)
        if run.task.owner_id != by.pk:
            audit.record(AuditKind.RUN_RETRIED, by=by, subject=run, attempt=new.pk)
        if not run.task.base_commit:
            operations.begin("mirror", f"repo:{run.task.repo_id}")
        nudge.dispatch()
        nudge.tell([nudge.user_group(run.task.owner_id)])
    return new


def retry_failed(*, task: Task, by: User) -> list[Run]:
    """A new attempt for each failed run of a task that has not been retried yet."""
    with transaction.atomic():
        Task.objects.hold(task.pk)  # of two at the same time the second finds nothing left
        return [retry_run(run=run, by=by) for run in failed_runs(list(task.runs.select_related("task").order_by("pk")))]


def failed_runs(runs: Sequence[Run]) -> list[Run]:
    """Those of a task's runs, given all, that have failed and were not retried."""
    retried = {run.options.get(RETRY_OF) for run in runs}
    return [run for run in runs if run.status in FAILED and run.pk not in retried]
