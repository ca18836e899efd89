"""Webhook deliveries of GitHub's, what became of them, and working on them again."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from tasks import operating
from tasks.admin.base import ReadOnly, act, shown_on_one_line
from tasks.github.webhook_events import HANDLERS
from tasks.models import Delivery


class EventFilter(admin.SimpleListFilter):
    """By the events that something is done with, not by a look through all deliveries."""

    title = parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in HANDLERS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(event=self.value()) if self.value() else queryset


@admin.register(Delivery)
class Deliveries(ReadOnly):
    list_display = [
        "id", "event", shown_on_one_line("action"), shown_on_one_line("repository"), "status", shown_on_one_line("outcome"), "tries",
        "received_at", "finished_at",
    ]  # fmt: skip
    list_filter = ["status", EventFilter, "received_at"]
    search_fields = ["=delivery_id", "=repository"]
    search_help_text = "Id of the delivery, or owner/name of the repository"
    deferred = ["payload"]
    actions = ["run_again"]

    @admin.action(description="Run again")
    def run_again(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        by: Any = request.user
        act(
            request,
            queryset,
            lambda delivery: operating.run_delivery_again(delivery=delivery, by=by),
            ("delivery is worked on again.", "deliveries are worked on again."),
        )
