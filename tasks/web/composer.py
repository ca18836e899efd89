"""The composer: what is to be done, where, by which agents."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db.models import Count
from django.forms.boundfield import BoundField
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict

from agents.adapters.base import Adapter, Model
from agents.registry import ADAPTERS
from tasks import services
from tasks.errors import AppError
from tasks.git.sources import parse_source
from tasks.models import Mode, Repo, Task, User
from tasks.running.scheduler import Quota, quota
from tasks.services import AgentChoice
from tasks.web.forms import ScriptField, WithFiles
from tasks.web.pickers import RepoOption, recent_repos
from tasks.web.prompts import split_prompts

MOST_LISTED = 50  # repositories in the composer before somebody searches
MOST_LIST_BYTES = 200 * 1024  # of an uploaded list of prompts
NO_REPO = "Choose a repository, or give the https URL of one."


@dataclass(frozen=True)
class AgentRow:
    """One agent with one of its models, and the field that says how often it is to run."""

    adapter: Adapter
    model: Model | None
    field: BoundField

    @property
    def label(self) -> str:
        return f"{self.adapter.label} {self.model.label}" if self.model else self.adapter.label

    @property
    def runs(self) -> int:
        value = str(self.field.value() or "")
        return min(int(value), services.MOST_ATTEMPTS) if value.isdecimal() and len(value) < 5 else 0


@dataclass(frozen=True)
class AgentBlock:
    adapter: Adapter
    rows: list[AgentRow]


@dataclass(frozen=True)
class ModeButton:
    mode: Mode
    is_primary: bool


def _pairs() -> Iterator[tuple[Adapter, Model | None, str]]:
    """Every agent with each of its models, and the name of their field."""
    for adapter in ADAPTERS.values():
        models: Sequence[Model | None] = adapter.models or [None]
        for model in models:
            yield adapter, model, f"runs-{adapter.name}:{model.name}" if model else f"runs-{adapter.name}"


class TaskForm(WithFiles):
    """The composer. A source that is typed in counts before the repository that is chosen.

    `submission` is the form's key: the same form with the same content starts its tasks once, however often it is sent.
    """

    fields_of_errors = {"base_branch": "branch"}
    most_runs = services.MOST_RUNS

    prompt = ScriptField(rows=3, required=False, placeholder="Describe the change, or paste a script")
    several = forms.BooleanField(required=False)
    source = forms.CharField(
        required=False,
        max_length=2000,
        widget=forms.TextInput(attrs={"autocapitalize": "off", "autocomplete": "off", "spellcheck": "false"}),
    )
    branch = forms.CharField(
        required=False,
        max_length=250,
        widget=forms.TextInput(
            attrs={"autocapitalize": "off", "autocomplete": "off", "spellcheck": "false", "placeholder": "default branch"}
        ),
    )
    mode = forms.CharField(required=False, max_length=20)
    submission = forms.UUIDField(required=False)

    def __init__(
        self,
        data: QueryDict | None = None,
        files: MultiValueDict[str, UploadedFile[bytes]] | None = None,
        *,
        by: User,
        repo: str = "",
        initial: dict[str, Any] | None = None,
    ) -> None:
        self.by = by
        self.repos = Repo.objects.visible_to(by)
        self.sent = data or QueryDict()
        super().__init__(data, files, initial=(self._defaults(repo) if data is None else {}) | (initial or {}))
        self.fields["repo"] = forms.ModelChoiceField(self.repos, required=False, widget=forms.RadioSelect)
        self.fields["list"] = forms.FileField(required=False, allow_empty_file=True)
        for adapter, model, name in _pairs():
            label = f"Runs of {adapter.label} {model.label}" if model else f"Runs of {adapter.label}"
            attrs = {"aria-label": label, "inputmode": "numeric", "data-modes": " ".join(adapter.modes), "data-agent": adapter.label}
            self.fields[name] = forms.IntegerField(
                required=False,
                min_value=0,
                max_value=services.MOST_ATTEMPTS,
                label=label,
                widget=forms.NumberInput(attrs=attrs),
                error_messages={"max_value": f"{label}: %(limit_value)s are the most."},
            )

    def _defaults(self, repo: str) -> dict[str, Any]:
        """What the user chose last; `repo` is the id of the repository that counts before that."""
        latest = Task.objects.visible_to(self.by).filter(is_trial=False).order_by("-pk").first()
        recent = recent_repos(self.by)
        wanted = recent.filter(pk=int(repo)).first() if repo.isdecimal() and len(repo) <= 18 else None
        last = recent.filter(pk=latest.repo_id).first() if latest else None
        found: dict[str, Any] = {"repo": wanted or last or recent.first(), "mode": latest.mode if latest else Mode.CODE}
        names = [name for *_, name in _pairs()]
        for name, runs in self._runs_of(latest):
            if name in names:
                found[name] = min(found.get(name, 0) + runs, services.MOST_ATTEMPTS)
        if not any(name in found for name in names):
            found[names[0]] = 1
        return {"submission": uuid.uuid4(), **dict.fromkeys(names, 0), **found}

    @staticmethod
    def _runs_of(task: Task | None) -> Iterator[tuple[str, int]]:
        """The fields of a task's agents with their numbers of attempts, retries not counted."""
        if task is None:
            return
        first = task.runs.exclude(options__has_key=services.RETRY_OF).order_by()
        for agent, model, runs in first.values_list("agent", "model").annotate(Count("pk")):
            models = ADAPTERS[agent].models if agent in ADAPTERS else ()
            model = model or (models[0].name if models else "")
            yield f"runs-{agent}:{model}" if model else f"runs-{agent}", runs

    # --- what the page shows --------------------------------------------------------------------------------------------

    @cached_property
    def blocks(self) -> list[AgentBlock]:
        rows = [AgentRow(adapter, model, self[name]) for adapter, model, name in _pairs()]
        return [AgentBlock(adapter, [row for row in rows if row.adapter is adapter]) for adapter in ADAPTERS.values()]

    @property
    def rows(self) -> list[AgentRow]:
        return [row for block in self.blocks for row in block.rows]

    @property
    def runs(self) -> int:
        """Runs a task."""
        return sum(row.runs for row in self.rows)

    @cached_property
    def chosen_repo(self) -> Repo | None:
        """The repository the picker stands at."""
        value = self["repo"].value()
        if value is None or isinstance(value, Repo):
            return value
        return self.repos.filter(pk=int(value)).first() if str(value).isdecimal() and len(str(value)) <= 18 else None

    @property
    def shown_repo(self) -> str:
        return self["source"].value() or (self.chosen_repo.name if self.chosen_repo else "Choose a repository")

    @property
    def shown_branch(self) -> str:
        usual = self.chosen_repo.default_branch if self.chosen_repo and not self["source"].value() else ""
        return self["branch"].value() or usual or "default branch"

    @cached_property
    def repo_options(self) -> list[RepoOption]:
        return RepoOption.listed(recent_repos(self.by)[:MOST_LISTED], self.chosen_repo)

    @property
    def modes(self) -> list[ModeButton]:
        """What some agent can do, the most usual last; the primary one is what is sent by Ctrl with Enter."""
        known = {mode for adapter in ADAPTERS.values() for mode in adapter.modes}
        modes = [mode for mode in (Mode.ASK, Mode.PLAN, Mode.CODE) if mode in known]
        wanted = self["mode"].value()
        primary = wanted if wanted in modes else modes[-1]
        return [ModeButton(mode, mode == primary) for mode in modes]

    @cached_property
    def quota(self) -> Quota:
        return quota(self.by)

    @property
    def carried(self) -> list[tuple[str, Any]]:
        """What the preview of several tasks carries on: names and values of all but the prompts."""
        names = [name for name in self.fields if name not in ("prompt", "several", "list", "attachments", "repo")]
        pairs = [(name, self[name].value() or "") for name in names]
        repo = self.chosen_repo
        return [("repo", repo.pk if repo else ""), *pairs, *(("attachments", file.pk) for file in self.attached)]

    # --- what is sent ---------------------------------------------------------------------------------------------------

    def clean_source(self) -> str:
        source: str = self.cleaned_data["source"]
        if source:
            try:
                parse_source(
                    source, allow_local=self.by.is_operator, roots=settings.LOCAL_REPO_ROOTS, allow_private=settings.ALLOW_PRIVATE_HOSTS
                )
            except AppError as error:
                raise ValidationError(error.message) from error
        return source

    def clean_list(self) -> str:
        """The text of an uploaded list of prompts."""
        file: UploadedFile[bytes] | None = self.cleaned_data["list"]
        if file is None:
            return ""
        if (file.size or 0) > MOST_LIST_BYTES:
            raise ValidationError(f"The list has {(file.size or 0) // 1024} KB; {MOST_LIST_BYTES // 1024} KB are the most.")
        try:
            return str(file.read(), "utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise ValidationError("The list is not text in UTF-8. Save it as that, and choose it again.") from error

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not data.get("source") and not data.get("repo") and not self.errors.keys() & {"repo", "source"}:
            self.add_error("source", NO_REPO)
        if data.get("list"):  # a browser does not keep the file: what it says is shown as if it had been typed
            data["prompt"] = "\n\n".join(filter(None, [data.get("prompt", "").strip("\n"), data["list"].strip("\n")]))
            shown = self.sent.copy()
            shown["prompt"], shown["several"] = data["prompt"], "on"
            self.data = shown
            data["several"] = True
        return data

    @property
    def is_several(self) -> bool:
        return self.is_valid() and bool(self.cleaned_data["several"])

    @property
    def prompts(self) -> list[str]:
        prompt: str = self.cleaned_data["prompt"]
        return split_prompts(prompt) or [""] if self.cleaned_data["several"] else [prompt]

    @property
    def agents(self) -> list[AgentChoice]:
        return [
            AgentChoice(adapter.name, model.name if model else "", runs)
            for adapter, model, name in _pairs()
            if (runs := self.cleaned_data[name])
        ]

    @property
    def chosen_mode(self) -> str:
        mode: str = self.cleaned_data["mode"]
        return mode or Mode.CODE

    def check(self) -> bool:
        """Whether the tasks could be started, as far as that can be told without starting them."""
        return self.attempt(self._check) is not None

    def submit(self) -> list[Task] | None:
        return self.attempt(self._create)

    def _check(self) -> bool:
        services.check_tasks(prompts=self.prompts, agents=self.agents, mode=self.chosen_mode)
        return True

    def _create(self) -> list[Task]:
        self._check()
        data = self.cleaned_data
        return services.create_tasks(
            by=self.by,
            repo=services.add_repo(by=self.by, source=data["source"]) if data["source"] else data["repo"],
            prompts=self.prompts,
            agents=self.agents,
            branch=data["branch"],
            mode=self.chosen_mode,
            attachments=self.attached,
            submission=self._key(),
        )

    def _key(self) -> uuid.UUID | None:
        """The form's key with what it says: a page that is gone back to, and sent with another prompt, is no double."""
        data = self.cleaned_data
        said = [data["source"], str(data["repo"] and data["repo"].pk), data["branch"], self.chosen_mode, *map(str, self.agents)]
        said += [str(file.pk) for file in self.attached]
        return uuid.uuid5(data["submission"], "\0".join([*said, *self.prompts])) if data["submission"] else None


@dataclass(frozen=True)
class Entry:
    """A prompt in the preview of several."""

    prompt: str
    is_kept: bool


class SeveralForm(TaskForm):
    """The preview of several tasks: their prompts one by one (`prompts`), and the numbers of those that stay (`keep`)."""

    @property
    def entries(self) -> list[Entry]:
        kept = set(self.sent.getlist("keep"))
        prompts = (prompt.replace("\r\n", "\n") for prompt in self.sent.getlist("prompts"))
        return [Entry(prompt, str(number) in kept) for number, prompt in enumerate(prompts)]

    @property
    def prompts(self) -> list[str]:
        return [entry.prompt for entry in self.entries if entry.is_kept]

    def reopened(self) -> TaskForm:
        """The composer with all that was typed and chosen."""
        said = {name: value for name, value in self.carried if name in self.fields}
        text = "\n\n".join(entry.prompt.strip("\n") for entry in self.entries)
        form = TaskForm(by=self.by, initial=said | {"repo": self.chosen_repo, "prompt": text, "several": True})
        form.attached = self.attached
        return form
