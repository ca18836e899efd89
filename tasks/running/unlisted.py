"""Runs that no list shows: trials of an environment, and the building of one that is kept. They are runs like all others."""

from __future__ import annotations

from django.db.models.functions import Now

from tasks.git import workspaces
from tasks.models import Repo, Run, Task, Turn, User
from tasks.running import nudge

AGENT = "shell"


def create(*, repo: Repo, by: User, title: str, script: str, commit: str, branch: str, backend: str) -> Run:
    """Queue a run of the shell agent in a task that is archived from its birth: so it takes no follow-ups, and its sandbox is
    destroyed as soon as it is over. Called in a transaction that holds the repository."""
    task = Task.objects.create(
        owner=by,
        repo=repo,
        title=title[:200],
        prompt=script,
        base_branch=branch,
        base_commit=commit,
        is_trial=True,
        archived_at=Now(),
    )
    run = Run.objects.create(task=task, agent=AGENT, backend=backend, branch=workspaces.checkout_branch_name(task.pk, "setup", AGENT, 1))
    Turn.objects.create(run=run, number=1, prompt=script, author=by)
    nudge.dispatch()
    nudge.tell([nudge.user_group(by.pk)])
    return run
