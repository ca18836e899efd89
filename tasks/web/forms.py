"""Forms: what is typed becomes the arguments of one verb, and what the verb refuses is shown where it was typed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from django import forms
from django.forms.boundfield import BoundField

from agents.adapters.base import Adapter
from agents.registry import ADAPTERS
from tasks import environment, services
from tasks.errors import AppError
from tasks.models import NetworkPreset, Phase, Repo, Run, Task, Turn, User, Variable

Result = TypeVar("Result")


class VerbForm(forms.Form):
    """A form for one verb. `fields_of_errors` says which field shows an error that the verb puts to another name."""

    fields_of_errors: dict[str, str] = {}

    def attempt(self, verb: Callable[[], Result]) -> Result | None:
        """What `verb` gives; None when the form is not valid or the verb refused, and then `errors` says why."""
        if not self.is_valid():
            return None
        try:
            return verb()
        except AppError as error:
            name = getattr(error, "field", "")
            name = self.fields_of_errors.get(name, name)
            self.add_error(name if name in self.fields else None, error.message)
            return None


class ScriptField(forms.CharField):
    """Text of several lines, kept as it was typed; browsers send line ends as CR LF."""

    def __init__(self, *, rows: int, placeholder: str = "", **options: Any) -> None:
        widget = forms.Textarea(attrs={"rows": rows, "placeholder": placeholder, "spellcheck": "false"})
        super().__init__(strip=False, widget=widget, **options)

    def to_python(self, value: Any) -> str:
        return (super().to_python(value) or "").replace("\r\n", "\n")


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


class FollowUpForm(VerbForm):
    prompt = ScriptField(rows=1, placeholder="Follow up in the same workspace", error_messages={"required": "The follow-up is empty."})

    def submit(self, *, run: Run, by: User) -> Turn | None:
        return self.attempt(lambda: services.send_follow_up(run=run, by=by, prompt=self.cleaned_data["prompt"]))


class RepoForm(VerbForm):
    source = forms.CharField(
        max_length=2000,
        widget=forms.TextInput(attrs={"autocapitalize": "off", "spellcheck": "false", "autocomplete": "off"}),
        error_messages={"required": "Give the repository's https URL."},
    )

    def submit(self, *, by: User) -> Repo | None:
        return self.attempt(lambda: services.add_repo(by=by, source=self.cleaned_data["source"]))


class EnvironmentForm(VerbForm):
    setup_script = ScriptField(rows=6, required=False, placeholder="pip install -r requirements.txt")
    check_command = forms.CharField(required=False, widget=forms.TextInput(attrs={"placeholder": "make test", "spellcheck": "false"}))
    network_preset = forms.ChoiceField(choices=NetworkPreset.choices, widget=forms.RadioSelect)
    network_hosts = ScriptField(rows=3, required=False, placeholder="example.org\n*.example.org")

    @classmethod
    def of(cls, repo: Repo, data: Any = None) -> EnvironmentForm:
        names = ("setup_script", "check_command", "network_preset")
        initial = {name: getattr(repo, name) for name in names} | {"network_hosts": "\n".join(repo.network_hosts)}
        return cls(data, initial=initial)

    def submit(self, *, repo: Repo, by: User) -> bool:
        self.attempt(
            lambda: environment.update_environment(
                repo=repo,
                by=by,
                setup_script=self.cleaned_data["setup_script"],
                check_command=self.cleaned_data["check_command"],
                network_preset=self.cleaned_data["network_preset"],
                network_hosts=self.cleaned_data["network_hosts"].split("\n"),
            )
        )
        return not self.errors


class VariableForm(VerbForm):
    name = forms.CharField(
        widget=forms.TextInput(attrs={"placeholder": "NAME", "autocomplete": "off", "spellcheck": "false"}),
        error_messages={"required": "Give the variable a name."},
    )
    value = forms.CharField(
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 1, "placeholder": "value", "autocomplete": "off", "spellcheck": "false"}),
    )
    is_secret = forms.BooleanField(required=False)
    phase = forms.ChoiceField(choices=Phase.choices, initial=Phase.AGENT, required=False)

    def submit(self, *, repo: Repo, by: User) -> Variable | None:
        return self.attempt(
            lambda: environment.set_variable(
                repo=repo,
                by=by,
                name=self.cleaned_data["name"],
                value=self.cleaned_data["value"].replace("\r\n", "\n"),
                is_secret=self.cleaned_data["is_secret"],
                phase=self.cleaned_data["phase"] or Phase.AGENT,
            )
        )
