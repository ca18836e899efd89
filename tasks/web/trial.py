"""A trial of a repository's environment as its page shows it: state, steps in words, and the log as it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET
from django_htmx.http import HttpResponseStopPolling

from tasks import services, trials
from tasks.models import Event, EventKind, Repo, Run, RunStatus, Stage
from tasks.web import log
from tasks.web.access import Request, action
from tasks.web.cards import RunCard, cards_of
from tasks.web.log import LogPage
from tasks.web.shown.text import took

_NAMES = {"setup": "Setup", "agent": "Check"}


@dataclass(frozen=True)
class Step:
    """How one step ended: `state` is succeeded, failed or canceled."""

    state: str
    text: str


@dataclass(frozen=True)
class Trial:
    """The run was read before its log, so that of one that is over all is there."""

    repo: Repo
    run: Run
    log: LogPage

    @classmethod
    def newest(cls, repo: Repo) -> Trial | None:
        run = trials.newest_trial(repo)
        return cls(repo, run, log.newest(run)) if run else None

    @cached_property
    def card(self) -> RunCard:
        return cards_of([self.run])[0]

    @property
    def is_growing(self) -> bool:
        return not self.run.is_over or self.log.has_newer

    @cached_property
    def steps(self) -> list[Step]:
        events = Event.objects.filter(run=self.run, kind=EventKind.STATUS, data__has_key="ended").order_by("seq")
        has_check = self.run.task.prompt != trials.NO_CHECK
        return [_step(step, ended, has_check) for step, ended in map(_ended, events) if step in _NAMES or ended.get("code") != 0]

    @property
    def error(self) -> str:
        """What went wrong besides the steps."""
        return "" if any(step.state == "failed" for step in self.steps) else self.run.error

    @property
    def status(self) -> str:
        """What it is at; the agent of a trial is the check command."""
        run = self.run
        is_checking = run.is_active and run.stage == Stage.AGENT and not self.card.is_stopping
        return "Running the check command" if is_checking else self.card.status

    @property
    def verdict(self) -> str:
        """The outcome in words, once there is one."""
        words = {RunStatus.SUCCEEDED: "It works", RunStatus.CANCELED: "Stopped"}
        return words.get(RunStatus(self.run.status), "It does not work yet") if self.run.is_over else ""


def _ended(event: Event) -> tuple[str, Mapping[str, Any]]:
    ended = event.data.get("ended")
    return str(event.data.get("step", "")), ended if isinstance(ended, dict) else {}


def _step(step: str, ended: Mapping[str, Any], has_check: bool) -> Step:
    name = _NAMES.get(step, step.capitalize())
    seconds, reason, code = ended.get("seconds"), ended.get("reason"), ended.get("code")
    time = took(max(0.1, seconds)) if isinstance(seconds, int | float) else ""
    if step == "agent" and not has_check:
        return Step("canceled", "No check command, so nothing was checked")
    if reason == "exit" and code == 0:
        return Step("succeeded", f"{name} succeeded in {time}")
    if reason == "exit" and not ended.get("signal"):
        return Step("failed", f"{name} failed with exit code {code} after {time}")
    if reason in ("total", "silence"):
        return Step("failed", f"{name} took too long and was ended after {time}")
    if reason == "stop":
        return Step("canceled", f"{name} was stopped after {time}")
    return Step("failed", f"{name} was ended ({ended.get('signal') or reason}) after {time}")


def _trial(request: Request, pk: int, run_id: str, *, after: str = "") -> Trial | None:
    """A trial of the user's repository, with its log after a seq; None when it is there no longer."""
    repo = get_object_or_404(Repo.objects.visible_to(request.user), pk=pk)
    number, seq = (int(text) if text.isdecimal() and len(text) < 19 else 0 for text in (run_id, after))
    run = Run.objects.filter(pk=number, task__repo=repo, task__is_trial=True).select_related("task__repo").first()
    return Trial(repo, run, log.after(run, seq)) if run else None


@login_required
@require_GET
def tail(request: Request, pk: int) -> HttpResponse:
    """What has come to the log of trial `run` after the seq `after`, and its state now; for the scripts of the page."""
    trial = _trial(request, pk, request.GET.get("run", ""), after=request.GET.get("after", ""))
    if trial is None:
        return HttpResponseStopPolling()
    return render(request, "tasks/repo.html#tail", {"repo": trial.repo, "trial": trial, "is_tail": True})


@action("repo")
def stop(request: Request, pk: int) -> HttpResponse:
    if trial := _trial(request, pk, request.POST.get("run", "")):
        services.cancel_run(run=trial.run, by=request.user)
        trial.run.refresh_from_db()
    if request.htmx:
        return render(request, "tasks/repo.html#trial_state", {"trial": trial})
    return redirect(f"{reverse('repo', args=[pk])}#trial")
