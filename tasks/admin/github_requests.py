"""What people ask for at GitHub, and what became of it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from tasks.admin.base import ReadOnly, linked, shown_on_one_line
from tasks.models import GitHubRequest


@admin.register(GitHubRequest)
class GitHubRequests(ReadOnly):
    list_display = [
        "id", shown_on_one_line("repository"), "number", "kind", shown_on_one_line("login"), "state", linked("task"),
        shown_on_one_line("outcome"), "created_at",
    ]  # fmt: skip
    list_filter = ["state", "kind", "created_at"]
    list_select_related = ["task"]
    search_fields = ["=repository", "=login"]
    search_help_text = "owner/name of the repository in small letters, or the login of who asked"
    hidden = ["key"]  # by it our answer is known

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("key", "task__prompt", "task__search")
