"""A task: what was asked, and how far each run is."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from tasks import services
from tasks.errors import AppError
from tasks.models import Task
from tasks.web import home
from tasks.web.access import Request, action, done
from tasks.web.cards import cards_of
from tasks.web.composer import TaskForm


def _task(request: Request, pk: int) -> Task:
    return get_object_or_404(Task.objects.visible_to(request.user).select_related("repo"), pk=pk)


@require_POST
@login_required
def create(request: Request) -> HttpResponse:
    form = TaskForm(request.POST, by=request.user)
    return redirect(task) if (task := form.submit()) else home.show(request, form)


@login_required
@require_GET
def task(request: Request, pk: int) -> HttpResponse:
    found = _task(request, pk)
    template = "tasks/task.html#cards" if request.htmx else "tasks/task.html"
    cards = cards_of(list(found.runs.order_by("pk")))
    context = {"task": found, "cards": cards, "active": sum(card.can_stop for card in cards), "operation": None}
    if not found.base_commit:
        context["operation"] = services.mirror_operation(found.repo)
    return render(request, template, context)


@action("task")
def stop(request: Request, pk: int) -> HttpResponse:
    found = _task(request, pk)
    for run in found.runs.all():
        services.cancel_run(run=run, by=request.user)
    return done(request, found)


@login_required
def archive(request: Request, pk: int) -> HttpResponse:
    """The question on GET, the deed on POST."""
    found = _task(request, pk)
    error = ""
    if request.method == "POST":
        try:
            services.archive_task(task=found, by=request.user)
            return redirect("home")
        except AppError as refused:
            error = refused.message
    context = {
        "question": "Archive this task?",
        "consequence": "Its runs are stopped and their sandboxes are destroyed. Events and patches are kept under Archived.",
        "verb": "Archive",
        "back": found.get_absolute_url(),
        "error": error,
    }
    return render(request, "tasks/confirm.html#question" if request.htmx else "tasks/confirm.html", context)
