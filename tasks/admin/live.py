"""Pages of what there is outside the database: sandboxes, queues and workers, and the settings that were read."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_http_methods, require_safe
from redis.exceptions import RedisError

from tasks import operating
from tasks.errors import AppError, InvalidInput
from tasks.models import Sandbox
from tasks.running import backends, condition, inventory, queues


def _page(request: HttpRequest, template: str, title: str, **context: Any) -> HttpResponse:
    return TemplateResponse(request, template, {**admin.site.each_context(request), "title": title, **context})


@require_http_methods(["GET", "HEAD", "POST"])
def sandboxes(request: HttpRequest) -> HttpResponse:
    """`destroy` is the number of a row: asked about on GET, done on POST. On POST with `look` the backend of that name is looked
    through at once."""
    by: Any = request.user
    wanted = request.POST.get("destroy") or request.GET.get("destroy", "")
    row = get_object_or_404(Sandbox, pk=int(wanted)) if wanted.isdecimal() and len(wanted) <= 18 else None
    if request.method == "POST":
        try:
            if row is not None:
                operating.destroy_sandbox(sandbox=row, by=by)
                messages.success(request, f"The {row} is being destroyed.")
            elif (name := request.POST.get("look", "")) in backends.names():
                operating.look_through(by=by, backend=name)
                messages.success(request, "A worker compares them with our rows, and destroys what none of them wants.")
        except AppError as error:
            messages.warning(request, error.message)
        return redirect("admin-sandboxes")
    found = [inventory.look(name) for name in backends.names()]
    return _page(request, "admin/sandboxes.html", "Sandboxes there are", found=found, asked=row)


@require_http_methods(["GET", "HEAD", "POST"])
def jobs(request: HttpRequest) -> HttpResponse:
    """On POST a failed `job` of a `queue` is retried, or forgotten, as `deed` says."""
    by: Any = request.user
    if request.method == "POST":
        deed = {"retry": operating.retry_job, "forget": operating.forget_job}.get(request.POST.get("deed", ""))
        try:
            if deed is None:
                raise InvalidInput("Choose to retry the job, or to delete it.")
            deed(queue=request.POST.get("queue", ""), job=request.POST.get("job", ""), by=by)
            messages.success(request, "It is done.")
        except AppError as error:
            messages.warning(request, error.message)
        return redirect("admin-queues")
    try:
        look, problem = queues.look(), ""
    except RedisError as error:
        look, problem = None, condition.said(error)
    return _page(request, "admin/queues.html", "Queues and workers", look=look, problem=problem)


@require_safe
def variables(request: HttpRequest) -> HttpResponse:
    """Which variables of the environment are read, whether they are set, and what the plain ones come to. No other value is shown."""
    return _page(request, "admin/settings.html", "Settings", rows=sorted(settings.ENVIRONMENT.items()))
