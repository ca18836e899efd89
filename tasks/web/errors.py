"""The pages for what goes wrong. Each says what has happened and what to do next; a script gets the same in one sentence.

Those that come when something of ours is broken (500, 503) and those for requests that cannot be read (400) need no database,
session, user or context processor.
"""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

import psycopg
from django.conf import settings
from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.cache import add_never_cache_headers
from django.utils.http import url_has_allowed_host_and_scheme

RETRY_S = 5


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    is_too_big = isinstance(exception, RequestDataTooBig | TooManyFieldsSent | TooManyFilesSent)
    most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 1024**2
    if is_too_big:
        return _bare(
            request, "400.html", 413, f"That is too much at once: {most} MB of text are the most.", {"most": most, "is_too_big": True}
        )
    return _bare(request, "400.html", 400, "The server could not understand that. Reload the page and try again.")


def not_allowed(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _page(request, "403.html", 403, "You may not do that.")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    sentence = "You have signed in or out since this page was opened. Reload the page, and send it again."
    return _page(request, "403_csrf.html", 403, sentence, {"back": page_before(request)})


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _page(request, "404.html", 404, "This is not there any more. Reload the page.")


def wrong_method(request: HttpRequest, allowed: str) -> HttpResponse:
    response = _page(request, "405.html", 405, "This address does not take that. Reload the page.", {"back": page_before(request)})
    response["Allow"] = allowed
    return response


def too_many(request: HttpRequest, seconds: int) -> HttpResponse:
    """Something was tried too often; it may be tried again after `seconds`."""
    minutes = -(-seconds // 60)
    when = f"in {seconds} seconds" if seconds < 60 else f"in {minutes} minute{'s' if minutes > 1 else ''}"
    response = _page(request, "429.html", 429, f"That was tried too often. Try again {when}.", {"when": when})
    response["Retry-After"] = str(seconds)
    return response


def server_error(request: HttpRequest) -> HttpResponse:
    """What no view has caught, from wherever it comes: views, middleware, the session. A database that is away is said so."""
    if not is_database_away(sys.exc_info()[1]):
        return _bare(request, "500.html", 500, "Something went wrong here. Try again in a moment; the server's log says why.")
    is_read = request.method in ("GET", "HEAD")
    sentence = "The database cannot be reached just now. Try again in a moment."
    response = _bare(request, "503.html", 503, sentence, {"is_read": is_read, "seconds": RETRY_S})
    response["Retry-After"] = str(RETRY_S)
    return response


def is_database_away(error: BaseException | None) -> bool:
    """Whether the connection is what failed: there was none to be had, or it broke. A deadlock or a bad query is not."""
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    state = error.__cause__.sqlstate if isinstance(error.__cause__, psycopg.Error) else None
    # 08: connection; 57P01..03: it shuts down, crashed, starts; 53300: too many connections
    return state is None or state[:2] == "08" or state in ("57P01", "57P02", "57P03", "53300")


def page_before(request: HttpRequest) -> str:
    """The path of the page that this request came from, if that is one of ours, else of the first page."""
    before = request.headers.get("Referer", "")
    if not url_has_allowed_host_and_scheme(before, allowed_hosts={request.get_host()}, require_https=request.is_secure()):
        return "/"
    parts = urlsplit(before)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return path if path.startswith("/") and url_has_allowed_host_and_scheme(path, allowed_hosts=None) else "/"


def _page(request: HttpRequest, template: str, status: int, sentence: str, context: dict[str, object] | None = None) -> HttpResponse:
    if request.headers.get("HX-Request"):
        return _sentence(sentence, status)
    return render(request, template, context, status=status)


def _bare(request: HttpRequest, template: str, status: int, sentence: str, context: dict[str, object] | None = None) -> HttpResponse:
    if request.headers.get("HX-Request"):
        response = _sentence(sentence, status)
    else:
        response = HttpResponse(render_to_string(template, context), status=status)
    add_never_cache_headers(response)
    return response


def _sentence(text: str, status: int) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
