"""Pull requests: a run's patch on GitHub."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from django.http import Http404
from ninja import Query, Router, Status

from tasks.api import schemas
from tasks.api.auth import Request
from tasks.api.finding import find_run
from tasks.api.idempotency import OnceRequest, once
from tasks.api.paging import Cursor, Id, Limit, page
from tasks.github import merging, pulls
from tasks.models import Publication, PullRequest, PullRequestState, Run

router = Router(tags=["pull requests"])
ADDRESS = "/runs/{int:run_id}/pull-request"


def pull_request(pull: PullRequest) -> schemas.PullRequest:
    return schemas.PullRequest(
        run=pull.run_id,
        repository=pull.repository,
        number=pull.number,
        url=pull.url,
        branch=pull.branch,
        base=pull.base,
        state=PullRequestState(pull.state),
        head_sha=pull.head_sha,
        checks=pull.checks,
        review=pull.review,
        mergeable=pull.mergeable,
        created_at=pull.created_at,
        seen_at=pull.seen_at,
    )


def _publication(run: Run) -> schemas.Publication:
    """How far a run is on its way to GitHub now; 404 while nobody wants it there."""
    found = Publication.objects.filter(run=run).first()
    if found is None:
        raise Http404
    pull = PullRequest.objects.filter(run=run).first()
    found.run = run
    is_at_work = pulls.is_at_work(run)
    return schemas.Publication(
        run=run.pk,
        branch=found.branch_name,
        is_at_work=is_at_work,
        error="" if is_at_work else found.error,
        error_code="" if is_at_work else found.error_code,
        conflicts=[schemas.Conflict(**conflict) for conflict in found.conflicts],
        refused=found.refused,
        pull_request=pull_request(pull) if pull else None,
    )


def _after(request: Request, run_id: int, verb: Callable[..., Any], **options: Any) -> schemas.Publication:
    """Ask a verb something of a run, and tell how far the run is then."""
    run = find_run(request, run_id)
    verb(run=run, by=request.user, **options)
    return _publication(run)


@router.get("/pull-requests", response=schemas.PullRequests, operation_id="list_pull_requests", summary="List pull requests")
def list_pull_requests(
    request: Request, cursor: Cursor = None, limit: Limit = 30, state: Annotated[PullRequestState | None, Query()] = None
) -> schemas.PullRequests:
    """Pull requests of your runs, newest first."""
    rows = PullRequest.objects.filter(run__task__owner=request.user)
    if state:
        rows = rows.filter(state=state)
    found, following = page(request, rows, cursor=cursor, limit=limit)
    return schemas.PullRequests(items=[pull_request(pull) for pull in found], next=following)


@router.get(ADDRESS, response=schemas.Publication, operation_id="get_pull_request", summary="Show a run's pull request")
def get_pull_request(request: Request, run_id: Id) -> schemas.Publication:
    """How far a run is on its way to GitHub, and its pull request there."""
    return _publication(find_run(request, run_id))


@router.post(ADDRESS, response={202: schemas.Publication}, operation_id="open_pull_request", summary="Open a pull request")
@once(202, is_repeatable=True)  # the verb may be repeated
def open_pull_request(request: OnceRequest, run_id: Id, new: schemas.NewPullRequest) -> schemas.Publication:
    """Let a run's newest patch become a pull request. What is left to do goes on afterwards: ask for it until `is_at_work` is false."""
    return _after(request, run_id, pulls.open_pull_request, **new.model_dump())


@router.patch(ADDRESS, response={202: schemas.Publication}, operation_id="update_pull_request", summary="Update a pull request")
def update_pull_request(request: Request, run_id: Id, update: schemas.PullRequestUpdate) -> Status[schemas.Publication]:
    """Bring a run's newest patch into its pull request, after a follow-up or after an error."""
    return Status(202, _after(request, run_id, pulls.update_pull_request, **update.model_dump()))


@router.post(f"{ADDRESS}/merge", response=schemas.Publication, operation_id="merge_pull_request", summary="Merge a pull request")
@once(200, is_repeatable=True)  # what is merged stays so
def merge_pull_request(request: OnceRequest, run_id: Id, merge: schemas.Merge) -> schemas.Publication:
    """Merge what was looked at; refused if something was pushed since."""
    return _after(request, run_id, merging.merge, method=merge.method, head_sha=merge.head_sha)


@router.post(f"{ADDRESS}/ready", response=schemas.Publication, operation_id="mark_pull_request_ready", summary="End a draft")
@once(200, is_repeatable=True)
def mark_pull_request_ready(request: OnceRequest, run_id: Id) -> schemas.Publication:
    """Let a draft be reviewed."""
    return _after(request, run_id, merging.mark_ready)


@router.post(f"{ADDRESS}/close", response=schemas.Publication, operation_id="close_pull_request", summary="Close a pull request")
@once(200, is_repeatable=True)
def close_pull_request(request: OnceRequest, run_id: Id) -> schemas.Publication:
    """Close a pull request without merging it."""
    return _after(request, run_id, merging.close)


@router.post(f"{ADDRESS}/reopen", response=schemas.Publication, operation_id="reopen_pull_request", summary="Reopen a pull request")
@once(200, is_repeatable=True)
def reopen_pull_request(request: OnceRequest, run_id: Id) -> schemas.Publication:
    """Open a closed pull request again."""
    return _after(request, run_id, merging.reopen)
