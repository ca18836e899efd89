"""What every view of ours has: a request with a user and HTMX's details, and one way to say that something cannot be done."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required, login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, resolve_url
from django.views.decorators.http import require_http_methods
from django_htmx.http import HttpResponseClientRedirect, trigger_client_event
from django_htmx.middleware import HtmxDetails

from tasks import tokens
from tasks.errors import AppError
from tasks.models import Scope, User


class Request(HttpRequest):
    """A request of somebody who is signed in."""

    htmx: HtmxDetails
    user: User


View = Callable[Concatenate[Request, ...], HttpResponse]
Download = Callable[Concatenate[Request, ...], HttpResponseBase]


def action(where: str, *, asks: bool = False) -> Callable[[View], View]:
    """A view that does one thing by POST; one that `asks` shows a page about it on GET. When it cannot be done, the page `where`
    (taking the view's id) says why."""

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapped(request: Request, pk: int, **more: Any) -> HttpResponse:
            try:
                return view(request, pk, **more)
            except AppError as error:
                messages.error(request, error.message)
                return go(request, where, pk)

        methods = ["GET", "HEAD", "POST"] if asks else ["POST"]
        return require_http_methods(methods)(login_required(wrapped))

    return decorate


def login_or_token(scope: Scope) -> Callable[[Download], Download]:
    """A view for people who are signed in, and for programs with a token of this scope: `Authorization: Bearer ac_…`.

    A request with a token has its user and no session. A token that is no good is refused, whoever is signed in besides.
    """

    def decorate(view: Download) -> Download:
        by_session = login_required(view)

        @wraps(view)
        def wrapped(request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
            scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
            if scheme.lower() != "bearer":
                return by_session(request, *args, **kwargs)
            if (token := tokens.authenticate(secret.strip(), scope=scope)) is None:
                return _no_such_token(scope)
            request.user = token.user
            return view(request, *args, **kwargs)

        return login_not_required(wrapped)

    return decorate


def _no_such_token(scope: Scope) -> HttpResponse:
    text = f"This token is unknown, expired or revoked, or it may not {scope.value}. Make one on the settings page.\n"
    response = HttpResponse(text, status=401, content_type="text/plain; charset=utf-8")
    response["WWW-Authenticate"] = f'Bearer realm="asynccode", error="invalid_token", scope="{scope.value}"'
    return response


def go(request: Request, to: Any, *args: Any) -> HttpResponse:
    """Send the browser to another page."""
    return HttpResponseClientRedirect(resolve_url(to, *args)) if request.htmx else redirect(to, *args)


def done(request: Request, to: Any, *args: Any) -> HttpResponse:
    """It is done: what is on the page looks for news; without scripts, the browser goes to `to`."""
    return trigger_client_event(HttpResponse(status=204), "news") if request.htmx else redirect(to, *args)
