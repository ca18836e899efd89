"""Choosing one of a task's runs, taking that back, and letting an agent combine several."""

from __future__ import annotations

from collections.abc import Sequence

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from tasks import combining, repositories, winners
from tasks.choices import parse_agent
from tasks.errors import AppError
from tasks.models import Mode, Patch, Run, Task, User
from tasks.running.offers import Offers
from tasks.web.access import Request, action, done, go
from tasks.web.cards import newest_patches
from tasks.web.compare import find_task, wanted
from tasks.web.forms import ScriptField, VerbForm
from tasks.web.run import find_run


def _back(request: Request, task: Task) -> str:
    """Where the question was asked: the comparison or the task's page."""
    asked = (request.POST or request.GET).get("to") == "compare"
    return reverse("task-compare", args=[task.pk]) if asked else task.get_absolute_url()


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def choose(request: Request, pk: int) -> HttpResponse:
    """The question on GET, the deed on POST: what becomes of the others is `others`, "keep" or "aside"."""
    run = find_run(request, pk)
    task, error = run.task, ""
    if request.method == "POST":
        aside = request.POST.get("others") == "aside"
        try:
            winners.choose_run(run=run, by=request.user, sets_others_aside=aside)
        except AppError as refused:
            error = refused.message
        else:
            said = f"{run.label} is chosen." + (" The others are set aside." if aside else "")
            messages.success(request, said, extra_tags=f"undo:{reverse('task-unchoose', args=[task.pk])}")
            return redirect(_back(request, task))
    context = {
        "run": run,
        "task": task,
        "others": task.runs.exclude(pk=run.pk).count(),
        "error": error,
        "to": (request.POST or request.GET).get("to", ""),
        "back": _back(request, task),
    }
    template = "tasks/choose.html#question" if request.htmx else "tasks/choose.html"
    return render(request, template, context, status=422 if error else 200)


@action("task")
def unchoose(request: Request, pk: int) -> HttpResponse:
    task = find_task(request, pk)
    winners.unchoose(task=task, by=request.user)
    return go(request, _back(request, task))


@action("task-compare")
def fetch(request: Request, pk: int) -> HttpResponse:
    task = find_task(request, pk)
    repositories.fetch_repo(repo=task.repo, by=request.user)
    runs = ",".join(str(pk) for pk in _numbers(request.POST.get("runs", "")))
    return done(request, f"{reverse('task-compare', args=[task.pk])}?runs={runs}")


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word.isascii() and word.isdecimal() and len(word) <= 18]


# --- combining --------------------------------------------------------------------------------------------------------------


class CombineForm(VerbForm):
    agent = forms.ChoiceField(label="Agent", error_messages={"invalid_choice": "This agent cannot be had now. Choose another one."})
    prompt = ScriptField(rows=18, error_messages={"required": "Say what is to be done: the prompt is empty."})
    fields_of_errors = {"agents": "agent", "mode": "agent", "backend": "agent"}

    def __init__(self, *args: object, task: Task, patches: Sequence[Patch], by: User, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.task, self.patches, self.by = task, patches, by
        choices = _agents(by)
        self.fields["agent"].choices = choices  # type: ignore[attr-defined]
        self.initial.setdefault("prompt", combining.draft(task, patches))
        used = [f"{patch.run.agent}:{patch.run.model}".rstrip(":") for patch in patches]
        self.initial.setdefault("agent", next((name for name in used if name in dict(choices)), ""))

    def submit(self) -> Run | None:
        return self.attempt(
            lambda: combining.combine_runs(
                task=self.task,
                by=self.by,
                patches=self.patches,
                prompt=self.cleaned_data["prompt"],
                agent=parse_agent(self.cleaned_data["agent"]),
            )
        )


def _agents(by: User) -> list[tuple[str, str]]:
    """The agents and models that write code and can start now."""
    offers = Offers.to(by)
    found = []
    for adapter in offers.adapters:
        for name, label in [(model.name, model.label) for model in offers.models[adapter.name]] or [("", "")]:
            if Mode.CODE in adapter.modes and not offers.missing_key(adapter, name):
                found.append((f"{adapter.name}:{name}".rstrip(":"), f"{adapter.label} {label}".rstrip()))
    return found


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def combine(request: Request, pk: int) -> HttpResponse:
    """Asks for agent and prompt on GET, makes the run on POST; `runs` in the address are those whose patches go with it."""
    task = find_task(request, pk)
    runs = {run.pk: run for run in task.runs.filter(pk__in=wanted(request))}
    newest = newest_patches([pk for pk in dict.fromkeys(wanted(request)) if pk in runs][: combining.MOST_COMBINED])
    asked = [pk for pk in dict.fromkeys(wanted(request)) if pk in newest and newest[pk].files]
    if not asked:
        raise Http404
    patches = [newest[pk] for pk in asked]
    for patch in patches:
        patch.run = runs[patch.run_id]
    form = CombineForm(request.POST or None, task=task, patches=patches, by=request.user)
    if request.method == "POST" and (new := form.submit()):
        return redirect(new)
    context = {"task": task, "patches": patches, "form": form, "runs": ",".join(map(str, asked))}
    return render(request, "tasks/combine.html", context, status=422 if form.errors else 200)
