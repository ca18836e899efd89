"""A run: its log as it is written, and what it has changed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.db.models import Value
from django.db.models.functions import Length, Substr
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET

from tasks import services
from tasks.models import Event, Patch, Run
from tasks.web import log
from tasks.web.access import Request, action, done, go
from tasks.web.cards import cards_of, newest_patches
from tasks.web.forms import FollowUpForm
from tasks.web.shown import patch_html

MOST_PATCH = 256 * 1024  # bytes of a patch on the page; the download has all
EVENTS_AT_ONCE = 500

_PARTS = {"status": "tasks/run.html#status", "changes": "tasks/run.html#changes"}


def _run(request: Request, pk: int) -> Run:
    return get_object_or_404(Run.objects.visible_to(request.user).select_related("task__repo"), pk=pk)


def _page(request: Request, run: Run) -> log.LogPage:
    """The page of the log that the address names: before or after a seq, else the newest."""
    for name, page in (("before", log.before), ("after", log.after)):
        if (seq := request.GET.get(name, "")).isdecimal() and len(seq) < 19:
            return page(run, int(seq))
    return log.newest(run)


@login_required
@require_GET
def run(request: Request, pk: int) -> HttpResponse:
    return _render(request, _run(request, pk), FollowUpForm())


def _render(request: Request, found: Run, form: FollowUpForm) -> HttpResponse:
    part = _PARTS.get(request.htmx.target or "") if request.htmx else None
    context = {"run": found, "task": found.task, "card": cards_of([found])[0], "form": form} | _changes(found)
    if part is None:
        context["page"] = _page(request, found)
    context["waiting"] = found.turns.filter(status="queued", number__gt=1)
    return render(request, part or "tasks/run.html", context, status=422 if form.errors else 200)


def _changes(run: Run) -> dict[str, object]:
    """The newest patch: its figures, and its beginning as HTML."""
    if (patch := newest_patches([run.pk]).get(run.pk)) is None:
        return {"patch": None}
    head, size = Patch.objects.values_list(Substr("content", Value(1), Value(MOST_PATCH)), Length("content")).get(pk=patch.pk)
    return {"patch": patch, "patch_html": patch_html(bytes(head)), "patch_size": size, "is_patch_cut": size > MOST_PATCH}


@login_required
@require_GET
def events(request: Request, pk: int) -> HttpResponse:
    """A page of the log for the scripts of the run's page."""
    found = _run(request, pk)
    return render(request, "tasks/run.html#page", {"run": found, "page": _page(request, found)})


@login_required
@require_GET
def raw_events(request: Request, pk: int) -> StreamingHttpResponse:
    """The whole log as JSON lines."""
    found = _run(request, pk)
    response = StreamingHttpResponse(_json_lines(found), content_type="application/x-ndjson")
    response["Content-Disposition"] = f'attachment; filename="run-{found.pk}.events.jsonl"'
    return response


async def _json_lines(run: Run) -> AsyncIterator[str]:
    def next_events(last: int) -> list[Event]:
        return list(Event.objects.filter(run=run, seq__gt=last).order_by("seq")[:EVENTS_AT_ONCE])

    last = 0
    while found := await sync_to_async(next_events)(last):
        last = found[-1].seq
        rows = ({"seq": e.seq, "turn": e.turn_id, "kind": e.kind, "at": e.at.isoformat(), "data": e.data} for e in found)
        yield "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


@login_required
@require_GET
def patch(request: Request, pk: int) -> HttpResponse:
    """The newest patch as it is, ready for `git apply --index --allow-empty`. Its bytes are the agent's: plain text, never sniffed."""
    newest = newest_patches([_run(request, pk).pk]).get(pk)
    content = bytes(newest.content) if newest else b""
    response = HttpResponse(content, content_type="text/plain; charset=utf-8", status=200 if newest else 404)
    response["X-Content-Type-Options"] = "nosniff"
    if "download" in request.GET:
        response["Content-Disposition"] = f'attachment; filename="run-{pk}.patch"'
    return response


@action("run")
def stop(request: Request, pk: int) -> HttpResponse:
    found = _run(request, pk)
    services.cancel_run(run=found, by=request.user)
    return done(request, found)


@action("run")
def retry(request: Request, pk: int) -> HttpResponse:
    new = services.retry_run(run=_run(request, pk), by=request.user)
    return go(request, new) if "open" in request.POST else done(request, new.task)


@action("run")
def follow_up(request: Request, pk: int) -> HttpResponse:
    found = _run(request, pk)
    form = FollowUpForm(request.POST)
    return redirect(found) if form.submit(run=found, by=request.user) else _render(request, found, form)
