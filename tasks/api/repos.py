"""Repositories, with the environment that their sandboxes get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, cast

from django.http import Http404
from ninja import Path, Query, Router

from tasks import environment, repositories
from tasks.api import schemas
from tasks.api.auth import Request
from tasks.api.finding import find_repo
from tasks.api.idempotency import OnceRequest, once
from tasks.api.paging import NO_NUL, Cursor, Id, Limit, page
from tasks.models import NetworkPreset, Operation, Repo, Variable

router = Router(tags=["repositories"])
VariableName = Annotated[str, Path(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,199}$")]


def shown(repos: Sequence[Repo]) -> list[schemas.Repo]:
    operations = repositories.mirror_operations(repos)
    return [_shown(repo, operations.get(repo.pk)) for repo in repos]


def _shown(repo: Repo, operation: Operation | None) -> schemas.Repo:
    return schemas.Repo(
        id=repo.pk,
        name=repo.name,
        source=repo.source,
        default_branch=repo.default_branch,
        setup_script=repo.setup_script,
        check_command=repo.check_command,
        network_preset=NetworkPreset(repo.network_preset),
        network_hosts=repo.network_hosts,
        template=repo.template,
        created_at=repo.created_at,
        mirrored_at=repo.mirrored_at,
        mirror=_mirror(operation) if operation else None,
    )


def _mirror(operation: Operation) -> schemas.Mirror:
    status = cast(Literal["queued", "running", "succeeded", "failed"], operation.status)
    return schemas.Mirror(status=status, percent=operation.percent, progress=operation.progress, error=operation.error)


def _one(pk: int) -> schemas.Repo:
    """A repository as it is now."""
    return shown([Repo.objects.get(pk=pk)])[0]


@router.get("/repos", response=schemas.Repos, operation_id="list_repos", summary="List repositories")
def list_repos(
    request: Request,
    cursor: Cursor = None,
    limit: Limit = 30,
    q: Annotated[str, Query(max_length=200, pattern=NO_NUL, description="A part of the name.")] = "",
) -> schemas.Repos:
    """Repositories, newest first."""
    rows = Repo.objects.visible_to(request.user)
    if q:
        rows = rows.filter(name__icontains=q)
    found, following = page(request, rows, cursor=cursor, limit=limit)
    return schemas.Repos(items=shown(found), next=following)


@router.post("/repos", response={201: schemas.Repo}, operation_id="add_repo", summary="Add a repository")
@once(201, is_repeatable=True)  # by its source
def add_repo(request: OnceRequest, new: schemas.NewRepo) -> schemas.Repo:
    """Add a repository and begin to copy it. One that is there already is given as it is."""
    return _one(repositories.add_repo(by=request.user, source=new.source).pk)


@router.get("/repos/{int:repo_id}", response=schemas.Repo, operation_id="get_repo", summary="Show a repository")
def get_repo(request: Request, repo_id: Id) -> schemas.Repo:
    """A repository with its environment, and how far its copy is."""
    return shown([find_repo(request, repo_id)])[0]


@router.patch("/repos/{int:repo_id}", response=schemas.Repo, operation_id="update_repo", summary="Change a repository's environment")
def update_repo(request: Request, repo_id: Id, changes: schemas.RepoChanges) -> schemas.Repo:
    """Change how sandboxes of a repository are prepared and what they may reach. Running ones stay as they are."""
    repo = find_repo(request, repo_id)
    kept = {name: getattr(repo, name) for name in ("setup_script", "check_command", "network_preset", "network_hosts")}
    environment.update_environment(repo=repo, by=request.user, **kept | changes.model_dump(exclude_none=True))
    return _one(repo.pk)


@router.delete("/repos/{int:repo_id}", response={204: None}, operation_id="remove_repo", summary="Remove a repository")
def remove_repo(request: Request, repo_id: Id) -> None:
    """Remove a repository with its variables and our copy of it. The history of its tasks stays."""
    environment.remove_repo(repo=find_repo(request, repo_id), by=request.user)


@router.post("/repos/{int:repo_id}/fetch", response={202: schemas.Repo}, operation_id="fetch_repo", summary="Fetch a repository")
@once(202)
def fetch_repo(request: OnceRequest, repo_id: Id) -> schemas.Repo:
    """Bring all branches of our copy up to date; `mirror` says how far that is."""
    repositories.fetch_repo(repo=find_repo(request, repo_id), by=request.user)
    return _one(repo_id)


# --- variables -----------------------------------------------------------------------------------------------------------


def _variable(variable: Variable) -> schemas.Variable:
    return schemas.Variable(
        name=variable.name,
        value=None if variable.is_secret else variable.value,
        is_secret=variable.is_secret,
        phase=cast(Literal["setup", "agent"], variable.phase),
    )


@router.get("/repos/{int:repo_id}/variables", response=schemas.Variables, operation_id="list_variables", summary="List variables")
def list_variables(request: Request, repo_id: Id) -> schemas.Variables:
    """A repository's environment variables, without the values of secrets."""
    return schemas.Variables(items=[_variable(one) for one in Variable.objects.filter(repo=find_repo(request, repo_id))])


@router.put("/repos/{int:repo_id}/variables/{name}", response=schemas.Variable, operation_id="set_variable", summary="Set a variable")
def set_variable(request: Request, repo_id: Id, name: VariableName, new: schemas.NewVariable) -> schemas.Variable:
    """Set a variable, new or anew. A secret exists in the setup script only."""
    repo = find_repo(request, repo_id)
    return _variable(environment.set_variable(repo=repo, by=request.user, name=name, **new.model_dump()))


@router.delete("/repos/{int:repo_id}/variables/{name}", response={204: None}, operation_id="remove_variable", summary="Remove a variable")
def remove_variable(request: Request, repo_id: Id, name: VariableName) -> None:
    """Remove a variable."""
    if not environment.remove_variable(repo=find_repo(request, repo_id), by=request.user, name=name):
        raise Http404
