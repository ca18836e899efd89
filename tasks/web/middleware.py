"""What holds for every request: that one is signed in, and that what is refused is refused in words."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed
from django.utils.deprecation import MiddlewareMixin

from tasks import audit
from tasks.running import log_context
from tasks.web import errors, health

SIGNED_OUT = "You are signed out, so this was not sent. Copy what you typed, reload the page and sign in."


class PlainRefusals(MiddlewareMixin):
    """Words for a wrong method; and NUL characters, which no text in PostgreSQL can hold, go no further than here.

    What says nothing of caches is somebody's page, which none but their browser may keep. This is the first that sees a request, so
    here health is made to be asked of any host.
    """

    def process_request(self, request: HttpRequest) -> None:
        health.allow_any_host(request)
        if "\0" in request.path_info or "%00" in request.META.get("QUERY_STRING", ""):
            raise BadRequest("There is a NUL character in the address.")
        if any("\0" in value for value in request.COOKIES.values()):  # written as \\000, which cookies are read as
            raise BadRequest("There is a NUL character in a cookie.")

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if isinstance(response, HttpResponseNotAllowed) and not response.content:
            response = errors.wrong_method(request, response["Allow"])
        if not response.has_header("Cache-Control"):
            response["Cache-Control"] = "private"
        return response


class SignInFirst(LoginRequiredMiddleware):
    """Every page wants a session, unless its view is marked with `login_not_required`."""

    def process_view(self, request: HttpRequest, view_func: Any, view_args: Any, view_kwargs: Any) -> HttpResponseBase | None:
        """What is for everybody does not even look who it is: Django's own would, and then it could not be had without a database."""
        log_context.begin(**_ids(request, view_kwargs))
        audit.came_from(request.META.get("REMOTE_ADDR", ""))
        if not getattr(view_func, "login_required", True):
            return None
        response = super().process_view(request, view_func, view_args, view_kwargs)
        if request.user.pk is not None:
            log_context.add(user=request.user.pk)
        return response

    def handle_no_permission(self, request: HttpRequest, view_func: Any) -> HttpResponse:  # type: ignore[override]  # not always a redirect
        """Sign in and come back; what a form sent without a session comes back to the page with the form, where it is kept."""
        if request.method in ("GET", "HEAD"):
            return redirect_to_login(request.get_full_path())
        if request.headers.get("HX-Request"):
            return HttpResponse(SIGNED_OUT, status=401, content_type="text/plain; charset=utf-8")
        return redirect_to_login(errors.page_before(request))


def _ids(request: HttpRequest, view_kwargs: dict[str, Any]) -> dict[str, str | int]:
    """Which run, task or repository a page is of, for the log."""
    noun, _, _ = request.path_info.lstrip("/").partition("/")
    return {noun.removesuffix("s"): view_kwargs["pk"]} if noun in ("runs", "tasks", "repos") and "pk" in view_kwargs else {}
