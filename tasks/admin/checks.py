"""What repositories' check commands said of patches and base commits."""

from __future__ import annotations

from django.contrib import admin

from tasks.admin.base import ReadOnly, linked, shown_on_one_line
from tasks.models import Check


@admin.register(Check)
class Checks(ReadOnly):
    list_display = [
        "id", linked("repo"), linked("run"), "base_commit", "status", "exit_code", "seconds", "created_at", shown_on_one_line("error"),
    ]  # fmt: skip
    list_filter = ["status", "created_at"]
    list_select_related = ["repo", "run"]
    deferred = ["output", "command"]
