"""What one does about a run's pull request: merge it, close it, have checks fixed and reviews addressed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from tasks.choices import MOST_PROMPT
from tasks.github import failing_checks, following, merging, reviews
from tasks.models import Run, Turn, User
from tasks.web.access import Request, View, action
from tasks.web.forms import ScriptField, VerbForm
from tasks.web.run import find_run

_METHODS = {
    "merge": ("Merge commit", "All commits stay, and one joins them to the base branch."),
    "squash": ("Squash", "One commit with all changes is put on the base branch."),
    "rebase": ("Rebase", "Each commit is put on the base branch anew."),
}


# --- decisions ----------------------------------------------------------------------------------------------------------


@action("run", asks=True)
def merge(request: Request, pk: int) -> HttpResponse:
    """What would be merged and how, on GET; the deed on POST."""
    found = find_run(request, pk)
    if request.method == "POST":
        merging.merge(run=found, by=request.user, method=request.POST.get("method", ""), head_sha=request.POST.get("head", ""))
        messages.success(request, "The pull request is merged.")
        return redirect(found)
    offer = merging.offer(run=found, by=request.user)
    methods = [(method, *_METHODS[method]) for method in offer.methods]
    context = {"run": found, "task": found.task, "pull": merging.pull_of(found), "there": offer.pull, "methods": methods}
    return render(request, "tasks/pull_merge.html", context)


@action("run")
def ready(request: Request, pk: int) -> HttpResponse:
    found = find_run(request, pk)
    merging.mark_ready(run=found, by=request.user)
    messages.success(request, "The pull request is ready for review.")
    return redirect(found)


def _decision(act: Callable[..., object], *, question: str, consequence: str, verb: str, said: str) -> View:
    """A view that asks on GET, does it on POST, and says so. In its words {number} and {branch} are the pull request's."""

    @action("run", asks=True)
    def view(request: Request, pk: int) -> HttpResponse:
        found = find_run(request, pk)
        pull = merging.pull_of(found)
        names = {"number": pull.number, "branch": pull.branch}
        if request.method == "POST":
            act(run=found, by=request.user)
            messages.success(request, said.format(**names))
            return redirect(found)
        context = {"question": question.format(**names), "consequence": consequence, "verb": verb, "back": found.get_absolute_url()}
        return render(request, "tasks/confirm.html", context)

    return view


close = _decision(
    merging.close,
    question="Close pull request #{number}?",
    consequence="Nothing is merged. The branch stays, and the pull request can be reopened.",
    verb="Close it",
    said="Pull request #{number} is closed.",
)
reopen = _decision(
    merging.reopen,
    question="Reopen pull request #{number}?",
    consequence="It is open for review again on GitHub, if its branch is still there.",
    verb="Reopen it",
    said="Pull request #{number} is open again.",
)
delete_branch = _decision(
    merging.delete_branch,
    question="Delete the branch {branch} on GitHub?",
    consequence="All that it holds was merged. GitHub can restore it from the pull request.",
    verb="Delete branch",
    said="The branch {branch} is deleted.",
)


# --- follow-ups ---------------------------------------------------------------------------------------------------------


class AboutPullForm(VerbForm):
    """A follow-up that was written for the user, who can change it."""

    prompt = ScriptField(rows=18, max_length=MOST_PROMPT, error_messages={"required": "The follow-up is empty."})
    updates = forms.BooleanField(required=False, label="Update the pull request when it is done")

    def submit(self, *, run: Run, by: User) -> Turn | None:
        return self.attempt(lambda: following.send(run=run, by=by, **self.cleaned_data))


@action("run", asks=True)
def fix_checks(request: Request, pk: int) -> HttpResponse:
    """The follow-up filled in with what the checks say, on GET; sent on POST."""
    found = find_run(request, pk)
    if request.method == "POST":
        return _send(request, found, "run-pull-checks")
    return _follow_up(request, found, "run-pull-checks", _written(failing_checks.prompt(run=found, by=request.user)))


@action("run", asks=True)
def address_review(request: Request, pk: int) -> HttpResponse:
    """The follow-up filled in with what reviewers want, or (`chosen`) with what of it the user has chosen, on GET; sent on POST."""
    found = find_run(request, pk)
    if request.method == "POST":
        return _send(request, found, "run-pull-reviews")
    remarks = reviews.remarks(run=found, by=request.user)
    asked = request.GET.getlist("chosen")
    chosen = [one for one in remarks if one.id in asked] if "choose" in request.GET else reviews.of_others(remarks)
    form = _written(reviews.prompt(run=found, chosen=chosen))
    return _follow_up(request, found, "run-pull-reviews", form, remarks=remarks, chosen=chosen)


def _written(prompt: str) -> AboutPullForm:
    return AboutPullForm(initial={"prompt": prompt, "updates": True})


def _send(request: Request, found: Run, name: str) -> HttpResponse:
    form = AboutPullForm(request.POST)
    if form.submit(run=found, by=request.user):
        messages.success(request, "The follow-up is sent.")
        return redirect(found)
    return _follow_up(request, found, name, form, status=422)


def _follow_up(
    request: Request,
    found: Run,
    name: str,
    form: AboutPullForm,
    *,
    remarks: Collection[reviews.Remark] = (),
    chosen: Collection[reviews.Remark] = (),
    status: int = 200,
) -> HttpResponse:
    context: dict[str, Any] = {
        "run": found,
        "task": found.task,
        "pull": merging.pull_of(found),
        "form": form,
        "is_review": name == "run-pull-reviews",
        "address": reverse(name, args=[found.pk]),
        "remarks": remarks,
        "chosen": {one.id for one in chosen},
    }
    return render(request, "tasks/pull_follow_up.html", context, status=status)
