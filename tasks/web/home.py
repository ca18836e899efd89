"""The home page: the composer, and under it the list of tasks, several of which can be archived or brought back at once."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import push_url, reswap, retarget, trigger_client_event

from tasks import services
from tasks.models import FINAL, Run, Task, User
from tasks.running.standing import Standing
from tasks.web.access import Request
from tasks.web.composer import TaskForm
from tasks.web.listing import Filters, TaskPage, task_page
from tasks.web.pickers import known_repos
from tasks.web.prompt_templates import initial_of


@login_required
@require_GET
def home(request: Request) -> HttpResponse:
    if request.htmx and not request.htmx.history_restore_request:
        return _part(request)
    form = TaskForm(by=request.user, repo=request.GET.get("repo", ""), initial=initial_of(request))
    form.choose_preset(request.GET.get("preset", ""))
    return show(request, form)


def show(request: Request, form: TaskForm) -> HttpResponse:
    """The page with the composer as it is filled in."""
    page = task_page(request.user, request.GET)
    context = {**_list(page, form.standing), "form": form, "activity": form.standing, "repos": page.filters.repos(form.known_repos)}
    return render(request, "tasks/home.html", context, status=422 if form.errors else 200)


def _part(request: Request) -> HttpResponse:
    """The rows alone for news, the next ones to append, or the list with its filters when another one is asked for."""
    page = task_page(request.user, request.GET)
    if request.htmx.target == "older":
        return render(request, "tasks/home.html#page", {"page": page})
    standing = Standing.of(request.user)
    if request.htmx.trigger == "tasks":
        return render(request, "tasks/home.html#rows", _list(page, standing))
    context = {**_list(page, standing), "repos": page.filters.repos(known_repos(request.user))}
    response = render(request, "tasks/filtered.html", context)
    is_there = page.filters.address == _current(request)  # as it is after Back
    return response if is_there else push_url(response, page.filters.address)


def _current(request: Request) -> str | None:
    """Where the browser says it is; None when that is no page of ours."""
    try:
        return request.htmx.current_url_abs_path
    except ValueError:  # no address at all
        return None


def _list(page: TaskPage, standing: Standing) -> dict[str, object]:
    return {"page": page, "filters": page.filters, "standing": standing}


# --- several at once ----------------------------------------------------------------------------------------------------


def _chosen(user: User, ids: list[str]) -> list[Task]:
    """Those of one's own tasks that are named."""
    return list(Task.objects.visible_to(user).filter(pk__in=[int(pk) for pk in ids if pk.isdecimal() and len(pk) < 19]).order_by("pk"))


@require_POST
@login_required
def archive(request: Request) -> HttpResponse:
    """Archive the chosen tasks; when some still work, only after that was confirmed."""
    tasks = _chosen(request.user, request.POST.getlist("task"))
    working = Run.objects.filter(task__in=tasks).exclude(status__in=FINAL).values("task").distinct().count()
    if working and "confirmed" not in request.POST:
        context = {"tasks": tasks, "working": working, "filters": Filters.of(request.GET)}
        if request.htmx:
            return reswap(retarget(render(request, "tasks/archive.html#question", context), "#dialog"), "innerHTML")
        return render(request, "tasks/archive.html", context)
    services.archive_tasks(tasks=tasks, by=request.user)
    say_archived(request, tasks)
    return _changed(request)


@require_POST
@login_required
def restore(request: Request) -> HttpResponse:
    """Bring the chosen tasks back out of the archive. Those of an Undo stand in the address."""
    tasks = _chosen(request.user, request.POST.getlist("task") + request.GET.getlist("task"))
    say_restored(request, tasks, services.unarchive_tasks(tasks=tasks, by=request.user))
    return _changed(request)


def _changed(request: Request) -> HttpResponse:
    """Back to the list as it was; in place, it looks for news and the page says what was done."""
    if not request.htmx:
        return redirect(Filters.of(request.GET).address)
    said = render(request, "messages.html", {"out_of_band": True})
    return trigger_client_event(reswap(said, "none"), "news", {"target": "#tasks"})


def say_archived(request: Request, tasks: list[Task]) -> None:
    """Say so, with a way to take it back."""
    if not tasks:
        messages.error(request, "Choose the tasks to archive first.")
        return
    undo = f"{reverse('tasks-restore')}?{urlencode([('task', task.pk) for task in tasks])}"
    messages.success(request, "The task is archived." if len(tasks) == 1 else f"{len(tasks)} tasks are archived.", f"undo:{undo}")


def say_restored(request: Request, tasks: list[Task], gone: int) -> None:
    """Say so, and what is gone for good."""
    if not tasks:
        messages.error(request, "Choose the tasks to bring back first.")
        return
    said = "The task is back." if len(tasks) == 1 else f"{len(tasks)} tasks are back."
    if gone:
        whose = "The sandbox of one run is gone" if gone == 1 else f"The sandboxes of {gone} runs are gone"
        said += f" {whose}; a follow-up starts in a new one, from the run's newest patch."
    messages.success(request, said)
