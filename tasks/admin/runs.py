"""Runs and all that belongs to them. Events have a page of their own: a key of two columns is nothing the administration knows."""

from __future__ import annotations

import json
from typing import Any, cast

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.db.models.fields.json import KeyTextTransform
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from agents.adapters.base import ErrorClass
from agents.registry import ADAPTERS
from tasks import operating, services
from tasks.admin.base import ReadOnly, act, linked, shown_on_one_line
from tasks.admin.lookup import OwnerFilter, RepoFilter
from tasks.models import Artifact, EventKind, Patch, PullRequest, Run, Sandbox, Task, Turn
from tasks.templatetags.shown import name

EVENTS_AT_ONCE = 100
MOST_SHOWN = 20_000  # characters of one event


class AgentFilter(admin.SimpleListFilter):
    """By the agents there are, not by a look through all runs."""

    title = parameter_name = "agent"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, adapter.label) for name, adapter in ADAPTERS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(agent=self.value()) if self.value() else queryset


class ErrorFilter(admin.SimpleListFilter):
    """By the class of the error, as agents' adapters tell them apart."""

    title, parameter_name = "kind of error", "error"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(kind), kind.replace("_", " ").capitalize()) for kind in ErrorClass]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(error_class=self.value()) if self.value() else queryset


class BackendFilter(admin.SimpleListFilter):
    title = parameter_name = "backend"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("local", "Local"), ("e2b", "E2B")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(backend=self.value()) if self.value() else queryset


class OfRuns(ReadOnly):
    """Rows that belong to a run, found by its number."""

    list_select_related = ["run"]
    search_fields = ["=run__id"]
    search_help_text = "Number of the run"

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        if not search_term.strip():
            return queryset, False
        is_number = search_term.strip().isdecimal() and len(search_term) <= 18
        return (queryset.filter(run=int(search_term)) if is_number else queryset.none()), False


