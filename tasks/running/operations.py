"""Long chores with progress in a row. Idempotent, leased, started again by reconcile when their worker died."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from django.conf import settings
from django.db import close_old_connections, connection, transaction
from django.db.models import F, Q, Value
from django.db.models.functions import Concat, Now, Right
from django.utils import timezone
from django.utils.module_loading import import_string

from agents.packages import Package
from tasks.errors import AppError
from tasks.git import mirrors, remotes
from tasks.git.features import features
from tasks.git.sources import Source, parse_source
from tasks.github_api.reading import read
from tasks.models import Operation, OperationStatus, Repo, Run, RunStatus, Task, User
from tasks.running import backends, installs, lifecycle, nudge, templates

logger = logging.getLogger(__name__)

LEASE_S = 30
MOST_TRIES = 5
UNFINISHED = (OperationStatus.QUEUED, OperationStatus.RUNNING)

LOOK_AGAIN = timedelta(hours=1)  # at what kind of files a repository has
FRESH = timedelta(seconds=30)  # a fetch that long ago is not worth a write

MOST_LOG = 500_000  # characters, the last of them


class Progress(Protocol):
    """Percent of the whole, what is going on, and what is to be added to the log. Raises Abandoned."""

    def __call__(self, percent: int, text: str, log: str = "") -> None: ...


class Abandoned(AppError):
    """An operation whose row is gone or somebody else's: whoever is at it stops."""


def begin(kind: str, subject: str) -> Operation:
    """The unfinished operation of this kind on this subject, made if there is none, and a worker asked to do it."""
    with transaction.atomic():
        operation, _ = Operation.objects.filter(status__in=UNFINISHED).get_or_create(kind=kind, subject=subject)
        nudge.enqueue(_queue(kind), "run_operation", operation.pk)
    return operation


def _queue(kind: str) -> str:
    """A mirror may be made by any host; what is installed, is installed here. Who waits for a pull request does not wait for either."""
    if kind == "pull_request":
        return settings.QUEUE_RUNS
    return settings.QUEUE_HOST_OPERATIONS if kind == "install" else settings.QUEUE_OPERATIONS


def begin_template(wanted: templates.Wanted) -> Operation:
    """The unfinished build of this template, whether it is one anew or not, made if there is none."""
    going = Operation.objects.filter(kind=templates.KIND, status__in=UNFINISHED, subject__startswith=f"{wanted.name} ")
    return going.first() or begin(templates.KIND, wanted.subject)


def work(operation_id: int, tell: Callable[[str], None] = lambda log: None) -> None:
    """Do an operation, unless another worker is at it. `tell` gets what is added to its log."""
    owner = uuid.uuid4().hex
    lease = Now() + timedelta(seconds=LEASE_S)
    free = Q(status=OperationStatus.QUEUED) | Q(status=OperationStatus.RUNNING, lease_until__lt=Now())
    taken = Operation.objects.filter(free, pk=operation_id).update(
        status=OperationStatus.RUNNING, lease_owner=owner, lease_until=lease, started_at=Now(), tries=F("tries") + 1, log=""
    )
    if not taken:
        return
    operation = Operation.objects.get(pk=operation_id)
    mine = Operation.objects.filter(pk=operation_id, lease_owner=owner, status=OperationStatus.RUNNING)

    def show(percent: int, text: str, log: str = "") -> None:
        more = {"log": Right(Concat("log", Value(log)), MOST_LOG)} if log else {}
        if not mine.update(percent=percent, progress=text[:300], **more):
            raise Abandoned("This is no longer wanted, or another worker does it.")
        tell(log)

    over = threading.Event()
    keeper = threading.Thread(target=_keep_lease, args=(operation_id, owner, over), daemon=True)
    keeper.start()
    try:
        KINDS[operation.kind](operation.subject, show)
    except AppError as error:
        if mine.update(status=OperationStatus.FAILED, error=str(error), finished_at=Now()):
            FAILED[operation.kind](operation.subject, str(error))
    else:
        mine.update(status=OperationStatus.SUCCEEDED, percent=100, progress="", finished_at=Now())
    finally:
        over.set()
        keeper.join()


def _keep_lease(operation_id: int, owner: str, over: threading.Event) -> None:
    while not over.wait(LEASE_S / 3):
        Operation.objects.filter(pk=operation_id, lease_owner=owner).update(lease_until=Now() + timedelta(seconds=LEASE_S))
        close_old_connections()
    connection.close()


def start_again() -> None:
    """Reconcile's part: nudge what waits or whose worker died; give up on what killed its worker too often."""
    stale = Operation.objects.filter(Q(status=OperationStatus.QUEUED) | Q(status=OperationStatus.RUNNING, lease_until__lt=Now()))
    elsewhere = Q(kind="install") & ~Q(subject__endswith=f"@{settings.HOST_NAME}")
    for operation in stale.exclude(elsewhere):
        if operation.tries < MOST_TRIES:
            nudge.enqueue_now(_queue(operation.kind), "run_operation", operation.pk)
            continue
        error = f"Given up after {operation.tries} tries: the worker died each time."
        if Operation.objects.filter(pk=operation.pk, status=operation.status).update(
            status=OperationStatus.FAILED, error=error, finished_at=Now()
        ):
            FAILED[operation.kind](operation.subject, error)


# --- the mirrors of repositories ----------------------------------------------------------------------------------------


def source_of(repo: Repo) -> Source:
    """Where a repository is read from, checked anew at every use: the owner's rights and the roots may have changed."""
    return source_for(repo.owner, repo.source)


def source_for(user: User, text: str) -> Source:
    """The source that a text names, if repositories of this user may come from there; SourceRefused."""
    roots = user.repo_roots
    return parse_source(text, allow_local=roots is not None, roots=roots or [], allow_private=settings.ALLOW_PRIVATE_HOSTS)


