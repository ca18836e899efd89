"""The home page: the composer, and under it the list of tasks."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from tasks.models import Run, Task, User
from tasks.web.access import Request
from tasks.web.cards import RunCard, cards_of
from tasks.web.composer import TaskForm

PAGE = 30


@dataclass(frozen=True)
class TaskRow:
    task: Task
    cards: list[RunCard]


@dataclass(frozen=True)
class TaskPage:
    """Tasks, newest first. `older` is the id to page on from, or None."""

    rows: list[TaskRow]
    older: int | None
    is_first: bool
    is_archive: bool


def task_page(user: User, *, before: int | None, is_archive: bool) -> TaskPage:
    tasks = Task.objects.visible_to(user).select_related("repo").filter(archived_at__isnull=not is_archive).order_by("-pk")
    found = list((tasks.filter(pk__lt=before) if before else tasks)[: PAGE + 1])
    shown = found[:PAGE]
    cards = cards_of(list(Run.objects.visible_to(user).filter(task__in=shown).order_by("pk")))
    rows = [TaskRow(task, [card for card in cards if card.run.task_id == task.pk]) for task in shown]
    return TaskPage(rows, shown[-1].pk if len(found) > PAGE else None, before is None, is_archive)


@login_required
@require_GET
def home(request: Request) -> HttpResponse:
    if request.htmx:
        return render(request, "tasks/home.html#rows", {"page": _page(request)})
    return show(request, TaskForm(by=request.user, repo=request.GET.get("repo", "")))


def show(request: Request, form: TaskForm) -> HttpResponse:
    """The page with the composer as it is filled in."""
    return render(request, "tasks/home.html", {"form": form, "page": _page(request)}, status=422 if form.errors else 200)


def _page(request: Request) -> TaskPage:
    before = request.GET.get("before", "")
    return task_page(request.user, before=int(before) if before.isdecimal() else None, is_archive="archived" in request.GET)
