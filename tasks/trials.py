"""The verbs of trials: a repository's environment tried in a real run, in a real sandbox, in the way of every run.

A trial is an unlisted run (running/unlisted.py) whose script is the check command.
"""

from __future__ import annotations

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from tasks.errors import NotAllowed
from tasks.models import FINAL, Repo, Run, Sandbox, SandboxStatus, Task, User
from tasks.running import operations, unlisted

KEPT = 3  # trials of a repository
NO_CHECK = 'echo "There is no check command."'


def start_trial(*, repo: Repo, by: User) -> Run:
    """Try a repository's environment as it is stored; the trial under way, if there is one. RepoUnavailable, Conflict.

    As with any task, one that begins before the first mirror is there waits for it.
    """
    if repo.owner_id != by.pk:
        raise NotAllowed("This repository belongs to somebody else.")
    repo.check_present()
    if running := _unfinished(repo):
        return running
    commit = operations.pin(repo, repo.default_branch) if repo.mirrored_at is not None else ""
    with transaction.atomic():
        locked = Repo.objects.hold(repo.pk)
        if running := _unfinished(repo):  # begun at the same time
            return running
        run = unlisted.create(
            repo=repo,
            by=by,
            title=f"Setup of {locked.name}",
            script=locked.check_command or NO_CHECK,
            commit=commit,
            branch=repo.default_branch if commit else "",
            backend=settings.SANDBOX_BACKEND,
        )
        if not commit:
            operations.begin("mirror", f"repo:{repo.pk}")
    forget_old(repo)
    return run


def newest_trial(repo: Repo) -> Run | None:
    """The newest trial's run."""
    return _runs(repo).order_by("-pk").first()


def forget_old(repo: Repo) -> None:
    """Delete all but the newest trials, with their events, once they are over and their sandboxes are gone."""
    old = list(_runs(repo).order_by("-pk").values_list("task", flat=True)[KEPT:])
    alive = _runs(repo).exclude(status__in=FINAL).values("task")
    held = Sandbox.objects.filter(run__task__in=old).exclude(status=SandboxStatus.DESTROYED).values("run__task")
    Task.objects.filter(pk__in=old).exclude(pk__in=alive).exclude(pk__in=held).delete()


def _runs(repo: Repo) -> QuerySet[Run]:
    return Run.objects.filter(task__repo=repo, task__is_trial=True, prepares=None, checks=None).select_related("task__repo")


def _unfinished(repo: Repo) -> Run | None:
    return _runs(repo).exclude(status__in=FINAL).first()
