"""The operator's view of the rows: to look, seldom to change. Runs are moved by the verbs, never here."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest

from tasks.models import Operation, Patch, Repo, Run, Sandbox, Task, Turn, User

admin.site.site_header = admin.site.site_title = "asynccode"
admin.site.register(User, UserAdmin)


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]  # it is generic for the type checker only
    """Rows that belong to the machinery. Newest first; no count over tables that grow without end."""

    ordering = ["-pk"]
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Repo)
class RepoAdmin(ReadOnly):
    list_display = ["name", "owner", "source", "default_branch", "network_preset", "mirrored_at"]
    list_select_related = ["owner"]
    search_fields = ["name", "source", "owner__username"]


@admin.register(Task)
class TaskAdmin(ReadOnly):
    list_display = ["id", "title", "owner", "repo", "base_branch", "created_at", "archived_at"]
    list_select_related = ["owner", "repo"]
    search_fields = ["title", "owner__username", "repo__name"]


@admin.register(Run)
class RunAdmin(ReadOnly):
    list_display = ["id", "status", "stage", "label", "task", "generation", "queued_at", "started_at", "finished_at", "error"]
    list_filter = ["status", "stage", "agent", "backend"]
    list_select_related = ["task"]
    search_fields = ["task__title", "error"]


@admin.register(Turn)
class TurnAdmin(ReadOnly):
    list_display = ["id", "run", "number", "status", "author", "created_at", "started_at", "finished_at"]
    list_filter = ["status"]
    list_select_related = ["run", "author"]


@admin.register(Sandbox)
class SandboxAdmin(ReadOnly):
    list_display = ["id", "run", "generation", "backend", "host", "status", "offset", "seen_at", "expires_at", "destroyed_at"]
    list_filter = ["status", "backend", "host"]
    list_select_related = ["run"]


@admin.register(Patch)
class PatchAdmin(ReadOnly):
    list_display = ["id", "run", "turn", "kind", "additions", "deletions", "sha256", "created_at"]
    list_filter = ["kind"]
    list_select_related = ["run", "turn"]
    exclude = ["content"]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("content")


@admin.register(Operation)
class OperationAdmin(ReadOnly):
    list_display = ["id", "kind", "subject", "status", "percent", "progress", "tries", "started_at", "finished_at", "error"]
    list_filter = ["status", "kind"]
