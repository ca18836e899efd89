"""Version 1 of the API: its routers, put together, and its addresses."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.urls import re_path
from ninja import NinjaAPI

from tasks.api import agents, errors, events, patches, repos, runs, tasks, turns
from tasks.api.auth import Token

api = NinjaAPI(title="asynccode", version="1", urls_namespace="api", auth=Token(), docs_url=None)
errors.install(api)
for module in (agents, repos, tasks, runs, turns, events, patches):
    api.add_router("", module.router)


def not_found(request: HttpRequest, **_: Any) -> HttpResponse:
    return errors.problem(request, 404)


urlpatterns = [*api.urls[0], re_path("", not_found)]
for pattern in urlpatterns:
    assert pattern.callback is not None
    login_not_required(pattern.callback)
app_name = "api"
