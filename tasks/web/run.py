"""A run: its log as it is written, and what it has changed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET

from tasks import services
from tasks.models import Check, Comment, Event, Mode, Patch, Run, RunStatus, Scope, Turn, TurnKind
from tasks.review.diffs import anchor
from tasks.web import log
from tasks.web.access import Request, action, done, go, login_or_token
from tasks.web.artifacts import artifacts_of
from tasks.web.cards import amount, cards_of, for_cards, newest_patches
from tasks.web.check_chips import CheckPanel
from tasks.web.forms import FollowUpForm, can_steer
from tasks.web.network import attempts_of
from tasks.web.plans import PlanForm, plan_of
from tasks.web.publishing import Publishing
from tasks.web.pull_panel import PullPanel
from tasks.web.sandboxes import places_of, steps_of

EVENTS_AT_ONCE = 500
MOST_FILES = 500  # of a change in the list beside the conversation


def find_run(request: Request, pk: int) -> Run:
    """One's own run of this id; else 404."""
    return get_object_or_404(_own(request), pk=pk)


def _own(request: Request) -> QuerySet[Run]:
    return Run.objects.visible_to(request.user).select_related("task__repo", "publication", "pull_request")


def _log_page(request: Request, run: Run) -> log.LogPage:
    """The page of the log that the address names: before or after a seq, else the newest."""
    for name, page in (("before", log.before), ("after", log.after)):
        if (seq := request.GET.get(name, "")).isdecimal() and len(seq) < 19:
            return page(run, int(seq))
    return log.newest(run)


# --- the page -----------------------------------------------------------------------------------------------------------


@login_required
@require_GET
def run(request: Request, pk: int) -> HttpResponse:
    """The page, or what its scripts ask for: how the run stands ("status"), or the side with its work ("work")."""
    siblings = ArraySubquery(Run.objects.filter(task=OuterRef("task")).order_by("pk").values("pk"))
    runs = for_cards(_own(request)).annotate(draft_count=Comment.objects.count_unsent(by=request.user), siblings=siblings)
    found = get_object_or_404(runs, pk=pk)
    log.load_turns(found)
    match request.htmx.target if request.htmx else None:
        case "status":
            return render(request, "tasks/run_status.html", _status(found, _patch(found)))
        case "work":
            shown = _work(request, found, _patch(found))
            is_seen = shown["version"] and shown["version"] == request.GET.get("seen")
            return HttpResponse(status=204) if is_seen else render(request, "tasks/run_work.html", shown)
    return page_with(request, found, FollowUpForm(run=found, mode=request.GET.get("mode", "")))


def page_with(request: Request, found: Run, form: FollowUpForm, plan: PlanForm | None = None) -> HttpResponse:
    """The page with its forms as they are filled in; `plan` is that of a plan that was refused."""
    log.load_turns(found)
    patch = _patch(found)
    context = _status(found, patch) | _work(request, found, patch, plan) | {"page": _log_page(request, found), "form": form}
    return render(request, "tasks/run.html", context, status=422 if form.errors or plan else 200)


def _patch(found: Run) -> Patch | None:
    return newest_patches([found.pk]).get(found.pk)


def _status(found: Run, patch: Patch | None) -> dict[str, Any]:
    """How a run stands, what waits, and its neighbors among the task's runs."""
    begun = [turn for turn in found.turns.all() if turn.status != RunStatus.QUEUED and turn.kind != TurnKind.REVERT]
    begun = [turn for turn in begun if turn.joined_id is None and (turn.started_at or turn.status != RunStatus.CANCELED)]
    siblings: list[int] = getattr(found, "siblings", None) or list(found.task.runs.order_by("pk").values_list("pk", flat=True))
    at = siblings.index(found.pk)
    return {
        "run": found,
        "task": found.task,
        "checks": _checks(found),
        "card": (card := cards_of([found], {found.pk: patch} if patch else {})[0]),
        "publishing": Publishing.of(found, card, patch) if card.pull_request or (patch and patch.files) else None,
        "panel": PullPanel.of(found, card.pull_request) if card.pull_request else None,
        "advice": _GO_ON if card.advice.startswith("Open the run") else card.advice,
        "turn": (turn := begun[-1] if begun else None),
        "is_answered": turn is not None and turn.mode == Mode.ASK and found.status == RunStatus.SUCCEEDED,
        "waiting": _follow_ups(found),
        "can_interrupt": found.status == RunStatus.RUNNING and not card.is_stopping,
        "can_steer": can_steer(found),
        "tokens": amount(found.input_tokens + found.output_tokens) if found.output_tokens else "",
        "place_among": f"{at + 1} of {len(siblings)}" if len(siblings) > 1 else "",
        "previous": siblings[at - 1] if at else None,
        "next": siblings[at + 1] if at + 1 < len(siblings) else None,
        "page_state": _PAGE_STATES.get(found.status, "running"),
    }


def _checks(found: Run) -> Check | None:
    """What this run does, when it is the one of a check."""
    return Check.objects.filter(run=found).select_related("patch__run").defer("patch__content").first() if found.task.is_trial else None


