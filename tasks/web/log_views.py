"""One event of a run in whole, where its log shows the beginning only."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from tasks.models import Event, Run
from tasks.web.access import Request
from tasks.web.log import turns_of
from tasks.web.shown import whole


@login_required
@require_GET
def run_event(request: Request, pk: int, seq: int) -> HttpResponse:
    run = get_object_or_404(Run.objects.visible_to(request.user).select_related("task"), pk=pk)
    event = get_object_or_404(Event.objects.filter(run=run), seq=seq)
    part = whole(event, turns_of(run, [event]).get(event.turn_id or 0))
    context = {"run": run, "task": run.task, "event": event, "part": part, "page": {"run_id": run.pk}, "is_whole": True}
    return render(request, "tasks/events.html#part" if request.htmx else "tasks/event.html", context)