def ensure_mirror(repo: Repo, commit: str) -> None:
    """Have a mirror on this host that knows a commit: another host may have made it or fetched last, or somebody cleaned up.

    A commit that the source no longer has is still missing then; whoever needs it says so.
    """
    if not mirrors.has(repo.mirror_path, commit):
        source, gid = source_of(repo), backends.sandbox_gid()
        read(repo, source, lambda token: mirrors.ensure(repo.mirror_path, source, token=token, timeout=settings.GIT_TIMEOUT_S, gid=gid))


def pin(repo: Repo, branch: str) -> str:
    """The commit that a branch stands at now, from a fresh fetch, kept whatever happens to the branch.

    Who may not fetch (any more) gets ReadRefused, whatever the mirror holds from earlier.
    """
    source, timeout, gid = source_of(repo), settings.GIT_TIMEOUT_S, backends.sandbox_gid()
    read(repo, source, lambda token: mirrors.fetch(repo.mirror_path, source, branch=branch, token=token, timeout=timeout, gid=gid))
    commit = mirrors.resolve(repo.mirror_path, branch)
    mirrors.keep(repo.mirror_path, commit, f"commit-{commit}")
    age = timezone.now() - (repo.mirrored_at or timezone.now())
    if age > FRESH:
        Repo.objects.filter(pk=repo.pk, removed_at=None).update(mirrored_at=Now())
    if age > LOOK_AGAIN:
        nudge.enqueue(settings.QUEUE_OPERATIONS, "look_at_repo", repo.pk)
    return commit


def look(repo: Repo) -> None:
    """Write down whether the default branch has LFS files and submodules. A tree that cannot be read stays as it was known."""
    try:
        found = features(repo.mirror_path, repo.default_branch)
    except AppError as error:
        logger.warning("%s was not looked at: %s", repo, error)
        return
    Repo.objects.filter(pk=repo.pk).update(has_lfs=found.has_lfs, has_submodules=found.has_submodules)


def _mirror(subject: str, progress: Progress) -> None:
    repo = Repo.objects.select_related("owner").filter(pk=int(subject.removeprefix("repo:")), removed_at=None).first()
    if repo is None:
        return
    source = source_of(repo)
    progress(0, "Asking for its branches")

    def fetch(token: str) -> str:
        branch = remotes.default_branch(source, token=token, timeout=settings.GIT_TIMEOUT_S)
        timeout, gid = settings.MIRROR_TIMEOUT_S, backends.sandbox_gid()
        mirrors.ensure(repo.mirror_path, source, token=token, progress=progress, timeout=timeout, gid=gid)
        return branch

    branch = read(repo, source, fetch)
    if not Repo.objects.filter(pk=repo.pk, removed_at=None).update(default_branch=branch, mirrored_at=Now()):
        mirrors.remove(repo.mirror_path)  # removed while it was fetched
        return
    pin_waiting(repo)
    look(repo)


def pin_waiting(repo: Repo) -> None:
    """Pin the base commit of the tasks that waited for the mirror; one whose branch is missing ends with that error."""
    repo.refresh_from_db()
    for task in Task.objects.filter(repo=repo, base_commit=""):
        branch = task.base_branch or repo.default_branch
        try:
            commit = mirrors.resolve(repo.mirror_path, branch)
            mirrors.keep(repo.mirror_path, commit, f"task-{task.pk}")
        except AppError as error:
            _fail_waiting(task, str(error))
        else:
            Task.objects.filter(pk=task.pk, base_commit="").update(base_branch=branch, base_commit=commit)
    nudge.dispatch()


def _fail_waiting(task: Task, error: str) -> None:
    for run in task.runs.filter(status=RunStatus.QUEUED):
        lifecycle.finish(run.pk, source=[RunStatus.QUEUED], to=RunStatus.ERRORED, stage="mirror", error=error)


def _mirror_failed(subject: str, error: str) -> None:
    for task in Task.objects.filter(repo=int(subject.removeprefix("repo:")), base_commit=""):
        _fail_waiting(task, error)


# --- the agents' programs -------------------------------------------------------------------------------------------------


def await_install(run: Run, package: Package, fence: Q) -> None:
    """Put a run that has been chosen to start back into the queue, where it waits for its agent to be installed on this host."""
    until = Now() + timedelta(seconds=installs.WAIT_S)
    with transaction.atomic():
        if lifecycle.requeue(run.pk, source=[RunStatus.STARTING], fence=fence, queued_at=run.queued_at, not_before=until):
            begin("install", installs.subject(package))
    if installs.missing(run) is None:  # ended meanwhile, and may have let go on who waited then
        installs.release(package)


# --- those of the rooms above this one --------------------------------------------------------------------------------------

PUBLISHING = "tasks.github.publishing"  # named, not imported, as jobs are


def _publish(subject: str, progress: Progress) -> None:
    import_string(f"{PUBLISHING}.perform")(subject, progress)


def _publish_failed(subject: str, error: str) -> None:
    import_string(f"{PUBLISHING}.failed")(subject, error)


def _leave(subject: str, progress: Progress) -> None:
    import_string("tasks.leaving.perform")(subject, progress)


KINDS: dict[str, Callable[[str, Progress], None]] = {
    "mirror": _mirror,
    "install": installs.perform,
    "leave": _leave,
    "pull_request": _publish,
    templates.KIND: templates.perform,
}
# What else follows from a failure; nothing waits for a template.
FAILED: dict[str, Callable[[str, str], None]] = {
    "mirror": _mirror_failed,
    "install": installs.failed,
    "leave": lambda subject, error: None,
    "pull_request": _publish_failed,
    templates.KIND: lambda subject, error: None,
}
