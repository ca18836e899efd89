"""What the composer sends: one task starts at once, several are shown before."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from tasks.web import home
from tasks.web.access import Request
from tasks.web.composer import Entry, SeveralForm, TaskForm


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def create(request: Request) -> HttpResponse:
    """On GET, as after signing in again, the composer, which has kept what was typed."""
    if request.method != "POST":
        return redirect("home")
    form = TaskForm(request.POST, request.FILES, by=request.user)
    form.store_files(by=request.user)
    if form.is_several and form.check():
        return _preview(request, form, [Entry(prompt, True) for prompt in form.prompts])
    tasks = form.submit()
    return redirect(tasks[0]) if tasks else home.show(request, form)


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def create_several(request: Request) -> HttpResponse:
    if request.method != "POST":
        return redirect("home")
    form = SeveralForm(request.POST, by=request.user)
    form.store_files(by=request.user)
    if "back" in request.POST:
        return home.show(request, form.reopened())
    if not (tasks := form.submit()):
        return _preview(request, form, form.entries)
    runs = len(tasks) * sum(choice.attempts for choice in form.agents)
    messages.success(request, f"Started {len(tasks)} tasks with {runs} runs." if len(tasks) > 1 else "Started one task.")
    return redirect("home")


def _preview(request: Request, form: TaskForm, entries: list[Entry]) -> HttpResponse:
    kept = sum(entry.is_kept for entry in entries)
    context = {"form": form, "entries": entries, "kept": kept, "runs": kept * form.runs}
    return render(request, "tasks/batch.html", context, status=422 if form.errors else 200)
