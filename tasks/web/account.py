"""Signing in, by a link or a password, and out. Passwords are Django's own. With GitHub: github_sign_in.py."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import login, logout
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.utils.encoding import iri_to_uri
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRefresh

from tasks import accounts, audit, limits
from tasks.github import people
from tasks.models import AuditKind, User
from tasks.web import errors
from tasks.web.account_forms import SignInForm

BACKEND = "django.contrib.auth.backends.ModelBackend"
NEXT = "next"  # the cookie that remembers, until the link on the console is opened, which page somebody wanted
NEXT_S = 3600


@sensitive_post_parameters("password")
@never_cache
@login_not_required
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """How to sign in. A part of a page that is asked for without a session reloads its page, which leads here."""
    if request.headers.get("HX-Request"):
        return HttpResponseClientRefresh()
    if request.method == "POST":
        return _by_password(request) if settings.PASSWORD_LOGIN else HttpResponseNotAllowed(["GET", "HEAD"])
    if request.user.is_authenticated:
        return redirect(wanted(request))
    response = ask(request)
    if (page := wanted(request)) == "/":
        response.delete_cookie(NEXT, path="/sign-in/", samesite="Lax")
    else:
        is_https = settings.IS_HTTPS
        response.set_cookie(NEXT, page, max_age=NEXT_S, path="/sign-in/", secure=is_https, httponly=True, samesite="Lax")
    return response


def _by_password(request: HttpRequest) -> HttpResponse:
    """Tries are counted by address and by name before they are made; the right password gives its own back."""
    address, name = request.META.get("REMOTE_ADDR", ""), request.POST.get("username", "").strip()  # as the form does
    if wait := max(limits.ADDRESS.take(address), limits.USERNAME.take(name)):
        return errors.too_many(request, wait)
    form = SignInForm(request.POST)
    if not form.is_valid() or form.user is None:
        # Only a name that somebody has: what is typed there by mistake may be a password.
        known = User.objects.filter(username=form.cleaned_data.get("username", "")).first()
        audit.record(AuditKind.SIGN_IN_FAILED, by=None, subject=known or "", way="password", username=known.username if known else "")
        return ask(request, form, status=422)
    limits.ADDRESS.give_back(address)
    limits.USERNAME.give_back(name)
    return signed_in(request, form.user, wanted(request))


def ask(request: HttpRequest, form: SignInForm | None = None, *, problem: str = "", status: int = 200) -> HttpResponse:
    """The page to sign in. `problem`: why it did not work by another way than the form."""
    context = {
        "form": form or SignInForm(),
        "has_passwords": settings.PASSWORD_LOGIN,
        "has_github": people.may_sign_in(),
        "next": wanted(request),
        "problem": problem,
    }
    return lead_to_github(render(request, "tasks/sign_in.html", context, status=status))


def lead_to_github(response: HttpResponse) -> HttpResponse:
    """A page with a form that leads to GitHub: browsers apply `form-action` also to where the form's answer redirects to."""
    if people.may_sign_in():
        response._csp_update = {"form-action": [settings.GITHUB_URL]}  # type: ignore[attr-defined]  # what csp_update sets
    return response


@never_cache
@login_not_required
@require_http_methods(["GET", "HEAD", "POST"])
def login_link(request: HttpRequest, token: str) -> HttpResponse:
    """A page with a button on GET, so that a preview of the link does not use it up; signs in on POST."""
    if request.method != "POST":
        return _secret(render(request, "tasks/login_link.html"))
    address = request.META.get("REMOTE_ADDR", "")
    if wait := limits.ADDRESS.take(address):
        return _secret(errors.too_many(request, wait))
    if (user := accounts.use_login_link(token)) is None:
        audit.record(AuditKind.SIGN_IN_FAILED, by=None, way="link")
        return _secret(render(request, "tasks/login_link.html", {"is_used": True}, status=410))
    limits.ADDRESS.give_back(address)
    return _secret(signed_in(request, user, local(request.COOKIES.get(NEXT, ""))))


def _secret(response: HttpResponse) -> HttpResponse:
    """The address of this page is a credential: no other page is told more of it than the host, and nothing keeps it."""
    response["Referrer-Policy"] = "strict-origin"  # with no-referrer, browsers send the form with `Origin: null`
    response["Cache-Control"] = "no-store"
    return response


def signed_in(request: HttpRequest, user: User, page: str) -> HttpResponse:
    """Begin a session, and go on to a page of ours."""
    login(request, user, backend=BACKEND)
    if user.expires_at is not None:
        request.session.set_expiry(user.expires_at)
    audit.record(AuditKind.SIGNED_IN, by=user, subject=user)
    response = redirect(page)
    response.delete_cookie(NEXT, path="/sign-in/", samesite="Lax")
    return response


def wanted(request: HttpRequest) -> str:
    return local(request.POST.get("next") or request.GET.get("next", ""))


def local(wanted: str) -> str:
    """A path of ours; "/" for what leads elsewhere, to where a cookie has no place, or around in a circle."""
    is_safe = url_has_allowed_host_and_scheme(wanted, allowed_hosts=None) and wanted.startswith("/") and len(wanted) <= 2000
    is_safe = is_safe and wanted.isprintable() and not wanted.startswith(("/sign-in/", "/sign-out"))
    return iri_to_uri(wanted) if is_safe else "/"


@require_POST
@login_not_required
def sign_out(request: HttpRequest) -> HttpResponse:
    if isinstance(request.user, User):
        audit.record(AuditKind.SIGNED_OUT, by=request.user, subject=request.user)
    logout(request)
    return redirect("sign-in")


@login_not_required
@require_safe
def admin_sign_in(request: HttpRequest) -> HttpResponse:
    """The administration's own sign-in page would know nothing of our limits, nor whether passwords are on."""
    if request.user.is_authenticated:
        raise PermissionDenied
    response = redirect("sign-in")
    response["Location"] += f"?{request.META['QUERY_STRING']}" if request.META.get("QUERY_STRING") else ""
    return response


@login_not_required
@require_safe
@cache_control(max_age=86400)
def favicon(request: HttpRequest) -> HttpResponse:
    """Where browsers look that read no HTML."""
    return redirect(static("icon.svg"))
