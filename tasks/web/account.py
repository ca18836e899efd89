"""Signing in by a link, and out."""

from __future__ import annotations

from django.contrib.auth import login, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRefresh

from tasks import services

BACKEND = "django.contrib.auth.backends.ModelBackend"


@require_GET
@never_cache
def sign_in(request: HttpRequest) -> HttpResponse:
    """How to sign in. A part of a page that is asked for without a session reloads its page, which leads here."""
    if request.headers.get("HX-Request"):
        return HttpResponseClientRefresh()
    return redirect("home") if request.user.is_authenticated else render(request, "tasks/sign_in.html")


@require_http_methods(["GET", "POST"])
@never_cache
def login_link(request: HttpRequest, token: str) -> HttpResponse:
    """A page with a button on GET, so that a preview of the link does not use it up; signs in on POST."""
    if request.method == "POST":
        if user := services.use_login_link(token):
            login(request, user, backend=BACKEND)
            return _secret(redirect("home"))
        return _secret(render(request, "tasks/login_link.html", {"is_used": True}, status=410))
    return _secret(render(request, "tasks/login_link.html"))


def _secret(response: HttpResponse) -> HttpResponse:
    """The address of this page is a credential: no other page is told more of it than the host, and nothing keeps it."""
    response["Referrer-Policy"] = "strict-origin"  # with no-referrer, browsers send the form with `Origin: null`
    response["Cache-Control"] = "no-store"
    return response


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("sign-in")
