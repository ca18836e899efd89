"""Webhooks both ways: deliveries of GitHub's and working on them again; what is sent to users' own webhooks, and sending it again."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from tasks import operating, outgoing
from tasks.admin.base import ReadOnly, act, linked, shown_on_one_line
from tasks.github.webhook_events import HANDLERS
from tasks.models import Delivery, OutgoingDelivery, OutgoingEvent, OutgoingWebhook


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


class ToldFilter(admin.SimpleListFilter):
    title = parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(event.value, event.value) for event in OutgoingEvent]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(event=self.value()) if self.value() else queryset


@admin.register(OutgoingWebhook)
class OutgoingWebhooks(ReadOnly):
    """Users' own: where to is what they chose, and may have a secret in it, so that only the host is shown."""

    list_display = ["id", "owner", "host", shown_on_one_line("events"), "is_active", "created_at"]
    list_filter = ["is_active"]
    list_select_related = ["owner"]
    search_fields = ["=owner__username"]
    search_help_text = "Owner"
    hidden = ["url", "secret_encrypted"]
    more = ["host"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super(ReadOnly, self).get_queryset(request).defer("secret_encrypted")

    @admin.display(description="host")
    def host(self, webhook: OutgoingWebhook) -> str:
        return urlsplit(webhook.url).hostname or "–"


@admin.register(OutgoingDelivery)
class OutgoingDeliveries(ReadOnly):
    """To webhooks, and without one by e-mail."""

    list_display = [
        "id", "owner", linked("webhook"), "event", "state", "attempts", "status", shown_on_one_line("answer"), "created_at", "tried_at",
    ]  # fmt: skip
    list_filter = ["state", ToldFilter, "created_at"]
    list_select_related = ["owner", "webhook"]
    search_fields = ["=key", "=owner__username"]
    search_help_text = "Id of the message, or owner"
    deferred = ["payload", "webhook__secret_encrypted"]
    actions = ["send_again"]

    @admin.action(description="Send again")
    def send_again(self, request: HttpRequest, queryset: QuerySet[OutgoingDelivery]) -> None:
        by: Any = request.user
        act(
            request,
            queryset,
            lambda delivery: outgoing.send_again(delivery=delivery, by=by),
            ("message is sent again.", "messages are sent again."),
        )
