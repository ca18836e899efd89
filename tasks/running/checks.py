"""Checks: a repository's check command on each finished patch, in a fresh sandbox, and once on the base commit itself.

A check is an unlisted run that begins from its patch, so all that holds for runs holds for it. That one is wanted is written with
the patch, in one transaction; the job `tend_check` does what it needs next, and reconcile (`tidy`) asks for that again.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from tasks.errors import Conflict
from tasks.models import (
    FINAL,
    UNFINISHED,
    Check,
    CheckStatus,
    Event,
    EventKind,
    Patch,
    PatchKind,
    Repo,
    Run,
    RunStatus,
    Sandbox,
    SandboxStatus,
    Task,
    Turn,
)
from tasks.running import nudge, reaping, unlisted

MOST_OUTPUT = 16_000  # characters of its end
_MOST_EVENTS = 50  # of it
_STEP = "agent"  # in which a check's command runs
_ANEW = {
    "status": CheckStatus.UNDER_WAY,
    "run": None,
    "error": "",
    "exit_code": None,
    "seconds": None,
    "output": "",
    "finished_at": None,
}


# --- what is wanted -------------------------------------------------------------------------------------------------------


def after_turn(turn: Turn, status: RunStatus, patch: Patch) -> None:
    """A turn has ended with this status and final patch, in the present transaction: the checks of the run's earlier patches are
    stopped, and this one is checked, unless it is about to be changed or nobody wants it."""
    cancel(Check.objects.filter(patch__run=turn.run_id).exclude(patch=patch))
    is_wanted = status in (RunStatus.SUCCEEDED, RunStatus.FAILED) and not turn.run.task.archived_at
    if is_wanted and not Turn.objects.filter(run=turn.run_id, status=RunStatus.QUEUED).exists():
        want(patch)


def can_check(patch: Patch) -> bool:
    """Whether there is something to check, and something to check it with."""
    return patch.kind == PatchKind.FINAL and bool(patch.files) and bool(patch.run.task.repo.check_command)


def want(patch: Patch) -> Check | None:
    """The check of a patch with its repository's command as it is now, and that of the base commit; None where `can_check` is not.
    Twice is fine: a check that is there stays as it is, but for a base's that came to nothing."""
    if not can_check(patch):
        return None
    task = patch.run.task
    alike = {"repo": task.repo, "base_commit": task.base_commit, "backend": patch.run.backend, "is_restricted": task.is_restricted}
    alike |= {"command": task.repo.check_command}
    with transaction.atomic():
        Check.objects.bulk_create([Check(**alike)], ignore_conflicts=True)
        base = Check.objects.select_for_update().get(patch=None, **alike)  # held, so that nobody cancels it as the last one's
        if base.status in (CheckStatus.ERRORED, CheckStatus.CANCELED):
            anew(base)
        Check.objects.bulk_create([Check(patch=patch, base=base, **alike)], ignore_conflicts=True)
        check = Check.objects.get(patch=patch, command=task.repo.check_command)
        for each in (base, check):
            _ask(each)
        _tell([check])
    return check


def anew(check: Check) -> None:
    """Let a check be done again; what its run said goes."""
    if check.run_id is not None:
        unlisted.forget(Task.objects.filter(runs=check.run_id))
    Check.objects.filter(pk=check.pk).update(**_ANEW)
    _ask(check)
    _tell([check])


def cancel(checks: QuerySet[Check]) -> None:
    """Stop those of these checks of patches that are under way, and the bases that nobody waits for any more."""
    with transaction.atomic():
        stopped = list(checks.under_way().order_by("pk"))  # type: ignore[attr-defined]  # (a CheckQuerySet)
        Check.objects.filter(pk__in=[check.pk for check in stopped]).under_way().update(status=CheckStatus.CANCELED, finished_at=Now())
        bases = Check.objects.filter(dependents__in=stopped).under_way().order_by("pk").select_for_update(of=("self",))
        for base in {base.pk: base for base in bases}.values():
            if not Check.objects.filter(base=base).under_way().exists():
                Check.objects.filter(pk=base.pk).under_way().update(status=CheckStatus.CANCELED, finished_at=Now())
                stopped.append(base)
        for check in stopped:
            _ask(check)
        _tell(stopped)


# --- what is done ---------------------------------------------------------------------------------------------------------


def tend(check_id: int) -> None:
    """Do what a check needs next: begin its run, stop it, or read what came of it; twice is fine."""
    check = Check.objects.select_related("run", "patch", "repo").filter(pk=check_id).first()
    if check is None:
        return
    if check.run is None and not check.is_over:
        _begin(check)
    elif check.run is not None and check.is_over and not check.run.is_over:
        unlisted.stop(check.run.pk)
    elif check.run is not None and not check.is_over and check.run.is_over:
        settle(check.run)


