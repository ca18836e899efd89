"""The GitHub App in the settings: an operator makes and forgets it, everybody sees where it is installed.

Its manifest is sent to GitHub by a form of the browser's, with a state that must come back in the same session, once.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_safe

from tasks.errors import AppError
from tasks.github import registration
from tasks.github_api import apps, installations
from tasks.github_api.installations import Installation
from tasks.github_api.places import name_of
from tasks.models import GitHubAccount, GitHubApp, Repo, User
from tasks.web.access import Request
from tasks.web.github_forms import AppForm
from tasks.web.github_sign_in import settings_address
from tasks.web.settings_page import confirmed

STATE = "github_app_state"
_STATE_S = 3600  # so long GitHub takes the code
PROBLEM_STATE = "This was begun in another browser, too long ago, or is over already. Begin again."


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def app(request: Request) -> HttpResponse:
    """Where the app is installed. By POST: the page from which an operator goes to GitHub to make one."""
    if request.method == "POST":
        return _lead_to_github(request)
    if (found := apps.current()) is None:
        return redirect(settings_address())
    places, problem = _places(found, request.user)
    context = {"app": found, "places": places, "problem": problem, "install": apps.install_address(found)}
    return render(request, "tasks/github_app.html#installed" if request.htmx else "tasks/github_app.html", context)


def _lead_to_github(request: Request) -> HttpResponse:
    if not request.user.is_operator:
        raise Http404
    form = AppForm(request.POST, auto_id="github_app_%s")
    if (target := form.submit(user=request.user)) is None:
        return render(request, "tasks/github_app_new.html", {"form": form}, status=422)
    address = settings.PUBLIC_URL or request.build_absolute_uri("/").rstrip("/")
    state = secrets.token_urlsafe(32)
    request.session[STATE] = [state, int(time.time())]
    manifest = registration.manifest(address)
    context = {
        "form": form,
        "target": f"{target}?state={state}",
        "manifest": json.dumps(manifest),
        "writes": _names("write"),
        "reads": _names("read"),
        "has_webhooks": "hook_attributes" in manifest,
        "address": address,
    }
    response = render(request, "tasks/github_app_new.html", context)
    response._csp_update = {"form-action": [settings.GITHUB_URL]}  # type: ignore[attr-defined]  # what csp_update sets
    return response


def _names(level: str) -> str:
    """The permissions of this level, as GitHub calls them on its pages."""
    *names, last = sorted(name.replace("_", " ") for name, asked in registration.PERMISSIONS.items() if asked == level)
    return f"{', '.join(names)} and {last}"


@login_required
@never_cache
@require_safe
@sensitive_variables("state")
def made(request: Request) -> HttpResponse:
    """Where GitHub sends the operator back to, with a code for the app that it has made."""
    if not request.user.is_operator:
        raise Http404
    state, begun_at = request.session.pop(STATE, None) or ("", 0)
    is_ours = constant_time_compare(request.GET.get("state", ""), state)
    if not state or not is_ours or begun_at < time.time() - _STATE_S:
        messages.error(request, PROBLEM_STATE)
        return redirect(settings_address())
    try:
        found = registration.register(by=request.user, code=request.GET.get("code", ""))
    except AppError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, f"The GitHub App {found.name} is made. Now install it where it is to work.")
    return redirect(settings_address())


@login_required
@never_cache
def forget(request: Request) -> HttpResponse:
    """The question on GET, the deed on POST."""
    found = apps.current()
    if found is None or not request.user.is_operator:
        raise Http404

    def let_go() -> str:
        registration.forget(by=request.user)
        return f"The GitHub App {found.name} is forgotten."

    consequence = "Its keys are deleted here. Webhooks that it sends are refused, "
    if not settings.GITHUB_CLIENT_ID:
        consequence += "nobody can sign in with GitHub, tokens of those who did run out within hours, "
    consequence += "and who has connected no repositories of their own cannot push or open pull requests any more."
    question = {"question": f"Forget {found.name}?", "consequence": consequence, "verb": "Forget"}
    elsewhere = {"elsewhere": apps.delete_address(found), "elsewhere_says": "It stays at GitHub until it is deleted there"}
    return confirmed(request, "github", let_go, **question, **elsewhere)


@dataclass(frozen=True)
class Place:
    """An account at GitHub that the user has to do with, and the app's installation on it."""

    account: str
    installation: Installation | None


def _places(found: GitHubApp, user: User) -> tuple[list[Place], str]:
    """The user's own account and those whose repositories they have here, for an operator also all others that it is installed on; or
    why GitHub does not say."""
    try:
        installed = {one.account.lower(): one for one in installations.everywhere(found)}
    except AppError as error:
        return [], error.message
    logins = list(GitHubAccount.objects.filter(user=user).values_list("login", flat=True))
    sources = Repo.objects.filter(owner=user, removed_at=None).values_list("source", flat=True)
    owners = sorted({name.split("/")[0] for source in sources if (name := name_of(source))}, key=str.lower)
    others = [one.account for one in installed.values()] if user.is_operator else []
    accounts = {name.lower(): name for name in (*others, *owners, *logins)}
    return [Place(name, installed.get(key)) for key, name in accounts.items()], ""
