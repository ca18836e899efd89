"""What of runs is to be on GitHub, how far that has come, and doing again what failed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from tasks import operating
from tasks.admin.base import ReadOnly, act, linked, shown_on_one_line
from tasks.errors import Conflict
from tasks.github import pulls
from tasks.models import Operation, Publication, User


class StateFilter(admin.SimpleListFilter):
    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("failed", "Failed"), ("conflicts", "In conflict"), ("refused", "Labels or reviewers refused"), ("pushed", "Pushed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "failed":
                return queryset.exclude(error="")
            case "conflicts":
                return queryset.exclude(conflicts=[])
            case "refused":
                return queryset.exclude(refused=[])
            case "pushed":
                return queryset.filter(error="").exclude(pushed="")
            case _:
                return queryset


@admin.register(Publication)
class Publications(ReadOnly):
    list_display = [
        "id", linked("run"), linked("by"), shown_on_one_line("branch_name"), "wants_pull_request", "state", "error_code",
        shown_on_one_line("error"), "updated_at",
    ]  # fmt: skip
    list_select_related = ["run", "by"]
    list_filter = [StateFilter, "wants_pull_request", "updated_at"]
    search_fields = ["=branch"]  # and see below
    search_help_text = "Number of the run, user, kind of error, or whole name of a branch"
    deferred = ["body", "message", "conflicts", "settled"]
    actions = ["run_again"]

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if term.isdecimal():
            return (queryset.filter(run=int(term)) if len(term) <= 18 else queryset.none()), False
        named = Q(branch=term) | Q(branch="", run__branch=term) | Q(by__username=term) | Q(error_code=term)
        return (queryset.filter(named) if term else queryset), False

    @admin.display(description="state")
    def state(self, publication: Publication) -> str:
        if publication.error:
            return "in conflict" if publication.error_code == "conflicts" else "failed"
        if publication.refused:
            return "labels or reviewers refused"
        return "pushed" if publication.pushed else "not pushed yet"

    @admin.action(description="Run the operation again (failed ones)")
    def run_again(self, request: HttpRequest, queryset: QuerySet[Publication]) -> None:
        by: Any = request.user
        act(request, queryset, lambda publication: _run_again(publication, by), ("is tried again.", "are tried again."))


def _run_again(publication: Publication, by: User) -> Operation:
    operation = pulls.operation_of(publication.run)
    if operation is None:
        raise Conflict("No operation is known of it any more. Publish from the run's page.")
    return operating.start_operation_again(operation=operation, by=by)
