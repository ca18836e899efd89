"""What users work with: repositories, tasks, prompt templates, attachments."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest

from tasks.admin.base import ReadOnly, linked, shown_on_one_line
from tasks.admin.lookup import TasksOwnerFilter, TasksRepoFilter
from tasks.models import Attachment, PromptTemplate, Repo, Task


@admin.register(Repo)
class Repos(ReadOnly):
    list_display = ["id", shown_on_one_line("name"), "owner", shown_on_one_line("source"), "network_preset", "mirrored_at", "removed_at"]
    list_filter = ["network_preset", "is_local", ("removed_at", admin.EmptyFieldListFilter)]
    list_select_related = ["owner"]
    search_fields = ["name", "source", "owner__username"]
    search_help_text = "Name, address or owner"
    deferred = ["setup_script", "check_command"]


@admin.register(Task)
class Tasks(ReadOnly):
    list_display = ["id", shown_on_one_line("title"), "owner", linked("repo"), "mode", "base_branch", "created_at", "archived_at"]
    list_filter = [TasksRepoFilter, TasksOwnerFilter, "mode", "is_trial", ("archived_at", admin.EmptyFieldListFilter), "created_at"]
    list_select_related = ["owner", "repo"]
    search_fields = ["title"]  # and see below
    search_help_text = "Number, or words of the title, the prompt or the repository's name"
    deferred = ["prompt"]
    hidden = ["search"]

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Task], search_term: str) -> tuple[QuerySet[Task], bool]:
        """By the index that the list of tasks is searched with."""
        if search_term.isdecimal() and len(search_term) <= 18:
            return queryset.filter(pk=int(search_term)), False
        found = Task.objects.matching(search_term)
        return (queryset.filter(pk__in=found.values("pk")) if search_term.strip() else queryset), False


@admin.register(PromptTemplate)
class PromptTemplates(ReadOnly):
    list_display = ["id", shown_on_one_line("name"), "owner", "created_at", "updated_at"]
    list_select_related = ["owner"]
    search_fields = ["name", "owner__username"]
    search_help_text = "Name or owner"
    deferred = ["prompt"]


@admin.register(Attachment)
class Attachments(ReadOnly):
    """Their names and sizes; what is in them is their owner's."""

    list_display = ["id", shown_on_one_line("name"), "owner", "content_type", "size", "is_drafts", "created_at"]
    list_filter = ["created_at"]
    list_select_related = ["owner"]
    search_fields = ["name", "owner__username"]
    search_help_text = "Name or owner"
    hidden = ["content"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        given = Attachment.turns.through.objects.filter(attachment=OuterRef("pk"))
        found: QuerySet[Any] = super().get_queryset(request).annotate(is_given=Exists(given))
        return found

    @admin.display(description="of a draft", boolean=True)
    def is_drafts(self, row: Any) -> bool:
        return not row.is_given
