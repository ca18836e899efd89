"""The servers of the Model Context Protocol of a repository, on its page."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_POST
from django_htmx.http import trigger_client_event

from tasks import mcp_servers
from tasks.models import Repo, RepoMcpServer
from tasks.web.access import Request, action
from tasks.web.mcp_forms import McpServerForm
from tasks.web.repos import ask, page, repo_of


@require_POST
@login_required
def set_server(request: Request, pk: int) -> HttpResponse:
    found = repo_of(request, pk)
    form = McpServerForm(request.POST)
    if server := form.submit(repo=found, by=request.user):
        return _changed(request, found, f"{server.name} is set. Runs that start from now on have it.")
    return page(request, found, part="mcp_servers", **{"mcp_change_form" if "changes" in request.POST else "mcp_form": form})


@login_required
def remove_server(request: Request, pk: int, name: str) -> HttpResponse:
    """The question on GET, the deed on POST."""
    server = _server(request, pk, name)
    if request.method == "POST":
        mcp_servers.remove_mcp_server(repo=server.repo, by=request.user, name=name)
        return _changed(request, server.repo, f"{name} is removed.")
    consequence = "Runs that start from now on do not have it. The repository's network stays as it is."
    context = {"question": f"Remove {name}?", "consequence": consequence, "back": reverse("repo", args=[pk]), "target": "#mcp-servers"}
    return ask(request, context)


@action("repo")
def allow_host(request: Request, pk: int, name: str) -> HttpResponse:
    """Add the server's host to the repository's network; the form of the network, which is on the page too, is told."""
    server = _server(request, pk, name)
    host = mcp_servers.allow_mcp_server(repo=server.repo, by=request.user, name=name)
    response = _changed(request, repo_of(request, pk), f"{host} is on the repository's network now.")
    return trigger_client_event(response, "host-allowed", {"host": host}) if request.htmx else response


def _server(request: Request, pk: int, name: str) -> RepoMcpServer:
    return get_object_or_404(RepoMcpServer.objects.select_related("repo"), repo=repo_of(request, pk), name=name)


def _changed(request: Request, found: Repo, said: str) -> HttpResponse:
    messages.success(request, said)
    return page(request, found, part="mcp_servers_changed") if request.htmx else redirect(f"{reverse('repo', args=[found.pk])}#mcp-servers")
