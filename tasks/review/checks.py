"""What the repositories' checks say of runs, and doing one again by hand."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction

from tasks.errors import Conflict
from tasks.models import ACTIVE, Check, Patch, Run, RunStatus, Task, User
from tasks.running import checks


def checks_of(runs: Iterable[Run] | Iterable[int]) -> dict[int, Check]:
    """By run, the check of its newest patch, ready for `verdict` and without its output; runs whose newest patch has none are left
    out. One query."""
    return {check.patch.run_id: check for check in Check.objects.of_newest_patches(runs) if check.patch}


def newest_patch(run: Run) -> Patch | None:
    """What a check of this run would be of, with what `can_check` asks for."""
    patches = Patch.objects.filter(run=run).order_by("-turn__number", "-kind").select_related("run__task__repo")
    return patches.defer("content").first()


def check_again(*, run: Run, by: User) -> Check:
    """Check a run's newest patch, also if that was done before; the check under way, if there is one. With it the base commit, unless
    that is known. Conflict."""
    with transaction.atomic():
        Task.objects.hold(run.task_id)
        locked = Run.objects.select_for_update().get(pk=run.pk)
        if locked.status in (RunStatus.QUEUED, *ACTIVE):
            raise Conflict("The run is not over yet. Its patch is checked when it is.")
        patch = newest_patch(locked)
        if patch is not None and not patch.run.task.repo.check_command:
            raise Conflict("The repository has no check command. Its page is where to write one.")
        check = checks.want(patch) if patch is not None else None
        if check is None:
            raise Conflict("This run has no changes that could be checked.")
        if check.is_over:
            checks.anew(check)
            check.refresh_from_db()
    return check
