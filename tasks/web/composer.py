"""The composer: what is to be done, where, by which agents."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict

from tasks import presets, repositories, services
from tasks.errors import AppError
from tasks.github_api.places import name_of
from tasks.models import Mode, Repo, Task, User
from tasks.running import backends, operations
from tasks.running.scheduler import Quota, quota
from tasks.running.standing import Standing
from tasks.web.crew import CrewForm
from tasks.web.forms import ScriptField, WithFiles
from tasks.web.pickers import RepoOption, known_repos
from tasks.web.prompts import split_prompts
from tasks.web.where import LABELS

MOST_LISTED = 50  # repositories in the composer before somebody searches
MOST_LIST_BYTES = 200 * 1024  # of an uploaded list of prompts
NO_REPO = "Choose a repository, or give the https URL of one."


class TaskForm(CrewForm, WithFiles):
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
        self._latest = presets.latest(by) if data is None else None
        self.repos = Repo.objects.visible_to(by)
        self.sent = data or QueryDict()
        super().__init__(data, files, initial=(self._defaults(repo) if data is None else {}) | (initial or {}))
        self.fields["repo"] = forms.ModelChoiceField(self.repos, required=False, widget=forms.RadioSelect)
        self.fields["list"] = forms.FileField(required=False, allow_empty_file=True)
        if len(names := backends.names()) > 1:  # else there is nothing to choose
            choices = [(name, LABELS[name]) for name in names]
            self.fields["backend"] = forms.ChoiceField(choices=choices, required=False, label="Sandbox")
        self.add_agents()
        if data is None:
            self.initial.update(self.chosen_before(self._latest) | (initial or {}))

    def _defaults(self, repo: str) -> dict[str, Any]:
        """What the user chose last; `repo` is the id of the repository that counts before that."""
        mode = self._latest.mode if self._latest else Mode.CODE
        return {"submission": uuid.uuid4(), "repo": self._repo_of(repo) or next(iter(self.known_repos), None), "mode": mode}

    @cached_property
    def known_repos(self) -> list[Repo]:
        """The user's repositories, those that were used last first, as far as lists show them."""
        return known_repos(self.by)

    def _repo_of(self, pk: object) -> Repo | None:
        """The user's repository of this id; most often one of the recent ones."""
        if (found := next((repo for repo in self.known_repos if str(repo.pk) == str(pk)), None)) is not None:
            return found
        return self.repos.filter(pk=int(str(pk))).first() if str(pk).isdecimal() and len(str(pk)) <= 18 else None

    # --- what the page shows --------------------------------------------------------------------------------------------

    @cached_property
    def chosen_repo(self) -> Repo | None:
        """The repository the picker stands at."""
        value = self["repo"].value()
        if value is None or isinstance(value, Repo):
            return value
        return self._repo_of(value)

    @property
    def shown_repo(self) -> str:
        return self["source"].value() or (self.chosen_repo.name if self.chosen_repo else "Choose a repository")

    @property
    def is_on_github(self) -> bool:
        """Whether the chosen repository is one that GitHub can be asked about."""
        return bool(name_of(self["source"].value() or (self.chosen_repo.source if self.chosen_repo else "")))

    @property
    def shown_branch(self) -> str:
        usual = self.chosen_repo.default_branch if self.chosen_repo and not self["source"].value() else ""
        return self["branch"].value() or usual or "default branch"

    @property
    def lack(self) -> str:
        """Why nothing that is sent could start; "" where it can."""
        return backends.why_none()

    @property
    def shown_backend(self) -> str:
        """Where the sandboxes will be; "" where there is no choice."""
        return LABELS.get(self["backend"].value() or backends.names()[0], "") if "backend" in self.fields else ""

    @cached_property
    def repo_options(self) -> list[RepoOption]:
        return RepoOption.listed(self.known_repos[:MOST_LISTED], self.chosen_repo)

    @cached_property
    def standing(self) -> Standing:
        return Standing.of(self.by)

    @cached_property
    def quota(self) -> Quota:
        return quota(self.by, backends.names(), self.standing)

    @property
    def free(self) -> int:
        """How many new runs would start at once where they are to be."""
        usual = next(iter(backends.names()), "")
        chosen = self["backend"].value() if "backend" in self.fields else usual
        return self.quota.free.get(chosen or usual, 0)

    @property
    def carried(self) -> list[tuple[str, Any]]:
        """What the preview of several tasks carries on: names and values of all but the prompts."""
        names = [name for name in self.fields if name not in ("prompt", "several", "list", "attachments", "repo")]
        pairs = [(name, self[name].value() or "") for name in names]
        repo = self.chosen_repo
        return [("repo", repo.pk if repo else ""), *pairs, *(("attachments", file.pk) for file in self.attached)]

    def reopened(self, **more: Any) -> TaskForm:
        """The composer with all that was typed and chosen, and no errors."""
        said = {name: value for name, value in self.carried if name in self.fields}
        said |= {"prompt": self["prompt"].value() or "", "several": self["several"].value(), "repo": self.chosen_repo}
        form = TaskForm(by=self.by, initial=said | {"preset_name": ""} | more)
        form.attached = self.attached
        return form

    # --- what is sent ---------------------------------------------------------------------------------------------------

    def clean_source(self) -> str:
        source: str = self.cleaned_data["source"]
        if source:
            try:
                operations.source_for(self.by, source)
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
    def chosen_mode(self) -> str:
        mode: str = self.cleaned_data["mode"]
        return mode or Mode.CODE

    @property
    def chosen_backend(self) -> str:
        """The one that was chosen; "" for the one that runs get by themselves."""
        backend: str = self.cleaned_data.get("backend", "")
        return backend

    def check(self) -> bool:
        """Whether the tasks could be started, as far as that can be told without starting them."""
        return self.attempt(self._check) is not None

    def submit(self) -> list[Task] | None:
        return self.attempt(self._create)

    def _check(self) -> bool:
        services.check_tasks(by=self.by, prompts=self.prompts, agents=self.agents, mode=self.chosen_mode, backend=self.chosen_backend)
        return True

    def _create(self) -> list[Task]:
        self._check()
        data = self.cleaned_data
        return services.create_tasks(
            by=self.by,
            repo=repositories.add_repo(by=self.by, source=data["source"]) if data["source"] else data["repo"],
            prompts=self.prompts,
            agents=self.agents,
            branch=data["branch"],
            mode=self.chosen_mode,
            backend=self.chosen_backend,
            attachments=self.attached,
            submission=self._key(),
        )

    def _key(self) -> uuid.UUID | None:
        """The form's key with what it says: a page that is gone back to, and sent with another prompt, is no double."""
        data = self.cleaned_data
        said = [data["source"], str(data["repo"] and data["repo"].pk), data["branch"], self.chosen_mode, *map(str, self.agents)]
        said += [self.chosen_backend, *(str(file.pk) for file in self.attached)]
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

    def reopened(self, **more: Any) -> TaskForm:
        text = "\n\n".join(entry.prompt.strip("\n") for entry in self.entries)
        return super().reopened(prompt=text, several=True, **more)