@admin.register(Run)
class Runs(ReadOnly):
    list_display = [
        "id", "status", "stage", "label", linked("task"), "owner", shown_on_one_line("error"), "queued_at", "started_at", "finished_at",
    ]  # fmt: skip
    list_filter = ["status", "stage", RepoFilter, OwnerFilter, AgentFilter, ErrorFilter, BackendFilter, "queued_at"]
    list_select_related = ["task__owner"]
    search_fields = ["=id"]  # and see below
    search_help_text = "Number of the run or its task, or words of the task or of its repository's name"
    more = ["events"]
    actions = ["stop", "retry"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("options", "task__prompt", "task__search")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Run], search_term: str) -> tuple[QuerySet[Run], bool]:
        term = search_term.strip()
        if term.isdecimal() and len(term) <= 18:
            return queryset.filter(Q(pk=int(term)) | Q(task=int(term))), False
        return (queryset.filter(task__in=Task.objects.matching(term).values("pk")) if term else queryset), False

    @admin.display(description="owner")
    def owner(self, run: Run) -> str:
        return run.task.owner.get_username()

    @admin.display(description="events")
    def events(self, run: Run) -> str:
        return format_html('<a href="{}">All events</a>', reverse("admin:tasks_run_events", args=[run.pk]))

    @admin.action(description="Stop")
    def stop(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        by: Any = request.user
        act(
            request,
            queryset.select_related("task"),
            lambda run: services.cancel_run(run=run, by=by),
            ("run is being stopped.", "runs are being stopped."),
            nothing="It is over, or being stopped, already.",
        )

    @admin.action(description="Retry (a new attempt)")
    def retry(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        by: Any = request.user
        act(
            request,
            queryset.select_related("task__repo"),
            lambda run: services.retry_run(run=run, by=by),
            ("new attempt is queued.", "new attempts are queued."),
        )

    def get_urls(self) -> list[URLPattern]:
        events = self.admin_site.admin_view(self.events_view)
        return [path("<int:pk>/events/", events, name="tasks_run_events"), *super().get_urls()]

    def events_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The events of a run, by pages from `after` or up to `before`; `kind` leaves only one of the kinds."""
        run = get_object_or_404(Run.objects.select_related("task"), pk=pk)
        kind = request.GET.get("kind", "")
        kind = kind if kind in EventKind.values else ""
        found = run.events.filter(**({"kind": kind} if kind else {}))
        after, before = (_number(request.GET.get(name, "")) for name in ("after", "before"))
        if before is not None:
            rows = list(found.filter(seq__lt=before).order_by("-seq")[:EVENTS_AT_ONCE])[::-1]
        else:
            rows = list(found.filter(seq__gt=after or 0).order_by("seq")[:EVENTS_AT_ONCE])
        shown = [(event, _cut(json.dumps(event.data, indent=2, ensure_ascii=False))) for event in rows]
        context = {
            **self.admin_site.each_context(request),
            "title": f"Events of run {run.pk}",
            "opts": self.opts,
            "run": run,
            "rows": shown,
            "kind": kind,
            "kinds": EventKind.values,
            "earlier": rows[0].seq if rows and found.filter(seq__lt=rows[0].seq).exists() else None,
            "later": rows[-1].seq if rows and found.filter(seq__gt=rows[-1].seq).exists() else None,
        }
        return TemplateResponse(request, "admin/tasks/run/events.html", context)


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) <= 18 else None


def _cut(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}\n… {len(text) - MOST_SHOWN:,} more characters"


@admin.register(Turn)
class Turns(OfRuns):
    list_display = ["id", linked("run"), "number", "status", "author", "created_at", "started_at", "finished_at"]
    list_filter = ["status", "created_at"]
    list_select_related = ["run", "author"]
    deferred = ["prompt", "outcome"]
    more = ["files"]

    @admin.display(description="attachments")
    def files(self, turn: Turn) -> str:
        return ", ".join(turn.attachments.values_list("name", flat=True)) or "–"


@admin.register(Sandbox)
class Sandboxes(OfRuns):
    list_display = [
        "id", linked("run"), "generation", "backend", "host", "template", linked("prepared"), "status", shown_on_one_line("notice"),
        "offset", "seen_at", "expires_at", "lost_at", "destroyed_at",
    ]  # fmt: skip
    list_filter = ["status", "created_at"]
    list_select_related = ["run", "prepared__repo"]
    deferred = ["parse_state", "record"]
    actions = ["destroy"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request).annotate(made_from=KeyTextTransform("template", "record"))
        return cast("QuerySet[Any]", rows)

    @admin.display(description="template")
    def template(self, sandbox: Any) -> str:
        return name(str(sandbox.made_from or "–"))

    @admin.action(description="Destroy")
    def destroy(self, request: HttpRequest, queryset: QuerySet[Sandbox]) -> None:
        by: Any = request.user
        act(
            request,
            queryset,
            lambda sandbox: operating.destroy_sandbox(sandbox=sandbox, by=by),
            ("sandbox is being destroyed.", "sandboxes are being destroyed."),
        )


@admin.register(Patch)
class Patches(OfRuns):
    list_display = ["id", linked("run"), "number", "kind", "additions", "deletions", "created_at"]
    list_filter = ["kind", "created_at"]
    list_select_related = ["run", "turn"]
    deferred = ["files", "left_out", "turn__prompt", "turn__outcome"]
    hidden = ["content"]

    @admin.display(description="turn")
    def number(self, patch: Patch) -> int:
        return patch.turn.number


@admin.register(Artifact)
class Artifacts(OfRuns):
    """What they are called and why some are not kept; their content is the run's owner's to see."""

    list_display = ["id", linked("run"), shown_on_one_line("path"), "size", shown_on_one_line("left_out"), "created_at"]
    list_filter = ["created_at"]
    hidden = ["content"]


@admin.register(PullRequest)
class PullRequests(OfRuns):
    list_display = ["id", linked("run"), "number", "state", "branch", "url", "created_at"]
    list_filter = ["state", "created_at"]
