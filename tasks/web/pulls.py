"""The page on which a run's patch becomes a pull request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from tasks.errors import AppError
from tasks.github import names, pulls, wording
from tasks.github_api.answers import Label
from tasks.github_api.places import repository_of
from tasks.models import Publication, Run, User
from tasks.running import patches
from tasks.web.access import Request, action
from tasks.web.by_hand import ByHand
from tasks.web.cards import cards_of
from tasks.web.forms import Result, ScriptField, VerbForm
from tasks.web.publishing import OF_ACCESS, OF_ACCOUNT, Publishing
from tasks.web.run import find_run

MOST_FILES = 50
MOST_FOUND = 20


class NamesField(forms.CharField):
    """Several names with commas between them; no name has a comma in it."""

    def __init__(self, **options: Any) -> None:
        widget = forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false"})
        super().__init__(required=False, max_length=5_000, widget=widget, **options)

    def to_python(self, value: Any) -> Any:
        typed = (name.strip() for name in (super().to_python(value) or "").split(","))
        return list({name.casefold(): name for name in typed if name}.values())

    def run_validators(self, value: Any) -> None:
        super().run_validators(", ".join(value))

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value


class PublishingForm(VerbForm):
    """`code` is that of what the verb refused."""

    fields_of_errors = {"base_branch": "base"}
    code = ""

    branch = forms.CharField(max_length=250, required=False)
    labels = NamesField()
    reviewers = NamesField()
    allows_secrets = forms.BooleanField(required=False)

    def attempt(self, verb: Callable[[], Result]) -> Result | None:
        def watched() -> Result:
            try:
                return verb()
            except AppError as error:
                self.code = error.code
                raise

        return super().attempt(watched)

    @property
    def needs_account(self) -> bool:
        return self.code in OF_ACCOUNT

    @property
    def needs_hands(self) -> bool:
        return self.code in OF_ACCESS


class PullRequestForm(PublishingForm):
    title = forms.CharField(max_length=wording.MOST_TITLE, error_messages={"required": "Give the pull request a title."})
    body = ScriptField(rows=14, required=False, max_length=wording.MOST_BODY)
    base = forms.CharField(max_length=250, error_messages={"required": "Say which branch it is to go into."})
    is_draft = forms.BooleanField(required=False)

    def submit(self, *, run: Run, by: User) -> Publication | None:
        """Sent as "only_branch", there is no pull request, and its words are not looked at."""
        if "only_branch" not in self.data:
            return self.attempt(lambda: pulls.open_pull_request(run=run, by=by, **self.cleaned_data))
        for name in ("title", "body", "base"):
            self.fields[name].required = False

        def push() -> Publication:
            branch, allows_secrets = self.cleaned_data["branch"], self.cleaned_data["allows_secrets"]
            return pulls.push_branch(run=run, by=by, branch=branch, allows_secrets=allows_secrets)

        return self.attempt(push)


class UpdateForm(PublishingForm):
    """With `on_base`, conflicts are left to GitHub. Labels and reviewers that are not sent stay as they were asked for."""

    on_base = forms.BooleanField(required=False)

    def submit(self, *, run: Run, by: User) -> Publication | None:
        def update() -> Publication:
            sent = self.cleaned_data
            again = {name: sent[name] for name in ("labels", "reviewers") if name in self.data}
            options = {"branch": sent["branch"], "allows_secrets": sent["allows_secrets"], "rebases": not sent["on_base"]}
            return pulls.update_pull_request(run=run, by=by, **options, **again)

        return self.attempt(update)


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def pull(request: Request, pk: int) -> HttpResponse:
    """The form on GET, filled in; the deed on POST. While it is done, the page looks at how far it is."""
    found = find_run(request, pk)
    if request.method != "POST":
        shown = _shown(found)
        template = "tasks/pull.html#publishing" if request.htmx else "tasks/pull.html"
        return render(request, template, _page(shown, _filled_in(shown, request.user)))
    form = PullRequestForm(request.POST)
    if form.submit(run=found, by=request.user):
        return redirect("run-pull", pk)
    return render(request, "tasks/pull.html", _page(_shown(found), form), status=422)


@require_POST
@login_required
def update(request: Request, pk: int) -> HttpResponse:
    found = find_run(request, pk)
    form = UpdateForm(request.POST)
    if form.submit(run=found, by=request.user):
        return redirect("run-pull", pk)
    return render(request, "tasks/pull.html", _page(_shown(found), form), status=422)


def _shown(found: Run) -> Publishing:
    return Publishing.of(found, cards_of([found])[0], patches.newest(found))


def _filled_in(shown: Publishing, user: User) -> PublishingForm | None:
    """The form that fits, with what was typed before or with what fits; None where there is nothing to send."""
    run, before = shown.run, shown.publication
    asked = {"labels": before.labels, "reviewers": before.reviewers} if before else {}
    initial = {"branch": shown.branch_to_offer, **asked}
    if shown.can_update:
        return UpdateForm(initial=initial)
    if not shown.can_open:
        return None
    if before and before.wants_pull_request:
        initial |= {"title": before.title, "body": before.body, "base": before.base, "is_draft": before.is_draft}
    else:
        body = wording.body(run, pulls.template_of(run, user))
        initial |= {"title": wording.title(run), "body": body, "base": run.task.base_branch}
    return PullRequestForm(initial=initial)


def _page(shown: Publishing, form: PublishingForm | None) -> dict[str, Any]:
    files = shown.patch.files if shown.patch else []
    return {
        "run": shown.run,
        "task": shown.run.task,
        "shown": shown,
        "pull": shown.card.pull_request,
        "patch": shown.patch,
        "form": form if isinstance(form, PullRequestForm) else None,
        "update": form if isinstance(form, UpdateForm) else None,
        "files": files[:MOST_FILES],
        "more_files": max(0, len(files) - MOST_FILES),
        "by_hand": ByHand.of(shown.run, pushed=shown.branch if shown.is_pushed else ""),
    }


@action("run-pull")
def resolve(request: Request, pk: int) -> HttpResponse:
    found = find_run(request, pk)
    pulls.send_conflicts(run=found, by=request.user)
    messages.success(request, "The agent was told of the conflicts. When its turn is over, publish again.")
    return redirect(found)


@require_GET
@login_required
def found(request: Request, pk: int) -> HttpResponse:
    """Labels, or with `of=reviewers` people, in whose name `q` occurs: first those that begin with it."""
    run, asked = find_run(request, pk), request.GET.get("q", "").strip().casefold()
    context: dict[str, Any] = {"note": ""}
    try:
        all_ = _reviewers(run, request.user) if request.GET.get("of") == "reviewers" else _labels(run, request.user)
        matching = [label for label in all_ if asked in label.name.casefold()]
        matching.sort(key=lambda label: (label.name.casefold() != asked, not label.name.casefold().startswith(asked)))
        context |= {"found": matching[:MOST_FOUND], "more": len(matching) > MOST_FOUND}
    except AppError as error:
        context["note"] = error.message
    return render(request, "tasks/pull.html#found", context)


def _labels(run: Run, user: User) -> list[Label]:
    return names.labels(user, repository_of(run.task.repo))


def _reviewers(run: Run, user: User) -> list[Label]:
    return [Label(login, "", "") for login in names.reviewers(user, repository_of(run.task.repo))]
