"""Repositories and their environments."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from sandboxes.egress import PACKAGE_REGISTRIES
from tasks import environment, services
from tasks.errors import AppError
from tasks.models import Operation, OperationStatus, Repo, Task, User
from tasks.web.access import Request, action
from tasks.web.forms import EnvironmentForm, RepoForm, VariableForm


@dataclass(frozen=True)
class RepoRow:
    repo: Repo
    task_count: int
    operation: Operation | None

    @property
    def is_fetching(self) -> bool:
        return self.operation is not None and self.operation.status in (OperationStatus.QUEUED, OperationStatus.RUNNING)

    @property
    def error(self) -> str:
        failed = self.operation is not None and self.operation.status == OperationStatus.FAILED
        return self.operation.error if self.operation and failed and self.repo.mirrored_at is None else ""


def _rows(user: User) -> list[RepoRow]:
    counts = dict(Task.objects.visible_to(user).values_list("repo").annotate(Count("pk")))
    return [RepoRow(repo, counts.get(repo.pk, 0), services.mirror_operation(repo)) for repo in Repo.objects.visible_to(user)]


def _repo(request: Request, pk: int) -> Repo:
    return get_object_or_404(Repo.objects.visible_to(request.user), pk=pk)


@login_required
def repos(request: Request) -> HttpResponse:
    form = RepoForm(request.POST or None)
    if request.method == "POST" and form.submit(by=request.user):
        return redirect("repos")
    template = "tasks/repos.html#rows" if request.htmx else "tasks/repos.html"
    return render(request, template, {"form": form, "rows": _rows(request.user)}, status=422 if form.errors else 200)


@login_required
def repo(request: Request, pk: int) -> HttpResponse:
    found = _repo(request, pk)
    form = EnvironmentForm.of(found, request.POST or None)
    if request.method == "POST" and form.submit(repo=found, by=request.user):
        messages.success(request, "Saved. Runs that start from now on use it.")
        return redirect("repo", pk)
    return _render(request, found, form, VariableForm())


def _render(request: Request, found: Repo, form: EnvironmentForm, variable_form: VariableForm) -> HttpResponse:
    row = RepoRow(found, found.tasks.count(), services.mirror_operation(found))
    context = {"repo": found, "row": row, "form": form, "variable_form": variable_form, "registries": PACKAGE_REGISTRIES}
    return render(request, "tasks/repo.html", context, status=422 if form.errors or variable_form.errors else 200)


@action("repo")
def fetch_again(request: Request, pk: int) -> HttpResponse:
    services.add_repo(by=request.user, source=_repo(request, pk).source)
    return redirect("repos")


@action("repo")
def set_variable(request: Request, pk: int) -> HttpResponse:
    found = _repo(request, pk)
    form = VariableForm(request.POST)
    if variable := form.submit(repo=found, by=request.user):
        messages.success(request, f"{variable.name} is set.")
        return redirect("repo", pk)
    return _render(request, found, EnvironmentForm.of(found), form)


@login_required
def remove_variable(request: Request, pk: int, name: str) -> HttpResponse:
    """The question on GET, the deed on POST."""
    found = get_object_or_404(_repo(request, pk).variables, name=name)
    if request.method == "POST":
        environment.remove_variable(repo=found.repo, by=request.user, name=name)
        return redirect("repo", pk)
    context = {"question": f"Remove {name}?", "consequence": "Its value is deleted. Runs that start from now on do not have it."}
    return _ask(request, context | {"verb": "Remove", "back": found.repo})


@login_required
def remove(request: Request, pk: int) -> HttpResponse:
    """The question on GET, the deed on POST."""
    found, error = _repo(request, pk), ""
    if request.method == "POST":
        try:
            environment.remove_repo(repo=found, by=request.user)
            return redirect("repos")
        except AppError as refused:
            error = refused.message
    context = {"question": f"Remove {found.name}?", "consequence": "Its environment, its variables and our copy of it are deleted."}
    return _ask(request, context | {"verb": "Remove", "back": found, "error": error})


def _ask(request: Request, context: dict[str, object]) -> HttpResponse:
    return render(request, "tasks/confirm.html#question" if request.htmx else "tasks/confirm.html", context)
