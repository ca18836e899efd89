"""What operators choose about agents: which are on, their models and arguments; and the presets of users, to look at."""

from __future__ import annotations

from django import forms
from django.contrib import admin

from agents.registry import ADAPTERS
from tasks.admin.base import Editable, ReadOnly, shown_on_one_line
from tasks.models import AgentModel, AgentSetting, Preset, RepoMcpServer

MOST_ARGS = 50
MOST_ARG = 1000  # characters


def _agents() -> list[tuple[str, str]]:
    return [(name, adapter.label) for name, adapter in ADAPTERS.items()]


class AgentSettingForm(forms.ModelForm):  # type: ignore[type-arg]  # it is generic for the type checker only
    agent = forms.ChoiceField(choices=_agents)

    class Meta:
        model = AgentSetting
        fields = ["agent", "is_on", "extra_args"]
        labels = {"is_on": "Is on", "extra_args": "More arguments"}
        help_texts = {
            "is_on": "One that is off can be chosen for no new task.",
            "extra_args": 'A list of arguments, put after all others: ["--verbose", "--depth=2"]',
        }

    def clean_extra_args(self) -> list[str]:
        args = self.cleaned_data["extra_args"]
        if not isinstance(args, list) or not all(isinstance(arg, str) for arg in args):
            raise forms.ValidationError('Write a list of texts, as in ["--verbose", "--depth=2"].')
        if len(args) > MOST_ARGS or any(not arg or len(arg) > MOST_ARG or not arg.isprintable() for arg in args):
            raise forms.ValidationError(f"Up to {MOST_ARGS} arguments, each with from 1 to {MOST_ARG:,} characters on one line.")
        return args


@admin.register(AgentSetting)
class AgentSettings(Editable):
    form = AgentSettingForm
    list_display = ["agent", "is_on", shown_on_one_line("extra_args")]
    ordering = ["agent"]
    told = ["is_on"]


class AgentModelForm(forms.ModelForm):  # type: ignore[type-arg]  # it is generic for the type checker only
    agent = forms.ChoiceField(choices=_agents)

    class Meta:
        model = AgentModel
        fields = ["agent", "name", "label", "position"]
        help_texts = {
            "name": "As the agent takes it. As soon as an agent has one model here, it offers those that are here and no others.",
            "label": "What pages call it; without one, its name.",
            "position": "The lowest comes first, and is the default.",
        }

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if name.startswith("-") or not name.isprintable() or " " in name:
            raise forms.ValidationError("A model's name has no spaces and does not begin with a dash.")
        return name


@admin.register(AgentModel)
class AgentModels(Editable):
    form = AgentModelForm
    list_display = ["name", "agent", "label", "position"]
    ordering = ["agent", "position", "id"]


@admin.register(Preset)
class Presets(ReadOnly):
    list_display = ["id", shown_on_one_line("name"), "owner", "created_at"]
    list_select_related = ["owner"]
    search_fields = ["name", "owner__username"]
    search_help_text = "Name or owner"
    deferred = ["choices"]


@admin.register(RepoMcpServer)
class McpServers(ReadOnly):
    list_display = ["id", shown_on_one_line("name"), "repo", shown_on_one_line("url"), shown_on_one_line("command")]
    list_select_related = ["repo"]
    search_fields = ["name", "repo__name"]
    search_help_text = "Name or repository"
