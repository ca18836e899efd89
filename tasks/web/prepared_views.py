"""What can be done with a repository's prepared environments, on its page."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse

from tasks import environment
from tasks.errors import AppError
from tasks.models import PreparedEnvironment, PreparedStatus, Repo
from tasks.web.access import Request
from tasks.web.repos import ask, page, repo_of


@login_required
def rebuild(request: Request, pk: int, number: int) -> HttpResponse:
    """The question on GET, the deed on POST."""
    row, error = _environment(request, pk, number), ""
    if request.method == "POST":
        try:
            environment.rebuild_prepared(environment=row, by=request.user)
        except AppError as refused:
            error = refused.message
        else:
            return _changed(request, row.repo, "It is built anew. Until it is ready, runs do their setup themselves.")
    consequence = "The setup script runs again, in a new sandbox; runs that start meanwhile do their setup themselves."
    context = {"question": "Build this environment anew?", "consequence": consequence, "verb": "Rebuild", "error": error}
    return ask(request, context | {"back": reverse("repo", args=[pk]), "target": "#prepared-rows"})


@login_required
def delete(request: Request, pk: int, number: int) -> HttpResponse:
    """The question on GET, the deed on POST."""
    row = _environment(request, pk, number)
    is_building = row.status == PreparedStatus.BUILDING
    if request.method == "POST":
        environment.delete_prepared(environment=row, by=request.user)
        return _changed(request, row.repo, "It is stopped." if is_building else "It is deleted.")
    context = {
        "question": "Stop preparing this environment?" if is_building else "Delete this environment?",
        "consequence": "The next run that starts does its setup itself, and another environment is built beside it.",
        "verb": "Stop" if is_building else "Delete",
    }
    return ask(request, context | {"back": reverse("repo", args=[pk]), "target": "#prepared-rows"})


def _environment(request: Request, pk: int, number: int) -> PreparedEnvironment:
    found = PreparedEnvironment.objects.exclude(status=PreparedStatus.GONE).select_related("repo")
    return get_object_or_404(found, repo=repo_of(request, pk), pk=number)


def _changed(request: Request, found: Repo, said: str) -> HttpResponse:
    messages.success(request, said)
    return page(request, found, part="prepared_changed") if request.htmx else redirect(f"{reverse('repo', args=[found.pk])}#prepared")
