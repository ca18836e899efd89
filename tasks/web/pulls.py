"""The page on which a run's patch becomes a pull request."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from tasks.github import pulls, wording
from tasks.models import Publication, Run, User
from tasks.running import patches
from tasks.web.access import Request, action
from tasks.web.cards import cards_of
from tasks.web.forms import ScriptField, VerbForm
from tasks.web.publishing import Publishing
from tasks.web.run import find_run

MOST_FILES = 50


class PullRequestForm(VerbForm):
    fields_of_errors = {"base_branch": "base"}

    title = forms.CharField(max_length=wording.MOST_TITLE, error_messages={"required": "Give the pull request a title."})
    body = ScriptField(rows=12, label="Description", required=False, max_length=wording.MOST_BODY)
    base = forms.CharField(max_length=250, label="Into", error_messages={"required": "Say which branch it is to go into."})
    is_draft = forms.BooleanField(required=False, label="As a draft")
    allows_secrets = forms.BooleanField(required=False, label="Publish it with these secrets in it")

    def submit(self, *, run: Run, by: User) -> Publication | None:
        """Sent as "only_branch", there is no pull request, and its words are not looked at."""
        if "only_branch" in self.data:
            for name in ("title", "body", "base"):
                self.fields[name].required = False
            return self.attempt(lambda: pulls.push_branch(run=run, by=by, allows_secrets=self.cleaned_data["allows_secrets"]))
        return self.attempt(lambda: pulls.open_pull_request(run=run, by=by, **self.cleaned_data))


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def pull(request: Request, pk: int) -> HttpResponse:
    """The form on GET, filled in; the deed on POST. While it is done, the page looks at how far it is."""
    found = find_run(request, pk)
    if request.method != "POST":
        shown = _shown(found)
        template = "tasks/pull.html#publishing" if request.htmx else "tasks/pull.html"
        return render(request, template, _page(shown, _filled_in(shown, request.user) if shown.can_open else None))
    form = PullRequestForm(request.POST)
    if form.submit(run=found, by=request.user):
        return redirect("run-pull", pk)
    return render(request, "tasks/pull.html", _page(_shown(found), form), status=422)


def _shown(found: Run) -> Publishing:
    return Publishing.of(found, cards_of([found])[0], patches.newest(found))


def _filled_in(shown: Publishing, user: User) -> PullRequestForm:
    """With what was typed before, or with what fits."""
    run, before = shown.run, shown.publication
    if before and before.wants_pull_request:
        initial = {"title": before.title, "body": before.body, "base": before.base, "is_draft": before.is_draft}
    else:
        body = wording.body(run, pulls.template_of(run, user))
        initial = {"title": wording.title(run), "body": body, "base": run.task.base_branch}
    return PullRequestForm(initial=initial)


def _page(shown: Publishing, form: PullRequestForm | None) -> dict[str, Any]:
    files = shown.patch.files if shown.patch else []
    return {
        "run": shown.run,
        "task": shown.run.task,
        "shown": shown,
        "pull": shown.card.pull_request,
        "patch": shown.patch,
        "form": form,
        "files": files[:MOST_FILES],
        "more_files": max(0, len(files) - MOST_FILES),
        "apply": f"git apply --index --allow-empty run-{shown.run.pk}.patch",
    }


@action("run-pull")
def update(request: Request, pk: int) -> HttpResponse:
    """With `on_base`, conflicts are left to GitHub."""
    allows_secrets, rebases = "allows_secrets" in request.POST, "on_base" not in request.POST
    pulls.update_pull_request(run=find_run(request, pk), by=request.user, allows_secrets=allows_secrets, rebases=rebases)
    return redirect("run-pull", pk)


@action("run-pull")
def resolve(request: Request, pk: int) -> HttpResponse:
    found = find_run(request, pk)
    pulls.send_conflicts(run=found, by=request.user)
    messages.success(request, "The agent was told of the conflicts. When its turn is over, publish again.")
    return redirect(found)
