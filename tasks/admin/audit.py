"""The audit log, to read and to search. Nobody changes it, which the database sees to."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from tasks.admin.base import ReadOnly, shown_on_one_line
from tasks.models import AuditEntry


@admin.register(AuditEntry)
class AuditEntries(ReadOnly):
    list_display = ["id", "at", "kind", shown_on_one_line("username"), shown_on_one_line("subject"), "told", "address"]
    list_filter = ["kind", "at"]
    search_fields = ["=username", "=subject"]
    search_help_text = "Username, or what it was done to (run:7, user:3)"

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        """What somebody did and what was done to them; each by an index."""
        term = search_term.strip()
        return (queryset.filter(Q(username=term) | Q(subject=term)) if term else queryset), False

    @admin.display(description="detail")
    def told(self, entry: AuditEntry) -> Any:
        words = (f"{key}: {', '.join(value) if isinstance(value, list) else value}" for key, value in entry.detail.items())
        return shown_on_one_line("text", 200)(_Text("; ".join(words)))


class _Text:
    def __init__(self, text: str) -> None:
        self.text = text
