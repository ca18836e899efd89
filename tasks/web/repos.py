"""Repositories: the list, and one with its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse

from sandboxes.egress import PACKAGE_REGISTRIES
from tasks import environment, repositories
from tasks.errors import AppError
from tasks.github import mentions
from tasks.github_api import places
from tasks.models import Operation, OperationStatus, Repo, RepoMcpServer, Task, User
from tasks.web.access import Request, action, done
from tasks.web.mcp_forms import McpServerForm, McpServerRow
from tasks.web.prepared import PreparedRow
from tasks.web.repo_forms import EnvironmentForm, RepoForm, SeveralForm, VariableForm
from tasks.web.trial import Trial

MOST_SHOWN = 100
FEW = 8  # repositories among which nobody has to search


@dataclass(frozen=True)
class RepoRow:
    """A repository, the number of its tasks, and how its mirror is."""

    repo: Repo
    task_count: int
    operation: Operation | None

    @property
    def is_fetching(self) -> bool:
        return self.operation is not None and self.operation.status in (OperationStatus.QUEUED, OperationStatus.RUNNING)

    @property
    def doing(self) -> str:
        """What the fetch is at, in the middle of a sentence."""
        text = self.operation.progress if self.operation else ""
        return text[:1].lower() + text[1:]

    @property
    def error(self) -> str:
        """Why it could not be fetched; "" when a fetch went well since."""
        operation, fetched_at = self.operation, self.repo.mirrored_at
        if operation is None or operation.status != OperationStatus.FAILED:
            return ""
        is_mended = fetched_at and operation.finished_at and fetched_at > operation.finished_at
        return "" if is_mended else operation.error


def repo_of(request: Request, pk: int) -> Repo:
    return get_object_or_404(Repo.objects.visible_to(request.user), pk=pk)


def _rows(user: User, words: str) -> list[RepoRow]:
    """The user's repositories whose name or source holds the words, one more than are shown."""
    found = Repo.objects.visible_to(user)
    for word in words.split()[:10]:
        found = found.filter(Q(name__icontains=word) | Q(source__icontains=word))
    repos = list(found[: MOST_SHOWN + 1])
    counts = dict(Task.objects.filter(is_trial=False, repo__in=repos).values_list("repo").annotate(Count("pk")))  # by an index alone
    operations = repositories.mirror_operations(repos)
    return [RepoRow(repo, counts.get(repo.pk, 0), operations.get(repo.pk)) for repo in repos]


@login_required
def repos(request: Request) -> HttpResponse:
    form = RepoForm(request.POST or None)
    if request.method == "POST" and (added := form.submit(by=request.user)):
        messages.success(request, f"{added.name} is here.")
        if not request.htmx:
            return redirect("repos")
        form = RepoForm()
    words = request.GET.get("q", "")[:200].strip()
    rows = _rows(request.user, words)
    context = {
        "form": form,
        "rows": rows[:MOST_SHOWN],
        "has_more": len(rows) > MOST_SHOWN,
        "words": words,
        "is_long": words or len(rows) > FEW,
    }
    part = ("added" if request.method == "POST" else "rows") if request.htmx else ""
    return render(request, f"tasks/repos.html#{part}" if part else "tasks/repos.html", context, status=422 if form.errors else 200)


@login_required
def repo(request: Request, pk: int) -> HttpResponse:
    """The page; on POST the environment is saved, and with `try` among what is sent a trial of it starts."""
    found = repo_of(request, pk)
    form = EnvironmentForm.of(found, request.POST or None)
    if request.method != "POST":
        return page(request, found)
    submit = form.submit_and_try if "try" in request.POST else form.submit
    if not submit(repo=found, by=request.user):
        return page(request, found, form=form, part="environment")
    messages.success(request, "Saved. Runs that start from now on use it.")
    if request.htmx:
        return page(request, repo_of(request, pk), part="saved")
    return redirect(f"{request.path}#trial" if "try" in request.POST else request.path)


def page(request: Request, found: Repo, *, part: str = "", **forms: object) -> HttpResponse:
    """The page of a repository, or that part of it that HTMX asks for; `forms` are those that were filled in."""
    if request.htmx:
        part = part or {"head": "head", "variables": "variables", "mcp-servers": "mcp_servers", "prepared": "prepared"}.get(
            request.htmx.target or "", ""
        )
    count = found.tasks.filter(is_trial=False).count()
    context = {"repo": found, "row": RepoRow(found, count, repositories.mirror_operation(found)), "registries": PACKAGE_REGISTRIES}
    context |= {"form": EnvironmentForm.of(found), "variable_form": VariableForm(), "several_form": SeveralForm()} | forms
    context |= {"change_form": _change_form(request, found), "trial": Trial.newest(found)} | forms
    context |= {"mcp_rows": McpServerRow.all_of(found), "mcp_form": McpServerForm()}
    context |= {"prepared_rows": PreparedRow.all_of(found), "mention": mentions.name() if places.is_on_github(found) else ""}
    context |= {"mcp_change_form": _mcp_change_form(request, found)} | forms
    has_errors = any(getattr(form, "errors", None) for form in forms.values())
    template = f"tasks/repo.html#{part}" if part and request.htmx else "tasks/repo.html"
    return render(request, template, context, status=422 if has_errors else 200)


def _change_form(request: Request, found: Repo) -> VariableForm | None:
    """The form of the variable that the address says is to be changed."""
    name = request.GET.get("change")
    variable = found.variables.filter(name=name).first() if name else None
    return VariableForm.of(variable) if variable else None


def _mcp_change_form(request: Request, found: Repo) -> McpServerForm | None:
    """The form of the server that the address says is to be changed."""
    name = request.GET.get("server")
    server = RepoMcpServer.objects.filter(repo=found, name=name).first() if name else None
    return McpServerForm.of(server) if server else None


@action("repo")
def fetch_again(request: Request, pk: int) -> HttpResponse:
    repositories.fetch_repo(repo=repo_of(request, pk), by=request.user)
    return done(request, "repo", pk)


@login_required
def remove(request: Request, pk: int) -> HttpResponse:
    """The question on GET, the deed on POST."""
    found, error = repo_of(request, pk), ""
    if request.method == "POST":
        try:
            environment.remove_repo(repo=found, by=request.user)
        except AppError as refused:
            error = refused.message
        else:
            messages.success(request, f"{found.name} is removed. Adding it again brings it back.")
            return redirect("repos")
    has_tasks = found.tasks.filter(is_trial=False).exists()
    kept = "Its tasks and their patches stay readable; a" if has_tasks else "A"
    consequence = f"Its variables, its MCP servers and our copy of it are deleted. {kept}dding it again starts with a fresh copy."
    return ask(
        request, {"question": f"Remove {found.name}?", "consequence": consequence, "back": reverse("repo", args=[pk]), "error": error}
    )


def ask(request: Request, context: Mapping[str, object]) -> HttpResponse:
    """The question before something is removed, in the dialog or as a page of its own."""
    template = "tasks/confirm.html#question" if request.htmx else "tasks/confirm.html"
    return render(request, template, {"verb": "Remove", **context}, status=409 if context.get("error") else 200)
