"""Filters of lists by a row of another table, of which there may be thousands: looked for by a part of its name, and few are shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest

from tasks.models import Repo, User

MOST_FOUND = 10
MOST_TYPED = 100  # characters


class LookupFilter(admin.SimpleListFilter):
    """`rows` are those that can be chosen, `named` the fields that their names are looked for in, `path` leads to them from a row of
    the list. A GET form, so that it needs no script."""

    template = "admin/lookup_filter.html"
    rows: QuerySet[Any]
    named: tuple[str, ...]
    path: str

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: type[Model], model_admin: Any) -> None:
        self.chosen_name = str(self.parameter_name)
        self.typed_name = f"{self.chosen_name}_like"
        self.typed = params.pop(self.typed_name, [""])[-1].strip()[:MOST_TYPED]
        self.has_more = False
        super().__init__(request, params, model, model_admin)

    def expected_parameters(self) -> list[str | None]:
        return [self.chosen_name, self.typed_name]

    def has_output(self) -> bool:
        return True

    @property
    def _chosen(self) -> int | None:
        value = self.value() or ""
        return int(value) if value.isascii() and value.isdecimal() and len(value) <= 18 else None

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """What was chosen, and what is called as was typed. Two queries at most."""
        found = list(self.rows.filter(pk=self._chosen)) if self._chosen is not None else []
        if self.typed:
            like = Q(*((f"{name}__icontains", self.typed) for name in self.named), _connector=Q.OR)
            others = list(self.rows.filter(like).exclude(pk=self._chosen or 0).order_by("-pk")[: MOST_FOUND + 1])
            self.has_more = len(others) > MOST_FOUND
            found += others[:MOST_FOUND]
        return [(str(row.pk), self.label(row)) for row in found]

    def label(self, row: Any) -> str:
        return str(row)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        return queryset.none() if self._chosen is None else queryset.filter(**{self.path: self._chosen})

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        own = {self.chosen_name, self.typed_name, PAGE_VAR}
        self.kept = [(name, value) for name, value in changelist.params.items() if name not in own]
        yield {
            "selected": not self.value(),
            "query_string": changelist.get_query_string(remove=[self.chosen_name, self.typed_name]),
            "display": "All",
        }
        for pk, label in self.lookup_choices:
            yield {
                "selected": pk == self.value(),
                "query_string": changelist.get_query_string({self.chosen_name: pk}, [self.typed_name]),
                "display": label,
            }


class RepoFilter(LookupFilter):
    title = "repository"
    parameter_name = "repo"
    rows = Repo.objects.select_related("owner").only("name", "owner__username")
    named = ("name", "source")
    path = "task__repo"

    def label(self, row: Repo) -> str:
        return f"{row.name} of {row.owner}"


class TasksRepoFilter(RepoFilter):
    path = "repo"


class OwnerFilter(LookupFilter):
    title = parameter_name = "owner"
    rows = User.objects.only("username")
    named = ("username",)
    path = "task__owner"


class TasksOwnerFilter(OwnerFilter):
    path = "owner"
