"""What goes wrong, as RFC 9457 has it: application/problem+json with a sentence that says what to do."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from pydantic import BaseModel, Field

from tasks.errors import AppError, Conflict, InvalidInput, NotAllowed, RepoUnavailable
from tasks.github_api.credentials import NoToken
from tasks.github_api.errors import NotFoundOnGitHub, PermissionMissing, RateLimited, TokenRefused, Unavailable
from tasks.github_api.installations import NotInstalled
from tasks.running.quotas import QuotaUsedUp

ROOT = "/api/"
MEDIA_TYPE = "application/problem+json"
RETRY_S = 5

_STATUSES: Sequence[tuple[type[AppError], HTTPStatus]] = (
    (InvalidInput, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NotAllowed, HTTPStatus.FORBIDDEN),
    (Conflict, HTTPStatus.CONFLICT),
    (RepoUnavailable, HTTPStatus.CONFLICT),  # it is how things are with the repository; nothing here is broken
    (RateLimited, HTTPStatus.TOO_MANY_REQUESTS),
    (QuotaUsedUp, HTTPStatus.TOO_MANY_REQUESTS),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (TokenRefused, HTTPStatus.FORBIDDEN),
    (PermissionMissing, HTTPStatus.FORBIDDEN),
    (NotFoundOnGitHub, HTTPStatus.FORBIDDEN),
    (NoToken, HTTPStatus.FORBIDDEN),
    (NotInstalled, HTTPStatus.FORBIDDEN),
    (AppError, HTTPStatus.CONFLICT),
)
_SENTENCES: dict[int, str] = {
    400: "The server could not understand that request.",
    401: "This needs a token: Authorization: Bearer ac_… Make one on the settings page.",
    403: "You may not do that.",
    404: "There is nothing at this address, or it is not yours.",
    405: "This address does not take that method.",
    413: "That is too much at once. Send a smaller body.",
    503: "The database cannot be reached just now. Try again in a moment.",
}
_BROKEN = "Something went wrong here. Try again in a moment; the server's log says why."


class FieldError(BaseModel):
    """One value that cannot be accepted."""

    field: str = Field(description="Where it is: `agents.0.model`; empty for the whole body.")
    message: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="Always `about:blank`: the status says what kind of error it is, `code` says it in detail.")
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="A sentence that says what to do.")
    instance: str = Field(description="The path that was asked for.")
    code: str = Field(description="For programs: `invalid`, `conflict`, `not_found`, …")
    errors: list[FieldError] = Field(default=[], description="Of a request that cannot be accepted: which values, and why.")


class Refusal(Exception):
    """What the API itself refuses, before any verb is asked."""

    def __init__(self, status: HTTPStatus, detail: str, *, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.code, self.headers = status, detail, code, headers or {}


def too_many(seconds: int, detail: str) -> Refusal:
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, f"{detail} Try again in {seconds} s.", headers={"Retry-After": str(seconds)})


def problem(
    request: HttpRequest,
    status: int,
    detail: str = "",
    *,
    code: str = "",
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> HttpResponse:
    kind = HTTPStatus(status)
    body = Problem(
        type="about:blank",
        title=kind.phrase,
        status=status,
        detail=detail or _SENTENCES.get(status, _BROKEN if status >= 500 else kind.description),
        instance=request.path,
        code=code or kind.name.lower(),
        errors=list(errors),
    )
    response = HttpResponse(json.dumps(body.model_dump()), status=status, content_type=MEDIA_TYPE, headers=dict(headers or {}))
    response["Cache-Control"] = "no-store"
    return response


def of_app_error(request: HttpRequest, error: AppError) -> HttpResponse:
    status = next(status for kind, status in _STATUSES if isinstance(error, kind))
    errors = [FieldError(field=error.field, message=error.message)] if isinstance(error, InvalidInput) and error.field else []
    headers = {}
    if isinstance(error, RateLimited):
        headers["Retry-After"] = _seconds_until(error.until)
    elif isinstance(error, QuotaUsedUp):
        headers["Retry-After"] = _seconds_until(timezone.now().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1))
    elif status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_S)
    return problem(request, status, error.message, code=error.code, errors=errors, headers=headers)


def _seconds_until(moment: datetime) -> str:
    return str(max(1, math.ceil((moment - timezone.now()).total_seconds())))


def _of_validation(request: HttpRequest, error: ValidationError) -> HttpResponse:
    errors = [FieldError(field=_field(said["loc"]), message=said["msg"]) for said in error.errors]
    first = errors[0]
    detail = f"{first.field}: {first.message}" if first.field else first.message
    return problem(request, HTTPStatus.UNPROCESSABLE_ENTITY, detail, code="invalid", errors=errors)


def _field(place: Sequence[str | int]) -> str:
    """Where a value is; a body is known by the name of a parameter of ours, which says nothing to others."""
    return ".".join(str(part) for part in (place[2:] if place[0] == "body" else place[1:]))


def _of_refusal(request: HttpRequest, refusal: Refusal) -> HttpResponse:
    return problem(request, refusal.status, refusal.detail, code=refusal.code, headers=refusal.headers)


def _raise(request: HttpRequest, error: Exception) -> HttpResponse:
    """To Django, which logs it and calls its handler: see `in_words`."""
    raise error


def install(api: NinjaAPI) -> None:
    """Let every error of this API be a problem."""
    handlers: dict[type[Exception], Callable[[HttpRequest, Any], HttpResponse]] = {
        AppError: of_app_error,
        ValidationError: _of_validation,
        Refusal: _of_refusal,
        Http404: lambda request, error: problem(request, HTTPStatus.NOT_FOUND),
        HttpError: lambda request, error: problem(request, error.status_code),
        RequestDataTooBig: lambda request, error: problem(request, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        Exception: _raise,
    }
    for kind, handler in handlers.items():
        api.add_exception_handler(kind, handler)


def in_words(page: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A handler of Django's for errors that no view has caught: a problem below /api/, else what `page` shows."""

    def handler(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = page(request, *args, **kwargs)
        if not request.path.startswith(ROOT):
            return response
        headers = {"Retry-After": response["Retry-After"]} if response.has_header("Retry-After") else {}
        return problem(request, response.status_code, headers=headers)

    return handler
