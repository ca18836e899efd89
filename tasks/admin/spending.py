"""Keys, prices, budgets, and what was asked of models. A key's secret is written here and never read."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from tasks import credentials
from tasks.admin.base import Editable, ReadOnly, act, is_operator, linked, shown_on_one_line
from tasks.admin.runs import OfRuns
from tasks.errors import AppError
from tasks.models import Budget, BudgetScope, Credential, ModelCall, Price, User
from tasks.models.credential import PROVIDERS


class SiteKeyForm(forms.ModelForm):  # type: ignore[type-arg]  # it is generic for the type checker only
    """A key of the site, in place of the one there was. It is saved by the verb, which asks the provider first."""

    by: User
    secret = forms.CharField(label="Key or token", strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "off"}))

    class Meta:
        model = Credential
        fields = ["provider", "kind", "secret", "base_url"]
        labels = {"base_url": "Address of the API"}
        help_texts = {
            "base_url": "Only for a proxy or a service that speaks the provider's API; the key is sent nowhere else.",
            "provider": "The site's key of a provider takes the place of the one there was.",
        }

    def _post_clean(self) -> None:
        if self.errors:
            return
        try:
            self.instance = credentials.save_credential(by=self.by, for_site=True, **self.cleaned_data)
        except AppError as error:
            name = getattr(error, "field", "")
            self.add_error(name if name in self.fields else None, error.message)


@admin.register(Credential)
class Credentials(ReadOnly):
    list_display = [
        "id",
        "owner_or_site",
        "provider",
        "kind",
        "hint",
        shown_on_one_line("base_url"),
        "checked_at",
        shown_on_one_line("problem"),
    ]
    list_filter = ["provider", "kind"]
    list_select_related = ["owner"]
    search_fields = ["owner__username"]
    search_help_text = "Owner"
    hidden = ["secret_encrypted"]
    actions = ["check_again", "remove"]

    @admin.display(description="owner")
    def owner_or_site(self, credential: Credential) -> str:
        return credential.owner.get_username() if credential.owner else "the site"

    @admin.action(description="Check again (the site's)")
    def check_again(self, request: HttpRequest, queryset: QuerySet[Credential]) -> None:
        by: Any = request.user
        verb = credentials.check_credential
        act(request, queryset, lambda key: verb(credential=key, by=by), ("key is checked.", "keys are checked."))

    @admin.action(description="Remove")
    def remove(self, request: HttpRequest, queryset: QuerySet[Credential]) -> None:
        by: Any = request.user
        verb = credentials.delete_credential
        act(request, queryset, lambda key: verb(credential=key, by=by), ("key is removed.", "keys are removed."))

    @method_decorator(sensitive_post_parameters("secret"))
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        return super().add_view(request, form_url, {"title": "Add a key of the site", **(extra_context or {})})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return is_operator(request)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        return type("OperatorsKeyForm", (SiteKeyForm,), {"by": request.user})

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return super().get_fields(request, obj) if obj else list(SiteKeyForm.base_fields)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return self.get_fields(request, obj) if obj else []

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Any:
        return form.instance

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """The verb has saved it."""
        if obj.problem:
            messages.warning(request, obj.problem)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """There is nothing related."""


@admin.register(Price)
class Prices(Editable):
    """In USD for a million tokens."""

    list_display = ["model", "input_usd", "cached_usd", "cache_write_usd", "output_usd"]
    search_fields = ["model"]
    search_help_text = "Model"
    ordering = ["model"]
    told = ["input_usd", "cached_usd", "cache_write_usd", "output_usd"]
    formfield_overrides = {models.DecimalField: {"min_value": 0}}


class BudgetForm(forms.ModelForm):  # type: ignore[type-arg]  # it is generic for the type checker only
    usd = forms.DecimalField(min_value=Decimal(0), max_digits=10, decimal_places=2, label="USD")

    class Meta:
        model = Budget
        fields = ["scope", "user", "usd"]
        help_texts = {"user": "Only for a budget of one person, which counts instead of the one for each person."}

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = self.cleaned_data
        scope, user = given.get("scope"), given.get("user")
        if user and scope and scope != BudgetScope.USER:
            self.add_error("user", f"Only a budget “{BudgetScope.USER.label}” can be that of one person.")
        elif scope and Budget.objects.filter(scope=scope, user=user).exclude(pk=self.instance.pk).exists():
            self.add_error("user" if user else "scope", "There is such a budget already. Change that one.")
        return given


@admin.register(Budget)
class Budgets(Editable):
    form = BudgetForm
    list_display = ["scope", "user", "usd"]
    list_select_related = ["user"]
    raw_id_fields = ["user"]
    ordering = ["scope", "user"]
    told = ["scope", "user", "usd"]


class ProviderFilter(admin.SimpleListFilter):
    """By the providers there are, not by a look through all calls."""

    title = parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(provider), label) for provider, label in PROVIDERS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(provider=self.value()) if self.value() else queryset


@admin.register(ModelCall)
class ModelCalls(OfRuns):
    list_display = [
        "id", linked("run"), "user", shown_on_one_line("model"), "status", "is_whole", "input_tokens", "cached_tokens", "output_tokens",
        "cost_usd", "seconds", "at",
    ]  # fmt: skip
    list_filter = [ProviderFilter, "at"]
    list_select_related = ["run", "user"]
