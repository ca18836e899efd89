"""The home page: the composer, and under it the tasks."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render

from tasks.models import Run, Task, User
from tasks.web.access import Request
from tasks.web.cards import RunCard, cards_of
from tasks.web.forms import TaskForm

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
def home(request: Request) -> HttpResponse:
    form = TaskForm(request.POST or None, by=request.user, repo=request.GET.get("repo", ""))
    if request.method == "POST" and (task := form.submit()):
        return redirect(task)
    before = request.GET.get("before", "")
    page = task_page(request.user, before=int(before) if before.isdecimal() else None, is_archive="archived" in request.GET)
    template = "tasks/home.html#rows" if request.htmx else "tasks/home.html"
    return render(request, template, {"form": form, "page": page}, status=422 if form.errors else 200)
