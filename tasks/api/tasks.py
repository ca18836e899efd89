"""Tasks: what somebody wants, and the runs that try it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from django.conf import settings
from ninja import Query, Router

from tasks import attachments, repositories, services, winners
from tasks.api import runs as run_views
from tasks.api import schemas
from tasks.api.auth import Request
from tasks.api.finding import find_repo, find_task
from tasks.api.idempotency import OnceRequest, once
from tasks.api.paging import NO_NUL, Cursor, Id, IdAsked, Limit, page
from tasks.choices import AgentChoice
from tasks.errors import InvalidInput
from tasks.listing import find_tasks
from tasks.models import Mode, Run, Task

router = Router(tags=["tasks"])
State = Literal["working", "waiting", "done", "failed"]  # those of tasks/listing.py


def shown(tasks: Sequence[Task]) -> list[schemas.Task]:
    """Tasks with their runs; the number of queries does not depend on theirs."""
    return [schemas.Task(**fields) for fields in _fields(tasks)]


def _whole(pk: int) -> schemas.WholeTask:
    """A task as it is now."""
    task = Task.objects.select_related("repo").get(pk=pk)
    return schemas.WholeTask(**_fields([task])[0], prompt=task.prompt)


def _fields(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    runs: dict[int, list[schemas.Run]] = {task.pk: [] for task in tasks}
    for run in run_views.shown(list(Run.objects.filter(task__in=list(runs)).order_by("pk"))):
        runs[run.task].append(run)
    return [
        {
            "id": task.pk,
            "url": settings.BASE_URL + task.get_absolute_url(),
            "repo": schemas.TaskRepo(id=task.repo.pk, name=task.repo.name),
            "title": task.title,
            "mode": Mode(task.mode),
            "base_branch": task.base_branch,
            "base_commit": task.base_commit,
            "created_at": task.created_at,
            "archived_at": task.archived_at,
            "origin": task.origin,
            "is_restricted": task.is_restricted,
            "runs": runs[task.pk],
        }
        for task in tasks
    ]


@router.get("/tasks", response=schemas.Tasks, operation_id="list_tasks", summary="List tasks")
def list_tasks(
    request: Request,
    cursor: Cursor = None,
    limit: Limit = 30,
    state: Annotated[State | None, Query(description="Where their runs stand.")] = None,
    repo: IdAsked = None,
    agent: Annotated[str, Query(max_length=40, pattern=NO_NUL)] = "",
    q: Annotated[str, Query(max_length=200, pattern=NO_NUL, description="Words of the title, the prompt or the repository's name.")] = "",
    is_archived: Annotated[bool, Query(description="Those that are archived, instead of the others.")] = False,
) -> schemas.Tasks:
    """Tasks with their runs, newest first."""
    rows = find_tasks(request.user, state=state or "", repo=repo, agent=agent, text=q, is_archived=is_archived)
    found, following = page(request, rows.select_related("repo").defer("prompt", "search"), cursor=cursor, limit=limit)
    return schemas.Tasks(items=shown(found), next=following)


@router.post("/tasks", response={201: schemas.WholeTask}, operation_id="create_task", summary="Create a task")
@once(201, is_repeatable=True)  # by its submission
def create_task(request: OnceRequest, new: schemas.NewTask) -> schemas.WholeTask:
    """Start a task: a run for each agent, model and attempt, from the commit that the branch is at now."""
    is_known = isinstance(new.repo, int)
    agents = [_choice(one) for one in new.agents]
    files = attachments.wanted(by=request.user, ids=new.attachments)
    if not is_known:  # nothing is added for a task that cannot be started
        services.check_tasks(by=request.user, prompts=[new.prompt], agents=agents, mode=new.mode, backend=new.backend)
    repo = find_repo(request, new.repo) if isinstance(new.repo, int) else repositories.add_repo(by=request.user, source=new.repo)
    task = services.create_task(
        by=request.user,
        repo=repo,
        prompt=new.prompt,
        agents=agents,
        branch=new.branch,
        mode=new.mode,
        backend=new.backend,
        attachments=files,
        submission=request.submission,
    )
    return _whole(task.pk)


def _choice(asked: schemas.AgentChoice) -> AgentChoice:
    options = {name: value for name, value in (("effort", asked.effort), ("max_turns", asked.max_turns)) if value is not None}
    return AgentChoice(asked.agent, asked.model, asked.attempts, options)


@router.get("/tasks/{int:task_id}", response=schemas.WholeTask, operation_id="get_task", summary="Show a task")
def get_task(request: Request, task_id: Id) -> schemas.WholeTask:
    """A task with its prompt and its runs."""
    return _whole(find_task(request, task_id).pk)


@router.post("/tasks/{int:task_id}/stop", response=schemas.WholeTask, operation_id="stop_task", summary="Stop a task's runs")
@once(200)
def stop_task(request: OnceRequest, task_id: Id) -> schemas.WholeTask:
    """Stop all runs of a task that are not over."""
    for run in find_task(request, task_id).runs.select_related("task").order_by("pk"):
        services.cancel_run(run=run, by=request.user)
    return _whole(task_id)


@router.post("/tasks/{int:task_id}/retry", response=schemas.WholeTask, operation_id="retry_failed_runs", summary="Retry failed runs")
@once(200)
def retry_failed_runs(request: OnceRequest, task_id: Id) -> schemas.WholeTask:
    """Begin a new attempt for each failed run that has not been retried yet."""
    services.retry_failed(task=find_task(request, task_id), by=request.user)
    return _whole(task_id)


@router.post("/tasks/{int:task_id}/turns", response=schemas.WholeTask, operation_id="send_follow_ups", summary="Follow up several runs")
@once(200)
def send_follow_ups(request: OnceRequest, task_id: Id, follow_up: schemas.NewFollowUps) -> schemas.WholeTask:
    """Send the same follow-up to several runs of a task, all or none."""
    task = find_task(request, task_id)
    runs = _runs_of(task, follow_up.runs)
    files = attachments.wanted(by=request.user, ids=follow_up.attachments)
    services.send_follow_ups(task=task, runs=runs, by=request.user, prompt=follow_up.prompt, attachments=files, mode=follow_up.mode or "")
    return _whole(task_id)


def _runs_of(task: Task, ids: Iterable[int]) -> list[Run]:
    wanted = set(ids)
    found = list(task.runs.filter(pk__in=wanted).order_by("pk"))
    if missing := wanted - {run.pk for run in found}:
        raise InvalidInput(f"The task has no run {min(missing)}.", field="runs")
    return found


@router.post("/tasks/{int:task_id}/unchoose", response=schemas.WholeTask, operation_id="unchoose_run", summary="Choose no run")
@once(200)
def unchoose_run(request: OnceRequest, task_id: Id) -> schemas.WholeTask:
    """No run of the task is chosen any more, and none is set aside."""
    winners.unchoose(task=find_task(request, task_id), by=request.user)
    return _whole(task_id)


@router.post("/tasks/{int:task_id}/archive", response=schemas.WholeTask, operation_id="archive_task", summary="Archive a task")
@once(200)
def archive_task(request: OnceRequest, task_id: Id) -> schemas.WholeTask:
    """Stop a task's runs and destroy their sandboxes; events and patches stay."""
    services.archive_task(task=find_task(request, task_id), by=request.user)
    return _whole(task_id)


@router.post("/tasks/{int:task_id}/restore", response=schemas.WholeTask, operation_id="restore_task", summary="Restore a task")
@once(200)
def restore_task(request: OnceRequest, task_id: Id) -> schemas.WholeTask:
    """Bring an archived task back. Stopped runs stay stopped; a follow-up starts in a new sandbox."""
    services.unarchive_tasks(tasks=[find_task(request, task_id)], by=request.user)
    return _whole(task_id)
