"""The verbs of choosing: which of a task's runs is taken, and what becomes of the others."""

from __future__ import annotations

from django.db import transaction
from django.db.models.functions import Now

from tasks import services
from tasks.errors import Conflict
from tasks.models import Run, Task, User
from tasks.running import nudge


def choose_run(*, run: Run, by: User, sets_others_aside: bool = False) -> None:
    """Mark a run as the one of its task that is taken, in place of any other.

    The others stay as they are, or are set aside: they are stopped, their sandboxes are given back, and pages fold them away.
    Patches and logs stay, and a follow-up brings one back.
    """
    with transaction.atomic():
        task = Task.objects.select_for_update(no_key=True).get(pk=run.task_id)
        runs = task.runs.order_by("pk")
        if not runs.get(pk=run.pk).is_over:
            raise Conflict("The run is still at work. Choose it when it is over, or stop it first.")
        if not run.patches.exists():
            raise Conflict("The run has left nothing that could be taken.")
        runs.exclude(chosen_at=None).update(chosen_at=None)
        runs.filter(pk=run.pk).update(chosen_at=Now(), set_aside_at=None)
        if sets_others_aside:
            others = runs.exclude(pk=run.pk)
            for other in others.select_related("task"):
                services.cancel_run(run=other, by=by)
            others.filter(set_aside_at=None).update(set_aside_at=Now())
        nudge.tell([nudge.user_group(task.owner_id)])


def unchoose(*, task: Task, by: User) -> None:
    """No run is chosen any more, and none is set aside. What was stopped stays stopped, and sandboxes that are gone stay gone."""
    with transaction.atomic():
        task.runs.exclude(chosen_at=None, set_aside_at=None).update(chosen_at=None, set_aside_at=None)
        nudge.tell([nudge.user_group(task.owner_id)])
