"""What load balancers and monitoring ask: is the process up, can it do its work, and in figures.

They ask by whatever address they have, so these pages are the only ones that any Host may be asked for. Anybody learns whether
all is well; what is not, only who may know.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import split_domain_port, validate_host
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client.exposition import choose_encoder

from tasks.running import condition
from tasks.running.condition import State
from tasks.web import metrics as figures

PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_FORWARDED", "HTTP_X_FORWARDED_HOST", "HTTP_VIA")


def allow_any_host(request: HttpRequest) -> None:
    """Before anything looks at the Host: for these pages it is one of ours, whatever it was; `is_by_name` says whether it was."""
    if request.path_info in PATHS:
        name, _ = split_domain_port(request.META.get("HTTP_HOST") or request.META.get("SERVER_NAME", ""))
        request.is_by_name = validate_host(name, settings.ALLOWED_HOSTS)  # type: ignore[attr-defined]
        request.META["HTTP_HOST"] = next((host.lstrip(".") for host in settings.ALLOWED_HOSTS if host != "*"), "localhost")


@login_not_required
@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """200 as long as this process answers; nothing else is asked."""
    return HttpResponse("ok\n", content_type="text/plain; charset=utf-8")


@login_not_required
@require_safe
@never_cache
def readyz(request: HttpRequest) -> HttpResponse:
    """200 when runs can be made and followed, else 503: {"status": "ok" | "not ok"} and, for those who may know,
    "checks": {name: {"state": "ok" | "warning" | "problem", "sentence": …}}."""
    found = condition.recently()
    is_ready = all(finding.state is not State.PROBLEM for finding in found)
    told: dict[str, Any] = {"status": "ok" if is_ready else "not ok"}
    has_database = any(finding.check == "database" and finding.state is State.OK for finding in found)
    if may_know(request, has_database=has_database):
        told["checks"] = {finding.check: {"state": finding.state, "sentence": finding.sentence} for finding in found}
    response = JsonResponse(told, status=200 if is_ready else 503)
    response._has_been_logged = True  # type: ignore[attr-defined]  # Django would, at each question; `recently` does when it changes
    return response


@login_not_required
@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """The figures for Prometheus, for those who may know."""
    if not may_know(request):
        text = "Ask from this machine, or with “Authorization: Bearer” and METRICS_TOKEN (docs/operations.md).\n"
        return HttpResponse(text, status=403, content_type="text/plain; charset=utf-8")
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    try:
        return HttpResponse(encode(figures.REGISTRY), content_type=content_type)
    except DatabaseError as error:
        return HttpResponse(
            f"The database does not answer: {condition.said(error)}\n", status=503, content_type="text/plain; charset=utf-8"
        )


def may_know(request: HttpRequest, *, has_database: bool = True) -> bool:
    """Whoever shows METRICS_TOKEN, asks from this machine itself, or is signed in as an operator."""
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return bool(settings.METRICS_TOKEN) and constant_time_compare(shown.strip(), settings.METRICS_TOKEN)
    if is_from_here(request):
        return True
    if not has_database or settings.SESSION_COOKIE_NAME not in request.COOKIES:
        return False
    return bool(getattr(request.user, "is_operator", False))


def is_from_here(request: HttpRequest) -> bool:
    """Whether a program of this machine asks us by our name.

    Behind a proxy on the same machine everybody seems to come from here, and headers that tell more can be left out or made up: so
    where there is a PUBLIC_URL, nobody does. By a wrong name asks a page that had its own name lead here, in an operator's browser.
    """
    if settings.PUBLIC_URL or any(name in request.META for name in FORWARDED) or not getattr(request, "is_by_name", False):
        return False
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
