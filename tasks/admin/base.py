"""What all lists of the administration have in common: they are read-only, quick on big tables, and act through verbs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tasks import audit
from tasks.errors import AppError
from tasks.models import AuditKind
from tasks.templatetags.shown import name, plain

MOST_COUNTED = 10_000
MOST_AT_ONCE = 500  # rows that one action acts on


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # it is generic for the type checker only
    """Counts no further than MOST_COUNTED rows, and pages no further either; `has_more` says that there are more."""

    object_list: models.QuerySet[Any]

    @cached_property
    def _counted(self) -> int:
        return self.object_list.order_by().values("pk")[: MOST_COUNTED + 1].count()

    @cached_property
    def count(self) -> int:
        return min(self._counted, MOST_COUNTED)

    @property
    def has_more(self) -> bool:
        return self._counted > MOST_COUNTED


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]  # it is generic for the type checker only
    """Rows that belong to the machinery: operators see them, newest first, and nobody adds, changes or deletes any here.

    `deferred`: columns too big for a list. `hidden`: columns that are never shown, nor read. `more`: what a row's page shows
    besides its columns.
    """

    ordering = ["-pk"]
    sortable_by = ("id",)  # sorting by anything else would read the whole table
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # they are counts too
    paginator = BoundedPaginator
    list_per_page = 50
    list_max_show_all = 200
    view_on_site = False  # those pages are their owner's
    deferred: Sequence[str] = ()
    hidden: Sequence[str] = ()
    more: Sequence[str] = ()

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        return super().get_queryset(request).defer(*self.deferred, *self.hidden)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [*self.more, *(_field(field) for field in self.opts.fields if field.name not in self.hidden)]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return self.get_fields(request, obj)

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        return super().change_view(request, object_id, form_url, {"subtitle": object_id, **(extra_context or {})})

    def has_module_permission(self, request: HttpRequest) -> bool:
        return is_operator(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_operator(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class Audited(admin.ModelAdmin):  # type: ignore[type-arg]  # it is generic for the type checker only
    """What operators add, change and delete is written into the audit log: the names of the columns, and the values of those in `told`."""

    told: Sequence[str] = ()
    kinds: tuple[AuditKind, AuditKind] = (AuditKind.ADDED, AuditKind.CHANGED)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self._record(request, self.kinds[0], obj)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        fields = [name for part in message if isinstance(part, dict) for name in part.get("changed", {}).get("fields", [])]
        self._record(request, self.kinds[1], obj, fields=fields)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for obj in queryset:
            self._record(request, AuditKind.DELETED, obj)
        return super().log_deletions(request, queryset)

    def _record(self, request: HttpRequest, kind: AuditKind, obj: Any, **detail: list[str]) -> None:
        by: Any = request.user
        told = {name: str(getattr(obj, name)) for name in self.told if getattr(obj, name) is not None}
        audit.record(kind, by=by, subject=obj, name=str(obj), **told, **detail)


class Editable(Audited):
    """Rows that are for operators to add, change and delete: what they choose, and no machinery moves by."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    list_per_page = 100

    def has_module_permission(self, request: HttpRequest) -> bool:
        return is_operator(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_operator(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return is_operator(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_operator(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_operator(request)


def _field(field: models.Field[Any, Any]) -> Any:
    """How a column is shown on a row's page: what somebody wrote so that nothing in it hides."""
    if isinstance(field, models.ForeignKey):
        return linked(field.name)
    is_free = isinstance(field, models.CharField | models.TextField | models.JSONField) and not field.choices
    return shown_as_text(field.name) if is_free else field.name


def is_operator(request: HttpRequest) -> bool:
    return request.user.is_active and bool(getattr(request.user, "is_staff", False))


def act(
    request: HttpRequest, queryset: models.QuerySet[Any], deed: Callable[[Any], object], done: tuple[str, str], *, nothing: str = ""
) -> None:
    """Do `deed` to each row, and say how many it was done to (`done`: singular and plural) and why not to others.

    A deed that gives False changed nothing, which `nothing` explains.
    """
    count, refused = 0, Counter[str]()
    for row in queryset.order_by("pk")[:MOST_AT_ONCE]:
        try:
            if deed(row) is False:
                refused[nothing] += 1
            else:
                count += 1
        except AppError as error:
            refused[error.message] += 1
    if count:
        messages.success(request, f"{count} {done[0] if count == 1 else done[1]}")
    for why, number in refused.items():
        messages.warning(request, f"{number} left as {'it is' if number == 1 else 'they are'}: {why}")
    if queryset[MOST_AT_ONCE : MOST_AT_ONCE + 1].exists():
        messages.warning(request, f"Only the first {MOST_AT_ONCE} were looked at. Do it again for the others.")


def shown_on_one_line(field: str, most: int = 120) -> Any:
    """A column with the beginning of a text that somebody else wrote; `field` may lead to another row, as "run__error"."""

    @admin.display(description=field.rpartition("__")[2].replace("_", " "))
    def column(row: Any) -> SafeString | str:
        text = str(attrgetter(field.replace("__", "."))(row))
        return name(text if len(text) <= most else text[: most - 1] + "…") if text else "–"

    return column


def shown_as_text(field: str) -> Any:
    """Such a text, or JSON, in full, on a row's page."""

    @admin.display(description=field.replace("_", " "))
    def whole(row: Any) -> SafeString | str:
        value = getattr(row, field)
        text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
        return format_html('<pre class="text">{}</pre>', plain(text)) if value else "–"

    whole.__name__ = field  # the administration tells fields apart by it
    return whole


def linked(field: str) -> Any:
    """A column with a link to the row that `field` names."""

    @admin.display(description=field.replace("_", " "))
    def column(row: Any) -> SafeString | str:
        other = getattr(row, field)
        if other is None:
            return "–"
        address = reverse(f"admin:{other._meta.app_label}_{other._meta.model_name}_change", args=[other.pk])
        text = str(other)
        return format_html('<a href="{}">{}</a>', address, name(text if len(text) <= 80 else text[:79] + "…"))

    column.__name__ = field
    return column
