"""Users, and what lets them in. Users are added and changed here; who is not to come any more is made inactive."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet, Sum
from django.http import HttpRequest
from django.utils import timezone

from tasks import audit, tokens
from tasks.admin.base import Audited, BoundedPaginator, ReadOnly, act, is_operator, shown_on_one_line
from tasks.github import people
from tasks.models import ApiToken, AuditKind, Budget, BudgetScope, LoginLink, ModelCall, Quota, QuotaScope, User
from tasks.running import model_access
from tasks.web.cards import dollars

for model in (EmailAddress, SocialAccount, SocialApp, SocialToken):  # allauth's, none of which has rows here
    admin.site.unregister(model)


class OfPerson(admin.TabularInline):  # type: ignore[type-arg]
    """The one row that counts for this person instead of that for each person. Whoever may change the user may change it."""

    max_num = 1
    extra = 0

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_operator(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_operator(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_operator(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_operator(request)


class PersonsBudgetForm(forms.ModelForm):  # type: ignore[type-arg]
    usd = forms.DecimalField(min_value=Decimal(0), max_digits=10, decimal_places=2, label="USD a month")

    class Meta:
        model = Budget
        fields = ["usd"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.scope = BudgetScope.USER


class PersonsBudget(OfPerson):
    model = Budget
    form = PersonsBudgetForm
    verbose_name_plural = "budget"


class PersonsQuotaForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Quota
        fields = ["at_once", "a_day"]
        labels = {"at_once": "Runs at once", "a_day": "Runs a day"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.scope = QuotaScope.USER


class PersonsQuota(OfPerson):
    model = Quota
    form = PersonsQuotaForm
    verbose_name_plural = "quota"


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
        ("Times and money", {"fields": ("last_login", "date_joined", "expires_at", "spent")}),
    )
    readonly_fields = ["last_login", "date_joined", "expires_at", "spent"]
    inlines = [PersonsBudget, PersonsQuota]
    filter_horizontal = ("groups",)
    told = ["is_active", "is_staff", "is_superuser"]
    kinds = (AuditKind.USER_ADDED, AuditKind.USER_CHANGED)

    @admin.display(description="spent")
    def spent(self, user: User) -> str:
        """This month, and the budget that it is of; calls that no price is known for cost nothing here."""
        calls = ModelCall.objects.filter(user=user, at__gte=model_access.month_began(timezone.now()))
        sum_usd = calls.aggregate(sum=Sum("cost_usd", default=Decimal(0)))["sum"]
        budget = next((f" of ${one.budget_usd:.2f}" for one in model_access.spent(user.pk) if one.scope == BudgetScope.USER), "")
        return f"{dollars(sum_usd)}{budget} this month"

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        return self.inlines if obj else []  # a new user is saved first

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        super().save_formset(request, form, formset, change)
        by: Any = request.user
        for row in formset.new_objects:
            audit.record(AuditKind.ADDED, by=by, subject=row, name=str(row))
        for row, fields in formset.changed_objects:
            audit.record(AuditKind.CHANGED, by=by, subject=row, name=str(row), fields=list(fields))
        for row in formset.deleted_objects:
            audit.record(AuditKind.DELETED, by=by, subject=f"{row._meta.model_name}:{row.pk}", name=str(row))

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
