"""Runs that no list shows: trials of an environment, the building of one that is kept, checks. They are runs like all others, but
for what they change: no patch of theirs is kept."""

from __future__ import annotations

from django.conf import settings
from django.db.models import QuerySet
from django.db.models.functions import Now

from tasks.git import workspaces
from tasks.models import Patch, Repo, Run, RunStatus, Sandbox, SandboxStatus, Task, Turn, User
from tasks.running import lifecycle, nudge

AGENT = "shell"


def create(
    *,
    repo: Repo,
    by: User,
    title: str,
    script: str,
    commit: str,
    branch: str,
    backend: str,
    is_restricted: bool = False,
    after: Patch | None = None,
) -> Run:
    """Queue a run of the shell agent in a task that is archived from its birth: so it takes no follow-ups, and its sandbox is
    destroyed as soon as it is over. It begins from the base commit, or with what this final patch made of it. Called in a
    transaction that holds the repository."""
    task = Task.objects.create(
        owner=by,
        repo=repo,
        title=title[:200],
        prompt=script,
        base_branch=branch,
        base_commit=commit,
        is_trial=True,
        is_restricted=is_restricted,
        archived_at=Now(),
    )
    run = Run.objects.create(
        task=task,
        agent=AGENT,
        backend=backend,
        branch=workspaces.checkout_branch_name(task.pk, "setup", AGENT, 1),
        parent=after.run if after else None,
        parent_turn=after.turn.number if after else None,
    )
    Turn.objects.create(run=run, number=1, prompt=script, author=by)
    nudge.dispatch()
    nudge.tell([nudge.user_group(by.pk)])
    return run


def stop(run_id: int) -> None:
    """Stop a run, whatever state it is in."""
    if not lifecycle.finish(run_id, source=[RunStatus.QUEUED, RunStatus.STARTING], to=RunStatus.CANCELED):
        Run.objects.filter(pk=run_id, status=RunStatus.RUNNING, stop_requested_at=None).update(stop_requested_at=Now())


def forget(tasks: QuerySet[Task]) -> None:
    """Delete unlisted tasks, whatever their runs are at. The sandboxes that no row wants then are destroyed at once, not at the
    reaper's next round."""
    kept = Sandbox.objects.filter(run__task__in=tasks).exclude(status=SandboxStatus.DESTROYED)
    hosts = set(kept.values_list("host", flat=True))
    tasks.delete()
    for host in hosts:
        nudge.enqueue(f"host-{host}" if host else settings.QUEUE_RUNS, "reap")
