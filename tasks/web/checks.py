"""Doing the check of a run's newest patch, again or for the first time."""

from __future__ import annotations

from django.http import HttpResponse

from tasks.review import checks
from tasks.web.access import Request, action, done
from tasks.web.run import find_run


@action("run")
def check(request: Request, pk: int) -> HttpResponse:
    found = find_run(request, pk)
    checks.check_again(run=found, by=request.user)
    to = request.POST.get("to")
    if to == "compare":
        return done(request, "task-compare", found.task_id)
    return done(request, found.task if to == "task" else found)
