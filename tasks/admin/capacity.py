"""What keeps new sandboxes of E2B waiting."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from tasks import operating
from tasks.admin.base import ReadOnly, act, shown_on_one_line
from tasks.models import CreationBucket
from tasks.running import capacity


@admin.register(CreationBucket)
class CreationBuckets(ReadOnly):
    list_display = ["backend", "awake", "closed_until", shown_on_one_line("reason"), "refusals", "losses", "wake_at", "no_headers_until"]
    actions = ["open_now"]

    @admin.display(description="awake now")
    def awake(self, bucket: CreationBucket) -> str:
        return f"{capacity.awake()} of {settings.E2B_MAX_SANDBOXES}" if bucket.backend == capacity.E2B else "–"

    @admin.display(description="losses")
    def losses(self, bucket: CreationBucket) -> str:
        until = capacity.broken_until() if bucket.backend == capacity.E2B else None
        return capacity.broken(until) if until else "–"

    @admin.action(description="Open it now")
    def open_now(self, request: HttpRequest, queryset: QuerySet[CreationBucket]) -> None:
        by: Any = request.user
        act(
            request,
            queryset,
            lambda bucket: operating.open_creations(bucket=bucket, by=by),
            ("backend is asked for sandboxes again.", "backends are asked for sandboxes again."),
        )
