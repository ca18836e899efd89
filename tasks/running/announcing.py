"""What programs and people elsewhere are told: written down in the transaction in which it happens, and sent by `delivering`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from tasks.models import OutgoingDelivery, OutgoingEvent, OutgoingWebhook, Patch, PullRequest, Run, RunStatus, Task, User
from tasks.running import nudge

_EVENTS = {
    RunStatus.SUCCEEDED: OutgoingEvent.FINISHED,
    RunStatus.FAILED: OutgoingEvent.FAILED,
    RunStatus.ERRORED: OutgoingEvent.FAILED,
    RunStatus.INTERRUPTED: OutgoingEvent.FAILED,
    RunStatus.WAITING: OutgoingEvent.WAITING,
}
_MOST_ERROR = 2_000  # characters


def run_is_over(run_id: int, status: RunStatus) -> None:
    """Called in the transaction that ends it. What the user did (canceling) and what no list shows is no news."""
    event = _EVENTS.get(status)
    owner = Run.objects.filter(pk=run_id, task__is_trial=False).values_list("task__owner", flat=True).first()
    if event is not None and owner is not None:
        _announce(owner, event, lambda: _of_run(run_id))


def pull_request_has_changed(row: PullRequest) -> None:
    """Called in the transaction that changes its state."""
    owner = Task.objects.filter(runs=row.run_id).values_list("owner", flat=True).get()
    fields = ("number", "url", "repository", "branch", "base", "state", "checks", "review")
    pull = {name: getattr(row, name) for name in fields}
    _announce(owner, OutgoingEvent.PULL_REQUEST, lambda: {"pull_request": pull, **_of_run(row.run_id)})


def _announce(owner: int, event: OutgoingEvent, say: Callable[[], dict[str, Any]]) -> None:
    hooks = list(OutgoingWebhook.objects.filter(owner=owner, is_active=True, events__contains=[event]).values_list("pk", flat=True))
    wants_mail = settings.SENDS_EMAIL and User.objects.filter(~Q(email=""), pk=owner, email_events__contains=[event]).exists()
    to: list[int | None] = [*hooks, *([None] if wants_mail else [])]
    if not to:
        return
    said = {"event": event, "at": timezone.now().isoformat(), **say()}
    send(OutgoingDelivery(owner_id=owner, webhook_id=hook, event=event, payload=said) for hook in to)


def send(deliveries: Any) -> None:
    """Store these, and have them sent once the present transaction is committed."""
    for row in OutgoingDelivery.objects.bulk_create(deliveries):
        nudge.enqueue(settings.QUEUE_OPERATIONS, "deliver", row.pk)


def _of_run(run_id: int) -> dict[str, Any]:
    run = Run.objects.select_related("task__repo").get(pk=run_id)
    patch = Patch.objects.filter(run=run).order_by("-turn__number", "-kind").values("files", "additions", "deletions").first()
    task = run.task
    return {
        "run": {
            "id": run.pk,
            "url": f"{settings.BASE_URL}{reverse('run', args=[run.pk])}",
            "agent": run.agent,
            "model": run.model,
            "attempt": run.attempt,
            "status": run.status,
            "stage": run.stage,
            "error": run.error[:_MOST_ERROR],
            "files_changed": len(patch["files"]) if patch else 0,
            "additions": patch["additions"] if patch else 0,
            "deletions": patch["deletions"] if patch else 0,
        },
        "task": {
            "id": task.pk,
            "url": f"{settings.BASE_URL}{task.get_absolute_url()}",
            "title": task.title,
            "repository": task.repo.name,
            "base_branch": task.base_branch,
        },
    }
