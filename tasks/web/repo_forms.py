"""Forms of repositories and their environments."""

from __future__ import annotations

from typing import Any

from django import forms

from tasks import environment, repositories, trials
from tasks.errors import AppError
from tasks.models import FromGitHub, NetworkPreset, Phase, Repo, User, Variable
from tasks.web.forms import ScriptField, VerbForm

_PLAIN = {"autocapitalize": "off", "autocomplete": "off", "spellcheck": "false"}


class RepoForm(VerbForm):
    source = forms.CharField(
        max_length=2000,
        widget=forms.TextInput(attrs=_PLAIN),
        error_messages={"required": "Give the repository's https URL.", "max_length": "This is too long for an address."},
    )

    def submit(self, *, by: User) -> Repo | None:
        return self.attempt(lambda: repositories.add_repo(by=by, source=self.cleaned_data["source"]))


class EnvironmentForm(VerbForm):
    name = forms.CharField(
        required=False,
        max_length=environment.MOST_NAME,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"max_length": f"{environment.MOST_NAME} characters are the most."},
    )
    setup_script = ScriptField(rows=6, required=False, placeholder="pip install -r requirements.txt")
    runs_each_time = forms.BooleanField(required=False)
    check_command = forms.CharField(required=False, widget=forms.TextInput(attrs={**_PLAIN, "placeholder": "make test"}))
    network_preset = forms.ChoiceField(choices=NetworkPreset.choices, widget=forms.RadioSelect)
    network_hosts = ScriptField(rows=3, required=False, placeholder="example.org\n*.example.org")
    template = forms.CharField(required=False, max_length=200, widget=forms.TextInput(attrs=_PLAIN))
    from_github = forms.ChoiceField(choices=FromGitHub.choices, widget=forms.RadioSelect, required=False)  # of those on GitHub only

    @classmethod
    def of(cls, repo: Repo, data: Any = None) -> EnvironmentForm:
        names = ("name", "setup_script", "check_command", "network_preset", "template", "from_github")
        initial = {name: getattr(repo, name) for name in names} | {
            "network_hosts": "\n".join(repo.network_hosts),
            "runs_each_time": not repo.prepares,
        }
        return cls(data, initial=initial)

    def submit(self, *, repo: Repo, by: User) -> bool:
        self.attempt(
            lambda: environment.update_environment(
                repo=repo,
                by=by,
                name=self.cleaned_data["name"] or None,
                setup_script=self.cleaned_data["setup_script"],
                prepares=not self.cleaned_data["runs_each_time"],
                check_command=self.cleaned_data["check_command"],
                network_preset=self.cleaned_data["network_preset"],
                network_hosts=self.cleaned_data["network_hosts"].split("\n"),
                template=self.cleaned_data["template"],
                from_github=self.cleaned_data["from_github"] or None,
            )
        )
        return not self.errors

    def submit_and_try(self, *, repo: Repo, by: User) -> bool:
        """Save, and start a trial of what was saved."""
        if not self.submit(repo=repo, by=by):
            return False
        try:
            trials.start_trial(repo=repo, by=by)
        except AppError as error:
            self.add_error(None, f"Saved, but it cannot be tried now: {error.message}")
        return not self.errors


class _SecretForm(VerbForm):
    """What is secret is not written into a page, also not to show a mistake beside it: it has to be typed again."""

    is_secret = forms.BooleanField(required=False)
    phase = forms.ChoiceField(choices=Phase.choices, initial=Phase.AGENT, required=False)
    masked = ""

    @property
    def typed(self) -> str:
        """What was typed into the field that may hold a secret, where the page may show it again."""
        return "" if self["is_secret"].value() else str(self[self.masked].value() or "")

    @property
    def is_to_be_typed_again(self) -> bool:
        """Whether something was typed that is not shown again."""
        return self.is_bound and bool(self.errors and self["is_secret"].value() and self[self.masked].value())

    def options(self) -> dict[str, Any]:
        return {"is_secret": self.cleaned_data["is_secret"], "phase": self.cleaned_data["phase"] or Phase.AGENT}


class VariableForm(_SecretForm):
    """A variable, new or changed. `changes` says that it is there already, so that its name stays."""

    name = forms.CharField(error_messages={"required": "Give the variable a name."})
    value = ScriptField(rows=1, required=False)
    changes = forms.BooleanField(required=False)
    masked = "value"

    @classmethod
    def of(cls, variable: Variable) -> VariableForm:
        value = "" if variable.is_secret else variable.value
        initial = {"name": variable.name, "value": value, "is_secret": variable.is_secret, "phase": variable.phase}
        return cls(initial=initial | {"changes": True})

    def submit(self, *, repo: Repo, by: User) -> Variable | None:
        return self.attempt(
            lambda: environment.set_variable(
                repo=repo, by=by, name=self.cleaned_data["name"], value=self.cleaned_data["value"], **self.options()
            )
        )


class SeveralForm(_SecretForm):
    """The text of a .env file; each line that is wrong has a sentence of its own."""

    lines = ScriptField(rows=5, error_messages={"required": "Paste some lines first: NAME=value"})
    masked = "lines"

    def add_error(self, field: str | None, error: Any) -> None:
        super().add_error(field, error.split("\n") if isinstance(error, str) else error)

    def submit(self, *, repo: Repo, by: User) -> list[Variable] | None:
        return self.attempt(lambda: environment.set_variables(repo=repo, by=by, text=self.cleaned_data["lines"], **self.options()))
