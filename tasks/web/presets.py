"""Presets of the composer: choices of agents under a name."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST

from tasks import presets
from tasks.models import Preset
from tasks.web import home
from tasks.web.access import Request
from tasks.web.composer import TaskForm


@require_POST
@login_required
def save(request: Request) -> HttpResponse:
    """The composer's choice of agents, under the name that was typed; the composer comes back with all that was typed."""
    form = TaskForm(request.POST, request.FILES, by=request.user)
    saved = form.save_preset()
    return _shown(request, form, f"“{saved.name}” is saved." if saved else "")


@require_POST
@login_required
def remove(request: Request, pk: int) -> HttpResponse:
    preset = get_object_or_404(Preset.objects.visible_to(request.user), pk=pk)
    presets.remove_preset(by=request.user, preset=preset)
    said = request.POST if "prompt" in request.POST else None  # without scripts the whole composer is sent
    return _shown(request, TaskForm(said, request.FILES, by=request.user), f"“{preset.name}” is removed.")


def _shown(request: Request, form: TaskForm, said: str) -> HttpResponse:
    if request.htmx:
        shown = form.reopened() if said and form.is_bound else form  # its name is used up
        return render(request, "tasks/presets.html#list", {"form": shown}, status=422 if form.errors and not said else 200)
    form.store_files(by=request.user)
    if said:
        messages.success(request, said)
    return home.show(request, form.reopened() if said else form)
