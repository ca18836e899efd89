"""A task: what was asked, and how far each run is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib.auth.decorators import login_required
from django.db.models import Prefetch, prefetch_related_objects
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import trigger_client_event

from tasks import repositories, services
from tasks.errors import AppError
from tasks.models import ACTIVE, Attachment, Run, RunStatus, Task, Turn, User
from tasks.review.checks import checks_of
from tasks.web import home
from tasks.web.access import Request, action, done
from tasks.web.cards import RunCard, cards_of, for_cards
from tasks.web.forms import ScriptField, WithFiles, mode_field, modes_of


class FollowUpsForm(WithFiles):
    """A follow-up to some of a task's runs."""

    prompt = ScriptField(rows=1, placeholder="Follow up in the same workspaces", error_messages={"required": "The follow-up is empty."})
    mode = mode_field()
    runs = forms.ModelMultipleChoiceField(
        Run.objects.none(),
        error_messages={
            "required": "Choose at least one run to follow up.",
            "invalid_choice": "A chosen run is not there any more. Choose again.",
            "invalid_pk_value": "A chosen run is not there any more. Choose again.",
        },
    )

    def __init__(self, *args: Any, task: Task, **options: Any) -> None:
        super().__init__(*args, **options)
        self.task = task
        self.fields["runs"].queryset = task.runs.order_by("pk")  # type: ignore[attr-defined]
        modes = modes_of({run.agent for run in task.runs.all()})
        self.fields["mode"].choices = [("", "Each as before"), *modes]  # type: ignore[attr-defined]
        self.has_modes = len(modes) > 1

    def chosen(self, cards: Sequence[RunCard]) -> set[int]:
        """The ids of the runs that are checked: all that can take a follow-up and were not set aside, until somebody chose."""
        if not self.is_bound:
            return {card.run.pk for card in cards if card.can_follow_up and not card.run.set_aside_at}
        return {int(pk) for pk in self["runs"].value() or [] if str(pk).isdecimal() and len(str(pk)) <= 18}

    def submit(self, *, by: User) -> list[Turn] | None:
        files = self.store_files(by=by)
        return self.attempt(
            lambda: services.send_follow_ups(
                task=self.task,
                runs=list(self.cleaned_data["runs"]),
                by=by,
                prompt=self.cleaned_data["prompt"],
                attachments=files,
                mode=self.cleaned_data["mode"],
            )
        )


def _task(request: Request, pk: int) -> Task:
    return get_object_or_404(Task.objects.visible_to(request.user).select_related("repo"), pk=pk)


def _load_runs(found: Task) -> None:
    """All runs of a task at once, with what their cards tell."""
    prefetch_related_objects([found], Prefetch("runs", for_cards(Run.objects.order_by("pk"))))


@login_required
@require_GET
def task(request: Request, pk: int) -> HttpResponse:
    found = _task(request, pk)
    _load_runs(found)
    return _render(request, found, "tasks/task_news.html" if request.htmx else "tasks/task.html", FollowUpsForm(task=found))


def _render(request: Request, found: Task, template: str, form: FollowUpsForm) -> HttpResponse:
    _load_runs(found)
    runs = list(found.runs.all())
    cards = cards_of(runs, checks=checks_of(runs))
    context = {
        "task": found,
        "cards": cards,
        "standing": [card for card in cards if card.run.set_aside_at is None],
        "aside": [card for card in cards if card.run.set_aside_at],
        "comparable": sum(bool(card.figures) for card in cards),
        "has_choice": any(card.run.chosen_at for card in cards),
        "state": _state(found, cards),
        "active": sum(card.can_stop for card in cards),
        "failed": len(services.failed_runs(runs)),
        "form": form,
        "chosen": form.chosen(cards),
        "operation": None if found.base_commit else repositories.mirror_operation(found.repo),
    }
    if template == "tasks/task.html":
        context["attachments"] = Attachment.objects.filter(turns__run=runs[0], turns__number=1).defer("content") if runs else []
        context["is_script"] = all(run.agent == "shell" for run in runs)
    return render(request, template, context, status=422 if form.errors else 200)


def _state(found: Task, cards: Sequence[RunCard]) -> dict[str, str]:
    """What the window's title and icon say."""
    counts = Counter(card.run.status for card in cards)
    running, queued = sum(counts[status] for status in ACTIVE), counts[RunStatus.QUEUED]
    if running or queued:
        return {"name": "running", "title": f"{running} running · {found.title}" if running else f"{queued} queued · {found.title}"}
    if counts[RunStatus.WAITING]:
        return {"name": "waiting", "title": f"Waiting for you · {found.title}"}
    has_failed = not counts[RunStatus.SUCCEEDED] and any(card.has_failed for card in cards)
    return {"name": "failed" if has_failed else "done", "title": found.title}


@action("task")
def stop(request: Request, pk: int) -> HttpResponse:
    found = _task(request, pk)
    for run in found.runs.all():
        services.cancel_run(run=run, by=request.user)
    return done(request, found)


@action("task")
def retry_failed(request: Request, pk: int) -> HttpResponse:
    found = _task(request, pk)
    services.retry_failed(task=found, by=request.user)
    return done(request, found)


@require_POST
@login_required
def follow_up(request: Request, pk: int) -> HttpResponse:
    found = _task(request, pk)
    form = FollowUpsForm(request.POST, request.FILES, task=found)
    sent = form.submit(by=request.user)
    if not request.htmx:
        return redirect(found) if sent else _render(request, found, "tasks/task.html", form)
    response = _render(request, found, "tasks/task.html#follow_up", FollowUpsForm(task=found) if sent else form)
    return trigger_client_event(response, "news", {"target": "#cards"}) if sent else response


@action("task")
def restore(request: Request, pk: int) -> HttpResponse:
    found = _task(request, pk)
    home.say_restored(request, [found], services.unarchive_tasks(tasks=[found], by=request.user))
    return redirect(found)


@login_required
def archive(request: Request, pk: int) -> HttpResponse:
    """The question on GET, the deed on POST."""
    found = _task(request, pk)
    error = ""
    if request.method == "POST":
        try:
            services.archive_task(task=found, by=request.user)
            home.say_archived(request, [found])
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
