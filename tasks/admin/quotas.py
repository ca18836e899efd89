"""How many runs there may be."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.models import Group

from tasks.admin.base import Editable
from tasks.models import Quota, QuotaScope

admin.site.unregister(Group)


@admin.register(Group)
class Groups(Editable):
    """They are for quotas only: who is operator may all, and others nothing, whatever their groups."""

    fields = ["name"]
    search_fields = ["name"]
    ordering = ["name"]


class QuotaForm(forms.ModelForm):  # type: ignore[type-arg]  # it is generic for the type checker only
    class Meta:
        model = Quota
        fields = ["scope", "user", "group", "at_once", "a_day"]
        labels = {"at_once": "Runs at once", "a_day": "Runs a day"}
        help_texts = {
            "user": "Only for a quota of one person, which counts instead of the one for each person.",
            "group": "Only for a quota of a group, which its members share.",
            "at_once": "Those that start or run. Empty: not limited by this quota.",
            "a_day": "Those that are begun from midnight to midnight, UTC; follow-ups are not. Empty: not limited by this quota.",
        }

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = self.cleaned_data
        scope, user, group = given.get("scope"), given.get("user"), given.get("group")
        if user and scope and scope != QuotaScope.USER:
            self.add_error("user", f"Only a quota “{QuotaScope.USER.label}” can be that of one person.")
        elif scope and bool(group) != (scope == QuotaScope.GROUP):
            self.add_error("group", f"A quota “{QuotaScope.GROUP.label}” is that of a group, and no other is.")
        elif scope and Quota.objects.filter(scope=scope, user=user, group=group).exclude(pk=self.instance.pk).exists():
            self.add_error("scope", "There is such a quota already. Change that one.")
        return given


@admin.register(Quota)
class Quotas(Editable):
    form = QuotaForm
    list_display = ["scope", "user", "group", "at_once", "a_day"]
    list_select_related = ["user", "group"]
    raw_id_fields = ["user"]
    ordering = ["scope", "user", "group"]
    told = ["scope", "user", "group", "at_once", "a_day"]
