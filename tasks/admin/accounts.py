"""Users, and what lets them in. Users are added and changed here; who is not to come any more is made inactive."""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest

from tasks import tokens
from tasks.admin.base import Audited, BoundedPaginator, ReadOnly, act, is_operator, shown_on_one_line
from tasks.github import people
from tasks.models import ApiToken, AuditKind, LoginLink, User

for model in (EmailAddress, SocialAccount, SocialApp, SocialToken):  # allauth's, none of which has rows here
    admin.site.unregister(model)


@admin.register(User)
class Users(Audited, UserAdmin):  # type: ignore[type-arg]
    """No deleting: a user's history goes with the user."""

    list_display = ["username", "display_name", "email", "is_active", "is_staff", "last_login", "date_joined"]
    list_filter = ["is_active", "is_staff"]
    search_fields = ["username", "display_name", "email"]
    search_help_text = "Name or e-mail address"
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Profile", {"fields": ("display_name", "email", "theme", "notify")}),
        ("May", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("Times", {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ["last_login", "date_joined"]
    filter_horizontal = ("groups",)
    told = ["is_active", "is_staff", "is_superuser"]
    kinds = (AuditKind.USER_ADDED, AuditKind.USER_CHANGED)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change and "is_active" in form.changed_data:
            people.decided_by_operator(obj)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return is_operator(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_operator(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(ApiToken)
class ApiTokens(ReadOnly):
    list_display = ["id", shown_on_one_line("name"), "hint", "user", "scope", "created_at", "expires_at", "last_used_at", "revoked_at"]
    list_filter = ["scope", ("revoked_at", admin.EmptyFieldListFilter)]
    list_select_related = ["user"]
    search_fields = ["name", "hint", "user__username"]
    search_help_text = "Name, beginning of the token, or user"
    hidden = ["digest"]
    actions = ["revoke"]

    @admin.action(description="Revoke")
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        by: Any = request.user
        act(
            request,
            queryset,
            lambda token: tokens.revoke_token(token=token, by=by),
            ("token is revoked.", "tokens are revoked."),
            nothing="It was revoked before.",
        )


@admin.register(LoginLink)
class LoginLinks(ReadOnly):
    list_display = ["id", "user", "created_at", "expires_at", "used_at"]
    list_filter = [("used_at", admin.EmptyFieldListFilter)]
    list_select_related = ["user"]
    search_fields = ["user__username"]
    search_help_text = "User"
    hidden = ["digest"]