def _begin(check: Check) -> None:
    source = _source(check)
    if source is None:  # those who wanted it are gone
        Check.objects.filter(pk=check.pk).under_way().update(status=CheckStatus.CANCELED, finished_at=Now())
        return
    task = source.run.task
    name = f"Check of {source.run.label}: {task.title}" if check.patch else f"Check of {check.repo.name} at {check.base_commit[:8]}"
    try:
        with transaction.atomic():
            Repo.objects.hold(check.repo_id)
            # As always the run before what is of it: who ends a turn holds it, and may be about to cancel this check.
            Run.objects.select_for_update(no_key=True).get(pk=source.run_id)
            if not Check.objects.select_for_update(of=("self",)).filter(pk=check.pk, run=None).under_way().exists():
                return
            run = unlisted.create(
                repo=check.repo,
                by=task.owner,
                title=name,
                script=check.command,
                commit=check.base_commit,
                branch=task.base_branch,
                backend=check.backend,
                is_restricted=check.is_restricted,
                after=source if check.patch else None,
            )
            Check.objects.filter(pk=check.pk).update(run=run)
    except Conflict as error:  # the repository was removed
        ended = {"status": CheckStatus.ERRORED, "error": error.message, "finished_at": Now()}
        Check.objects.filter(pk=check.pk, run=None).under_way().update(**ended)
        _tell([check])


def _source(check: Check) -> Patch | None:
    """The patch that is checked; of a base one that waits for it."""
    related = Patch.objects.select_related("run__task__owner", "turn").defer("content", "files")
    if check.patch_id is not None:
        return related.get(pk=check.patch_id)
    return related.filter(checks__base=check, checks__status=CheckStatus.UNDER_WAY).order_by("pk").first() or (
        related.filter(checks__base=check).order_by("-pk").first()
    )


def is_check(run: Run) -> bool:
    return run.task.is_trial and Check.objects.filter(run=run).exists()


def settle(run: Run) -> None:
    """Keep what came of a check's run that is over, and destroy its sandbox; again and again is fine."""
    run.refresh_from_db(fields=["status", "error"])
    check = Check.objects.filter(run=run).first()
    if check is None or run.status not in FINAL:
        return
    turn = Turn.objects.filter(run=run).first()
    said = (turn.outcome if turn else None) or {}
    status, error = _judge(run, said)
    came = {"status": status, "error": error, "exit_code": said.get("code") if status == CheckStatus.FAILED else None}
    came |= {"output": output(run.pk, said.get("step") or _STEP), "seconds": _seconds(run.pk), "finished_at": Now()}
    came |= {"exit_code": 0} if status == CheckStatus.PASSED else {}
    if Check.objects.filter(pk=check.pk, run=run).under_way().update(**came):
        _tell([check])
    Sandbox.objects.filter(run=run).exclude(status=SandboxStatus.DESTROYED).update(status=SandboxStatus.LOST)
    for sandbox_id in Sandbox.objects.filter(run=run, status=SandboxStatus.LOST).values_list("pk", flat=True):
        reaping.destroy_sandbox(sandbox_id)


def _judge(run: Run, said: dict[str, object]) -> tuple[CheckStatus, str]:
    """What a run that is over says: the command itself decides, whatever came before it is no judgement of the patch."""
    if run.status == RunStatus.CANCELED:
        return CheckStatus.CANCELED, ""
    if run.status == RunStatus.SUCCEEDED:
        return CheckStatus.PASSED, ""
    if run.status == RunStatus.FAILED and said.get("step") == _STEP:
        return CheckStatus.FAILED, "" if said.get("reason") == "exit" and not said.get("signal") else run.error
    return CheckStatus.ERRORED, run.error or "The sandbox stopped before the check was over."


def output(run_id: int, step: str = _STEP) -> str:
    """The end of what a step of a check's run has said so far."""
    of_step = Q(data__step=step) if step != _STEP else ~Q(data__has_key="step")
    logs = Event.objects.filter(of_step, run=run_id, kind=EventKind.LOG, data__stream__in=["stdout", "stderr"]).order_by("-seq")
    text = "".join(str(event.data.get("text", "")) for event in reversed(logs[:_MOST_EVENTS]))
    return text[-MOST_OUTPUT:]


def _seconds(run_id: int) -> float | None:
    ended = Event.objects.filter(run=run_id, kind=EventKind.STATUS, data__step=_STEP, data__has_key="ended").order_by("-seq").first()
    seconds = ended.data["ended"].get("seconds") if ended else None
    return seconds if isinstance(seconds, int | float) else None


def tidy() -> None:
    """Reconcile's part: what was to be begun, stopped or read, and was not."""
    is_owed = Q(status=CheckStatus.UNDER_WAY) & (Q(run=None) | Q(run__status__in=FINAL))
    goes_on = Check.objects.exclude(status=CheckStatus.UNDER_WAY).filter(run__status__in=UNFINISHED)
    for check in [*Check.objects.filter(is_owed), *goes_on]:  # each begins at what is unfinished, which is little
        nudge.enqueue_now(_queue(check), "tend_check", check.pk)


def _ask(check: Check) -> None:
    nudge.enqueue(_queue(check), "tend_check", check.pk)


def _queue(check: Check) -> str:
    """Where its sandbox is, since that is destroyed when it is settled."""
    host = Sandbox.objects.filter(run=check.run_id).exclude(host="").order_by("-generation").values_list("host", flat=True).first()
    return f"host-{host}" if check.run_id and host else settings.QUEUE_RUNS


def _tell(checks: Iterable[Check]) -> None:
    """Tell the pages of whoever waits for these checks."""
    for check in checks:
        runs = Patch.objects.filter(Q(checks=check) | Q(checks__base=check)).values_list("run", flat=True)
        owner = Repo.objects.values_list("owner", flat=True).get(pk=check.repo_id)
        nudge.tell([nudge.user_group(owner), *map(nudge.run_group, set(runs))])
