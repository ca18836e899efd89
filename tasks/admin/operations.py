"""Long chores, and starting again what failed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from tasks import operating
from tasks.admin.base import ReadOnly, act, shown_on_one_line
from tasks.models import Operation


@admin.register(Operation)
class Operations(ReadOnly):
    list_display = [
        "id", "kind", "subject", "status", "percent", shown_on_one_line("progress"), "tries", "created_at", "finished_at",
        shown_on_one_line("error"),
    ]  # fmt: skip
    list_filter = ["status", "created_at"]
    search_fields = ["=subject", "=kind"]
    search_help_text = "Subject (repo:7) or kind"
    actions = ["start_again"]

    @admin.action(description="Start again (failed ones)")
    def start_again(self, request: HttpRequest, queryset: QuerySet[Operation]) -> None:
        by: Any = request.user
        act(
            request,
            queryset,
            lambda operation: operating.start_operation_again(operation=operation, by=by),
            ("operation is started again.", "operations are started again."),
        )