def _follow_ups(found: Run) -> list[Turn]:
    """Those that wait; not what is tried again by itself. `has_files` says that one cannot be given to an agent at work."""
    if not any(turn.status == RunStatus.QUEUED and turn.number > 1 for turn in found.turns.all()):
        return []
    files = Turn.attachments.through.objects.filter(turn=OuterRef("pk"))
    waiting = Turn.objects.filter(run=found, status=RunStatus.QUEUED, number__gt=1, started_at=None, kind=TurnKind.PROMPT)
    return list(waiting.order_by("number").only("number", "prompt", "mode", "run_id").annotate(has_files=Exists(files)))


_GO_ON = "A follow-up goes on in the same workspace; Retry begins anew from the base commit."
_PAGE_STATES: dict[str, str] = {
    RunStatus.WAITING: "waiting",
    RunStatus.SUCCEEDED: "done",
    RunStatus.CANCELED: "done",
    **dict.fromkeys((RunStatus.FAILED, RunStatus.ERRORED, RunStatus.INTERRUPTED), "failed"),
}


def _work(request: Request, found: Run, patch: Patch | None, refused: PlanForm | None = None) -> dict[str, Any]:
    """The tab that the address names, else the one that fits. `version` changes with what the tab shows; "" when it is to be shown
    anew each time."""
    plan = plan_of(found, refused)
    fitting = "plan" if plan and plan.can_approve else "changes"
    asked = "" if refused or "by_itself" in request.GET else request.GET.get("tab", "")
    is_asked = asked in _TABS or (asked == "plan" and plan is not None)
    tab = asked if is_asked else fitting
    shown = _TABS[tab](request, found, patch) if tab in _TABS else {}
    version = f"{patch.pk}-{patch.sha256[:16]}-{found.is_over}" if patch and tab == "changes" else ""
    check = CheckPanel.of(found, patch) if tab == "changes" else None
    version = f"{version}-{check.version}" if version and check else version
    version = plan.version if plan and tab == "plan" else version
    common = {"run": found, "task": found.task, "tab": tab, "is_asked": is_asked, "plan": plan, "patch": patch, "version": version}
    common |= {"check": check}
    return common | shown


def _listed(patch: Patch) -> list[tuple[str, dict[str, Any]]]:
    """The first files of a patch, each with its anchor on the page of the changes."""
    return [(anchor(file["path"]), file) for file in patch.files[:MOST_FILES]]


def _network(request: Request, found: Run, patch: Patch | None) -> dict[str, Any]:
    until = request.GET.get("until", "")
    return {"attempts": attempts_of(found, int(until) if until.isdecimal() and len(until) < 19 else None)}


_TABS: dict[str, Callable[[Request, Run, Patch | None], dict[str, Any]]] = {
    "changes": lambda request, found, patch: (
        {"listed": [(anchor(file["path"]), file) for file in patch.files[:MOST_FILES]]} if patch else {}
    ),
    "artifacts": lambda request, found, patch: {"artifacts": artifacts_of(found)},
    "network": _network,
    "sandbox": lambda request, found, patch: {"places": places_of(found), "steps": steps_of(found)},
}


@login_required
@require_GET
def events(request: Request, pk: int) -> HttpResponse:
    """A page of the log for the scripts of the run's page."""
    found = find_run(request, pk)
    return render(request, "tasks/run.html#page", {"run": found, "page": _log_page(request, found)})


@require_GET
@login_or_token(Scope.READ)
def raw_events(request: Request, pk: int) -> StreamingHttpResponse:
    """The whole log as JSON lines."""
    found = find_run(request, pk)
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


@require_GET
@login_or_token(Scope.READ)
def patch(request: Request, pk: int) -> HttpResponse:
    """The newest patch as it is, ready for `git apply --index --allow-empty`. Its bytes are the agent's: plain text, never sniffed."""
    newest = newest_patches([find_run(request, pk).pk]).get(pk)
    content = bytes(newest.content) if newest else b""
    response = HttpResponse(content, content_type="text/plain; charset=utf-8", status=200 if newest else 404)
    response["X-Content-Type-Options"] = "nosniff"
    if "download" in request.GET:
        response["Content-Disposition"] = f'attachment; filename="run-{pk}.patch"'
    return response


@action("run")
def stop(request: Request, pk: int) -> HttpResponse:
    found = find_run(request, pk)
    services.cancel_run(run=found, by=request.user)
    return done(request, found.task if request.POST.get("to") == "task" else found)


@action("run")
def retry(request: Request, pk: int) -> HttpResponse:
    new = services.retry_run(run=find_run(request, pk), by=request.user)
    return go(request, new) if "open" in request.POST else done(request, new.task)


@action("run")
def follow_up(request: Request, pk: int) -> HttpResponse:
    found = find_run(request, pk)
    form = FollowUpForm(request.POST, request.FILES, run=found)
    sent = form.submit(by=request.user)
    if not request.htmx:
        return redirect(found) if sent else page_with(request, found, form)
    context = {"run": found, "form": FollowUpForm(run=found) if sent else form, "can_steer": can_steer(found)}
    return render(request, "tasks/run_composer.html#fields", context, status=200 if sent else 422)


@action("run")
def withdraw(request: Request, pk: int, number: int) -> HttpResponse:
    found = find_run(request, pk)
    services.withdraw_follow_up(turn=get_object_or_404(found.turns, number=number), by=request.user)
    return done(request, found)
