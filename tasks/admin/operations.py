"""Long chores, and starting again what failed."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from agents.packages import PACKAGES
from agents.registry import ADAPTERS
from sandboxes.e2b import template
from tasks import operating
from tasks.admin.base import ReadOnly, act, shown_on_one_line
from tasks.errors import AppError, InvalidInput
from tasks.models import Operation
from tasks.running import templates
from tasks.running.operations import UNFINISHED

REFRESH_S = 3
MOST_SHOWN = 20_000  # characters of a log, the last of them


class TemplateForm(forms.Form):
    cpu = forms.IntegerField(label="Processors", initial=template.CPU, min_value=1, max_value=templates.MOST_CPU)
    memory_mb = forms.IntegerField(
        label="Memory in MB", initial=template.MEMORY_MB, min_value=templates.LEAST_MB, max_value=templates.MOST_MB, step_size=2
    )
    anew = forms.BooleanField(label="Also when E2B has it", required=False)

    def submit(self, by: Any) -> Operation | None:
        """The operation that builds it; None when something is wrong, which the form then says."""
        if not self.is_valid():
            return None
        try:
            return operating.build_template(by=by, wanted=templates.wanted(**self.cleaned_data))
        except AppError as error:
            self.add_error(error.field or None if isinstance(error, InvalidInput) else None, error.message)
            return None


@admin.register(Operation)
class Operations(ReadOnly):
    list_display = [
        "id", "kind", "subject", "status", "percent", shown_on_one_line("progress"), "tries", "created_at", "finished_at",
        shown_on_one_line("error"),
    ]  # fmt: skip
    list_filter = ["status", "created_at"]
    search_fields = ["=subject", "=kind"]
    search_help_text = "Subject (repo:7) or kind"
    deferred = ["log"]
    actions = ["start_again"]

    @admin.action(description="Start again (failed ones)")
    def start_again(self, request: HttpRequest, queryset: QuerySet[Operation]) -> None:
        by: Any = request.user
        act(
            request,
            queryset,
            lambda operation: operating.start_operation_again(operation=operation, by=by),
            ("operation is started again.", "operations are started again."),
        )

    def get_urls(self) -> list[URLPattern]:
        page = self.admin_site.admin_view(self.template_view)
        return [path("e2b-template/", page, name="tasks_operation_e2b_template"), *super().get_urls()]

    def template_view(self, request: HttpRequest) -> HttpResponse:
        """Which template E2B sandboxes are made from, and how the newest build is; on POST one is begun."""
        form = TemplateForm(request.POST or None)
        if request.method == "POST" and form.submit(request.user):
            messages.success(request, "The template is being built.")
            return redirect("admin:tasks_operation_e2b_template")
        newest = Operation.objects.filter(kind=templates.KIND).order_by("-pk").first()
        context = {
            **self.admin_site.each_context(request),
            "title": "Template of E2B sandboxes",
            "opts": self.opts,
            "form": form,
            "has_key": bool(settings.E2B_API_KEY),
            "setting": settings.E2B_TEMPLATE,
            "chosen": templates.chosen(),
            "public": [(one.label, templates.PUBLIC.get(one.name, templates.BASE)) for one in ADAPTERS.values() if one.package],
            "pins": [f"{package.name} {package.version}" for package in PACKAGES.values()],
            "newest": newest,
            "log": newest.log[-MOST_SHOWN:] if newest else "",
            "building": templates.Wanted.of(newest.subject) if newest else None,
            "is_going_on": newest is not None and newest.status in UNFINISHED,
        }
        response = TemplateResponse(
            request, "admin/tasks/operation/e2b_template.html", context, status=422 if form.is_bound and form.errors else 200
        )
        if context["is_going_on"] and request.method == "GET":
            response["Refresh"] = str(REFRESH_S)
        return response
