"""The variables of a repository, on its page."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from tasks import environment
from tasks.models import Repo
from tasks.web.access import Request
from tasks.web.repo_forms import SeveralForm, VariableForm
from tasks.web.repos import ask, page, repo_of


@require_POST
@login_required
def set_variable(request: Request, pk: int) -> HttpResponse:
    found = repo_of(request, pk)
    form = VariableForm(request.POST)
    if variable := form.submit(repo=found, by=request.user):
        return _changed(request, found, f"{variable.name} is set.")
    return page(request, found, part="variables", **{"change_form" if "changes" in request.POST else "variable_form": form})


@require_POST
@login_required
def set_variables(request: Request, pk: int) -> HttpResponse:
    found = repo_of(request, pk)
    form = SeveralForm(request.POST)
    if variables := form.submit(repo=found, by=request.user):
        return _changed(request, found, f"{len(variables)} variable{'' if len(variables) == 1 else 's'} set.")
    return page(request, found, part="variables", several_form=form)


@login_required
def remove_variable(request: Request, pk: int, name: str) -> HttpResponse:
    """The question on GET, the deed on POST."""
    variable = get_object_or_404(repo_of(request, pk).variables.select_related("repo"), name=name)
    if request.method == "POST":
        environment.remove_variable(repo=variable.repo, by=request.user, name=name)
        return _changed(request, variable.repo, f"{name} is removed.")
    consequence = "Its value is deleted. Runs that start from now on do not have it."
    context = {"question": f"Remove {name}?", "consequence": consequence, "back": reverse("repo", args=[pk]), "target": "#variables"}
    return ask(request, context)


def _changed(request: Request, found: Repo, said: str) -> HttpResponse:
    messages.success(request, said)
    return page(request, found, part="variables_changed") if request.htmx else redirect(f"{reverse('repo', args=[found.pk])}#variables")
