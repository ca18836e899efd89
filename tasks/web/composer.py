"""The composer: what is to be done, where, by which agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from django.forms.boundfield import BoundField

from agents.adapters.base import Adapter
from agents.registry import ADAPTERS
from tasks import services
from tasks.models import Repo, Task, User
from tasks.web.forms import ScriptField, VerbForm


@dataclass(frozen=True)
class AgentRow:
    """One agent in the composer, with its fields."""

    adapter: Adapter
    chosen: BoundField
    attempts: BoundField
    model: BoundField | None


class TaskForm(VerbForm):
    """The composer. A source that is typed in counts before the repository that is chosen."""

    fields_of_errors = {"base_branch": "branch"}

    prompt = ScriptField(
        rows=3,
        placeholder="Describe the change, or paste a script",
        error_messages={"required": "Say what is to be done: the prompt is empty."},
    )
    source = forms.CharField(
        required=False, max_length=2000, widget=forms.TextInput(attrs={"autocapitalize": "off", "spellcheck": "false"})
    )
    branch = forms.CharField(required=False, max_length=250)

    def __init__(self, *args: Any, by: User, repo: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self.by = by
        self.repos = Repo.objects.visible_to(by)
        latest = Task.objects.visible_to(by).order_by("-pk").first()
        wanted = self.repos.filter(pk=int(repo)).first() if repo.isdecimal() else None
        self.fields["repo"] = forms.ModelChoiceField(
            self.repos,
            required=False,
            empty_label=None,
            widget=forms.RadioSelect,
            initial=wanted or (latest and latest.repo) or self.repos.first(),
        )
        for number, adapter in enumerate(ADAPTERS.values()):
            self.fields[f"agent-{adapter.name}"] = forms.BooleanField(required=False, initial=number == 0)
            self.fields[f"attempts-{adapter.name}"] = forms.IntegerField(
                required=False, min_value=1, max_value=services.MOST_ATTEMPTS, initial=1
            )
            if adapter.models:
                choices = [("", "default model"), *((model.name, model.label) for model in adapter.models)]
                self.fields[f"model-{adapter.name}"] = forms.ChoiceField(required=False, choices=choices)

    @property
    def agents(self) -> list[AgentRow]:
        return [
            AgentRow(adapter, self[f"agent-{name}"], self[f"attempts-{name}"], self[f"model-{name}"] if adapter.models else None)
            for name, adapter in ADAPTERS.items()
        ]

    @property
    def chosen_repo(self) -> Repo | None:
        """The repository the picker stands at."""
        value = self["repo"].value()
        return value if isinstance(value, Repo) else next((repo for repo in self.repos if str(repo.pk) == str(value)), None)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not data.get("source") and not data.get("repo") and "repo" not in self.errors:
            self.add_error("source", "Choose a repository, or give the https URL of one.")
        return data

    def submit(self) -> Task | None:
        return self.attempt(self._create)

    def _create(self) -> Task:
        data = self.cleaned_data
        agents = [
            services.AgentChoice(name, data.get(f"model-{name}", ""), data[f"attempts-{name}"] or 1)
            for name in ADAPTERS
            if data[f"agent-{name}"]
        ]
        repo = services.add_repo(by=self.by, source=data["source"]) if data["source"] else data["repo"]
        return services.create_task(by=self.by, repo=repo, prompt=data["prompt"], agents=agents, branch=data["branch"])
