"""Runs: how they stand, and what may be done to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from django.conf import settings
from ninja import Query, Router

from tasks import services, turns, winners
from tasks.api import schemas
from tasks.api.auth import Request
from tasks.api.finding import find_run
from tasks.api.idempotency import OnceRequest, once
from tasks.api.paging import Cursor, Id, IdAsked, Limit, page
from tasks.api.pulls import pull_request
from tasks.models import ACTIVE, Patch, PatchKind, PullRequest, Run, RunStatus, Verdict
from tasks.review.checks import check_again, checks_of
from tasks.running import scheduler

router = Router(tags=["runs"])


def shown(runs: Sequence[Run]) -> list[schemas.Run]:
    """Runs as the API gives them; the number of queries does not depend on theirs."""
    ids = [run.pk for run in runs]
    patches = {patch.run_id: patch for patch in Patch.objects.newest_of(ids).counted()}
    pulls = {pull.run_id: pull for pull in PullRequest.objects.filter(run__in=ids)}
    checks = checks_of(ids)
    queued = [run.pk for run in runs if run.status == RunStatus.QUEUED]
    places = scheduler.places(queued) if queued else {}
    return [
        _shown(
            run,
            _figures(patches[run.pk]) if run.pk in patches else None,
            pull_request(pulls[run.pk]) if run.pk in pulls else None,
            checks[run.pk].verdict if run.pk in checks else None,
            places[run.pk].reason if run.pk in places else "",
        )
        for run in runs
    ]


def _shown(
    run: Run, patch: schemas.PatchFigures | None, pull: schemas.PullRequest | None, check: Verdict | None, waits_for: str
) -> schemas.Run:
    return schemas.Run(
        id=run.pk,
        task=run.task_id,
        url=settings.BASE_URL + run.get_absolute_url(),
        agent=run.agent,
        model=run.model,
        attempt=run.attempt,
        backend=run.backend,
        branch=run.branch,
        status=RunStatus(run.status),
        stage=run.stage,
        error=run.error,
        error_class=run.error_class,
        is_stopping=run.stop_requested_at is not None and run.status in ACTIVE,
        waits_for=waits_for,
        parent=run.parent_id,
        parent_turn=run.parent_turn,
        queued_at=run.queued_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        duration_s=None if run.duration_s is None else round(run.duration_s, 3),
        chosen_at=run.chosen_at,
        set_aside_at=run.set_aside_at,
        events=run.next_seq - 1,
        input_tokens=run.input_tokens,
        cached_tokens=run.cached_tokens,
        output_tokens=run.output_tokens,
        reasoning_tokens=run.reasoning_tokens,
        cost_usd=None if run.cost_usd is None else float(run.cost_usd),
        patch=patch,
        check=check,
        pull_request=pull,
    )


def _figures(patch: Patch) -> schemas.PatchFigures:
    return schemas.PatchFigures(
        sha256=patch.sha256,
        is_final=patch.kind == PatchKind.FINAL,
        files=patch.file_count,
        additions=patch.additions,
        deletions=patch.deletions,
    )


def one(pk: int) -> schemas.Run:
    """A run as it is now."""
    return shown([Run.objects.get(pk=pk)])[0]


@router.get("/runs", response=schemas.Runs, operation_id="list_runs", summary="List runs")
def list_runs(
    request: Request, cursor: Cursor = None, limit: Limit = 30, task: IdAsked = None, status: Annotated[RunStatus | None, Query()] = None
) -> schemas.Runs:
    """Runs, newest first: of all tasks, or of one; all, or those of one status."""
    runs = Run.objects.visible_to(request.user).filter(task__is_trial=False)
    if task:
        runs = runs.filter(task=task)
    if status:
        runs = runs.filter(status=status)
    found, following = page(request, runs, cursor=cursor, limit=limit)
    return schemas.Runs(items=shown(found), next=following)


@router.get("/runs/{int:run_id}", response=schemas.Run, operation_id="get_run", summary="Show a run")
def get_run(request: Request, run_id: Id) -> schemas.Run:
    """A run with its figures, check and pull request."""
    return shown([find_run(request, run_id)])[0]


@router.post("/runs/{int:run_id}/stop", response=schemas.Run, operation_id="stop_run", summary="Stop a run")
@once(200)
def stop_run(request: OnceRequest, run_id: Id) -> schemas.Run:
    """Stop a run in whatever state it is. One at work is over a moment later, and its patch is kept. Stopping twice is fine."""
    services.cancel_run(run=find_run(request, run_id), by=request.user)
    return one(run_id)


@router.post("/runs/{int:run_id}/retry", response={201: schemas.Run}, operation_id="retry_run", summary="Retry a run")
@once(201)
def retry_run(request: OnceRequest, run_id: Id) -> schemas.Run:
    """Begin a new attempt of the same agent from the base commit. While one is under way already, that one."""
    return one(services.retry_run(run=find_run(request, run_id), by=request.user).pk)


@router.post("/runs/{int:run_id}/choose", response=schemas.Run, operation_id="choose_run", summary="Choose a run")
@once(200)
def choose_run(request: OnceRequest, run_id: Id, choice: schemas.Choice) -> schemas.Run:
    """Mark a run as the one of its task that is taken."""
    winners.choose_run(run=find_run(request, run_id), by=request.user, sets_others_aside=choice.sets_others_aside)
    return one(run_id)


@router.post("/runs/{int:run_id}/check", response=schemas.Run, operation_id="check_run", summary="Check a run's patch")
@once(200)
def check_run(request: OnceRequest, run_id: Id) -> schemas.Run:
    """Run the repository's check command on the run's newest patch, also if that was done before."""
    check_again(run=find_run(request, run_id), by=request.user)
    return one(run_id)


@router.post("/runs/{int:run_id}/branch", response={201: schemas.Run}, operation_id="branch_run", summary="Branch a run")
@once(201)
def branch_run(request: OnceRequest, run_id: Id, branch: schemas.NewBranch) -> schemas.Run:
    """Begin a new attempt that goes on from what was said and changed until a turn."""
    return one(turns.branch_run(run=find_run(request, run_id), by=request.user, after=branch.after, prompt=branch.prompt).pk)


@router.post("/runs/{int:run_id}/revert", response=schemas.Run, operation_id="revert_run", summary="Go back in a run")
@once(200)
def revert_run(request: OnceRequest, run_id: Id, revert: schemas.Revert) -> schemas.Run:
    """Bring a run back to what it had changed after a turn. Its later turns stay in its history."""
    turns.revert_run(run=find_run(request, run_id), by=request.user, to=revert.to)
    return one(run_id)


@router.post("/runs/{int:run_id}/approve", response=schemas.Run, operation_id="approve_plan", summary="Approve a plan")
@once(200)
def approve_plan(request: OnceRequest, run_id: Id, approved: schemas.ApprovedPlan) -> schemas.Run:
    """Let a run that waits with its plan carry it out."""
    turns.approve_plan(run=find_run(request, run_id), by=request.user, plan=approved.plan)
    return one(run_id)
