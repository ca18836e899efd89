"""Version 1 of the API: its routers, put together, and its addresses."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt

from tasks.api import (
    agents,
    artifacts,
    attachments,
    comments,
    comparisons,
    errors,
    events,
    patches,
    pulls,
    repos,
    runs,
    stream,
    tasks,
    turns,
    usage,
    webhooks,
)
from tasks.api.auth import Token
from tasks.api.docs import page_of
from tasks.api.openapi import DESCRIPTION, Api

api = Api(
    title="asynccode",
    version="1",
    description=DESCRIPTION,
    urls_namespace="api",
    auth=Token(),
    docs_url=None,
    openapi_extra={"info": {"license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}}},
)
errors.install(api)
_RESOURCES = (
    agents,
    repos,
    attachments,
    tasks,
    runs,
    turns,
    events,
    stream,
    patches,
    artifacts,
    comparisons,
    comments,
    pulls,
    usage,
    webhooks,
)
for module in _RESOURCES:
    api.add_router("", module.router)


def _not_found(request: HttpRequest, **_: Any) -> HttpResponse:
    return errors.problem(request, 404)


def _opened(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A view that asks for no session, and so not for what proves that one was not abused; and refuses a method in words."""

    @wraps(view)
    def wrapped(request: HttpRequest, **named: Any) -> HttpResponse:
        response = view(request, **named)
        if isinstance(response, HttpResponseNotAllowed):
            return errors.problem(request, 405, headers={"Allow": response["Allow"]})
        return response

    return login_not_required(csrf_exempt(wrapped))


_programs = [*api.urls[0], re_path("", _not_found)]
for pattern in _programs:
    assert pattern.callback is not None
    pattern.callback = _opened(pattern.callback)
urlpatterns = [path("docs", page_of(api), name="docs"), *_programs]
app_name = "api"
