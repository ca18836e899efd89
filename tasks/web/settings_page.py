"""A user's settings: one page with a form a section, each with an address of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET

from tasks import accounts, limits, tokens
from tasks.models import ApiToken
from tasks.web import account, errors, github_forms, key_forms
from tasks.web.access import Request, View
from tasks.web.account_forms import NotifyForm, PasswordForm, ProfileForm, ThemeForm, TokenForm


@login_required
@require_GET
@never_cache
def page(request: Request) -> HttpResponse:
    return account.lead_to_github(render(request, "tasks/settings.html", _context(request)))


def _context(request: Request) -> dict[str, object]:
    user = request.user
    return {
        "profile": ProfileForm(initial={"display_name": user.display_name, "email": user.email}, auto_id="profile_%s"),
        "theme": ThemeForm(initial={"theme": user.theme}, auto_id="theme_%s"),
        "notify": NotifyForm(initial={"notify": user.notify}, auto_id="notify_%s"),
        "password": PasswordForm(auto_id="password_%s"),
        "token": TokenForm(auto_id="token_%s"),
        "tokens": ApiToken.objects.visible_to(user).filter(revoked_at=None),
        "has_passwords": settings.PASSWORD_LOGIN,
        "keys": partial(key_forms.keys, user),
        "spending": partial(key_forms.spending, user),
        "github": partial(github_forms.connection, user),
    }


def section(view: View) -> View:
    """A view that takes one section's form. Its address shows the page to those who come without one."""

    @sensitive_post_parameters()
    @login_required
    @never_cache
    @wraps(view)
    def wrapped(request: Request) -> HttpResponse:
        return view(request) if request.method == "POST" else redirect(_address(view.__name__))

    return wrapped


def _address(section: str) -> str:
    return f"{reverse('settings')}#{section}"


def answer(request: Request, section: str, form: Any, said: str = "", **context: object) -> HttpResponse:
    """The section with its form, in place or on its page; once saved (`said` tells it), without scripts by a redirect."""
    if said:
        messages.success(request, said)
        if not request.htmx:
            return redirect(_address(section))
    context = _context(request) | ({} if said else {section: form}) | context
    template = f"tasks/settings.html#{section}" if request.htmx else "tasks/settings.html"
    return account.lead_to_github(render(request, template, context, status=422 if form.errors else 200))


@section
def profile(request: Request) -> HttpResponse:
    form = ProfileForm(request.POST, auto_id="profile_%s")
    return answer(request, "profile", form, "Your profile is saved." if form.submit(user=request.user) else "")


@section
def theme(request: Request) -> HttpResponse:
    form = ThemeForm(request.POST, auto_id="theme_%s")
    return answer(request, "theme", form, "The pages look as you chose." if form.submit(user=request.user) else "")


@section
def notify(request: Request) -> HttpResponse:
    form = NotifyForm(request.POST, auto_id="notify_%s")
    return answer(request, "notify", form, "Your choice of notifications is saved." if form.submit(user=request.user) else "")


@section
def password(request: Request) -> HttpResponse:
    if not settings.PASSWORD_LOGIN:
        raise Http404
    if wait := limits.USERNAME.take(request.user.username):
        return errors.too_many(request, wait)
    form = PasswordForm(request.POST, auto_id="password_%s")
    if is_changed := form.submit(user=request.user):
        limits.USERNAME.give_back(request.user.username)
        update_session_auth_hash(request, request.user)
    return answer(request, "password", form, "Your password is changed. You are signed out everywhere else." if is_changed else "")


@section
def token(request: Request) -> HttpResponse:
    form = TokenForm(request.POST, auto_id="token_%s")
    if (created := form.submit(user=request.user)) is None:
        return answer(request, "token", form)
    new, secret = created
    return answer(request, "token", TokenForm(auto_id="token_%s"), new=new, secret=secret)


@login_required
def revoke_token(request: Request, pk: int) -> HttpResponse:
    """The question on GET, the deed on POST."""
    found = get_object_or_404(ApiToken.objects.visible_to(request.user), pk=pk)

    def revoke() -> str:
        tokens.revoke_token(token=found, by=request.user)
        return f"{found.name} is revoked."

    consequence = "Programs that use it are refused from now on. This cannot be undone."
    return confirmed(request, "token", revoke, question=f"Revoke {found.name}?", consequence=consequence, verb="Revoke")


@login_required
def end_sessions(request: Request) -> HttpResponse:
    """The question on GET, the deed on POST."""

    def end() -> str:
        accounts.end_sessions(user=request.user)
        update_session_auth_hash(request, request.user)
        return "You are signed out everywhere else."

    consequence = "Every other browser has to sign in again. API tokens stay valid."
    return confirmed(request, "sessions", end, question="Sign out everywhere else?", consequence=consequence, verb="Sign out")


def confirmed(request: Request, section: str, deed: Callable[[], str], **question: str) -> HttpResponse:
    if request.method == "POST":
        messages.success(request, deed())
        return redirect(_address(section))
    context = question | {"back": _address(section)}
    return render(request, "tasks/confirm.html#question" if request.htmx else "tasks/confirm.html", context)
