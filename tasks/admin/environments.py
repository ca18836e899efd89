"""What setup scripts left behind for later runs."""

from __future__ import annotations

from django.contrib import admin

from tasks.admin.base import ReadOnly, linked, shown_on_one_line
from tasks.models import PreparedEnvironment


@admin.register(PreparedEnvironment)
class PreparedEnvironments(ReadOnly):
    list_display = [
        "id", linked("repo"), "backend", "host", "status", "seconds", "created_at", "used_at", "expires_at", shown_on_one_line("error"),
    ]  # fmt: skip
    list_filter = ["status", "created_at"]
    list_select_related = ["repo"]
    deferred = ["log"]
