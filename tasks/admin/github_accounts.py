"""Who is connected to GitHub, whom the lists let in, and whom they let in no more."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from tasks.admin.base import ReadOnly, shown_on_one_line
from tasks.models import GitHubAccount

LET_IN, SHUT_OUT, CONNECTED = "let in by the lists", "not listed any more: shut out", "let in by an operator"


class EntryFilter(admin.SimpleListFilter):
    title = parameter_name = "entry"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        return [("listed", LET_IN), ("shut-out", SHUT_OUT), ("operator", CONNECTED)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[GitHubAccount]) -> QuerySet[GitHubAccount]:
        if self.value() == "operator":
            return queryset.filter(checked_at=None)
        if self.value() in ("listed", "shut-out"):
            return queryset.filter(checked_at__isnull=False, user__is_active=self.value() == "listed")
        return queryset


@admin.register(GitHubAccount)
class GitHubAccounts(ReadOnly):
    """Tokens are not shown, nor read."""

    list_display = ["id", shown_on_one_line("login"), "user", "entry", "kind", "expires_at", "refused_at", "checked_at", "created_at"]
    list_filter = [EntryFilter, "kind", ("refused_at", admin.EmptyFieldListFilter)]
    list_select_related = ["user"]
    search_fields = ["login", "user__username"]
    search_help_text = "Name at GitHub, or user"
    hidden = ["token_encrypted", "refresh_token_encrypted"]
    more = ["entry"]

    @admin.display(description="may come in")
    def entry(self, account: GitHubAccount) -> str:
        if account.checked_at is None:
            return CONNECTED
        return LET_IN if account.user.is_active else SHUT_OUT
