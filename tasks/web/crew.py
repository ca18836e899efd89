"""The composer's agents: which there are, how often each of their models is to run, and with what options."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from django import forms
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef
from django.db.models.functions import JSONObject
from django.forms.boundfield import BoundField

from agents.adapters.base import Adapter, Model
from tasks import presets, services
from tasks.models import Mode, Preset, User
from tasks.running.offers import Offers
from tasks.services import AgentChoice
from tasks.web.forms import NumberWidget, VerbForm

_NO_MODEL: Sequence[Model | None] = (None,)


@dataclass(frozen=True)
class AgentRow:
    """One agent with one of its models, and the field that says how often it is to run; `trouble` says why it cannot."""

    adapter: Adapter
    model: Model | None
    field: BoundField
    trouble: str

    @cached_property
    def label(self) -> str:
        return f"{self.adapter.label} {self.model.label}" if self.model else self.adapter.label

    @cached_property
    def runs(self) -> int:
        value = str(self.field.value() or "")
        return min(int(value), services.MOST_ATTEMPTS) if value.isdecimal() and len(value) < 5 else 0


@dataclass(frozen=True)
class AgentBlock:
    adapter: Adapter
    rows: list[AgentRow]
    options: list[BoundField]

    @property
    def troubles(self) -> list[str]:
        """Each sentence once."""
        return list(dict.fromkeys(row.trouble for row in self.rows if row.trouble))


@dataclass(frozen=True)
class ShownPreset:
    """A preset: what it holds in words, and as the fields' values (JSON)."""

    pk: int
    name: str
    summary: str
    fields: str


@dataclass(frozen=True)
class ModeButton:
    mode: Mode
    is_primary: bool


class CrewForm(VerbForm):
    """The agents' part of the composer. The fields are `runs-AGENT[:MODEL]`, `effort-AGENT` and `turns-AGENT`."""

    by: User

    @cached_property
    def _row(self) -> Mapping[str, Any]:
        """The user's presets along with what is offered to the user: one query."""
        mine = Preset.objects.filter(owner=OuterRef("pk")).values(json=JSONObject(pk="pk", name="name", choices="choices"))
        return User.objects.filter(pk=self.by.pk).values(**Offers.asked(), own_presets=ArraySubquery(mine)).get()

    @cached_property
    def _offers(self) -> Offers:
        return Offers.of(self._row)

    @property
    def adapters(self) -> Sequence[Adapter]:
        return self._offers.adapters

    @cached_property
    def pairs(self) -> list[tuple[Adapter, Model | None, str]]:
        """Every agent with each of its models, and the name of their field."""
        return [
            (adapter, model, f"runs-{adapter.name}:{model.name}" if model else f"runs-{adapter.name}")
            for adapter in self.adapters
            for model in (self._offers.models[adapter.name] or _NO_MODEL)
        ]

    def add_agents(self) -> None:
        self.fields["preset_name"] = forms.CharField(
            required=False, widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "Opus and Codex"})
        )
        for adapter, model, name in self.pairs:
            label = f"Runs of {adapter.label} {model.label}" if model else f"Runs of {adapter.label}"
            attrs = {"aria-label": label, "inputmode": "numeric", "data-modes": " ".join(adapter.modes), "data-agent": adapter.label}
            self.fields[name] = forms.IntegerField(
                required=False,
                min_value=0,
                max_value=services.MOST_ATTEMPTS,
                label=label,
                widget=NumberWidget(attrs),
                error_messages={"max_value": f"{label}: %(limit_value)s are the most."},
            )
        for adapter in self.adapters:
            if adapter.efforts:
                efforts = [("", "Default"), *((effort, effort.capitalize()) for effort in adapter.efforts)]
                self.fields[f"effort-{adapter.name}"] = forms.ChoiceField(choices=efforts, required=False, label="Effort")
            if adapter.can_limit_turns:
                self.fields[f"turns-{adapter.name}"] = forms.IntegerField(
                    min_value=1,
                    max_value=services.MOST_STEPS,
                    required=False,
                    label="Most steps",
                    widget=NumberWidget({"placeholder": "No limit"}),
                )

    # --- what is chosen at first ----------------------------------------------------------------------------------------

    def chosen_before(self, latest: presets.Latest | None) -> dict[str, Any]:
        """The agents of the user's latest task, else the first that can start."""
        found: dict[str, Any] = {}
        for choice in latest.agents if latest else ():
            self._add(found, asdict(choice))
        if not any(found.get(name) for *_, name in self.pairs):
            able = [name for adapter, model, name in self.pairs if not self._trouble(adapter, model)]
            found |= dict.fromkeys(able[:1], 1)
        return dict.fromkeys((name for *_, name in self.pairs), 0) | found

    def choose_preset(self, pk: str) -> None:
        """Begin with the agents of a preset of the user's, if it is one."""
        preset = Preset.objects.visible_to(self.by).filter(pk=int(pk)).first() if pk.isdecimal() and len(pk) <= 18 else None
        if preset is not None:
            self.initial.update(self.chosen_by(preset.choices))

    def chosen_by(self, choices: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """The fields as a preset's choices have them, those of all other agents empty."""
        found: dict[str, Any] = {name: "" if name.startswith(("effort-", "turns-")) else 0 for name in self.fields if is_of_crew(name)}
        for choice in choices:
            self._add(found, choice)
        return found

    def _add(self, found: dict[str, Any], choice: Mapping[str, Any]) -> None:
        names = {name for *_, name in self.pairs}
        agent, model = choice["agent"], choice.get("model") or self._default(choice["agent"])
        name = f"runs-{agent}:{model}" if model else f"runs-{agent}"
        if name in names:
            found[name] = min(found.get(name, 0) + choice.get("attempts", 1), services.MOST_ATTEMPTS)
            options = choice.get("options") or {}
            found |= {
                f"{ours}-{agent}": options[theirs] for ours, theirs in (("effort", "effort"), ("turns", "max_turns")) if theirs in options
            }

    def _default(self, agent: str) -> str:
        return next((model.name for adapter, model, _ in self.pairs if adapter.name == agent and model), "")

    # --- what the page shows --------------------------------------------------------------------------------------------

    @cached_property
    def blocks(self) -> list[AgentBlock]:
        rows = [AgentRow(adapter, model, self[name], self._trouble(adapter, model)) for adapter, model, name in self.pairs]
        return [
            AgentBlock(
                adapter,
                [row for row in rows if row.adapter is adapter],
                [self[name] for name in (f"effort-{adapter.name}", f"turns-{adapter.name}") if name in self.fields],
            )
            for adapter in self.adapters
        ]

    def _trouble(self, adapter: Adapter, model: Model | None) -> str:
        return self._offers.missing_key(adapter, model.name if model else "")

    @property
    def rows(self) -> list[AgentRow]:
        return [row for block in self.blocks for row in block.rows]

    @property
    def runs(self) -> int:
        """Runs a task."""
        return sum(row.runs for row in self.rows)

    @property
    def modes(self) -> list[ModeButton]:
        """What some agent can do, the most usual last; the primary one is what is sent by Ctrl with Enter."""
        known = {mode for adapter in self.adapters for mode in adapter.modes}
        modes = [mode for mode in (Mode.ASK, Mode.PLAN, Mode.CODE) if mode in known]
        wanted = self["mode"].value()
        primary = wanted if wanted in modes else modes[-1]
        return [ModeButton(mode, mode == primary) for mode in modes]

    @cached_property
    def presets(self) -> list[ShownPreset]:
        mine = [(row["pk"], row["name"], row["choices"]) for row in self._row["own_presets"]]
        return [ShownPreset(pk, name, self._said(choices), json.dumps(self.chosen_by(choices))) for pk, name, choices in mine]

    def _said(self, choices: Iterable[Mapping[str, Any]]) -> str:
        """The agents of a preset in words; those that are not offered any more are named as they were called."""
        labels = {name: f"{adapter.label} {model.label}" if model else adapter.label for adapter, model, name in self.pairs}
        said = []
        for choice in choices:
            agent, model, attempts = choice["agent"], choice["model"], choice["attempts"]
            name = f"runs-{agent}:{model}" if model else f"runs-{agent}"
            said.append(labels.get(name, f"{agent} {model}".strip()) + (f" ×{attempts}" if attempts > 1 else ""))
        return " + ".join(said)

    # --- what is sent ---------------------------------------------------------------------------------------------------

    @property
    def agents(self) -> list[AgentChoice]:
        return [
            AgentChoice(adapter.name, model.name if model else "", runs, self._options(adapter))
            for adapter, model, name in self.pairs
            if (runs := self.cleaned_data.get(name))
        ]

    def save_preset(self) -> Preset | None:
        """Keep the agents that are chosen under the name that was typed, whatever else is still to be filled in."""
        self.full_clean()
        name, agents = self.cleaned_data.get("preset_name", ""), self.agents
        is_wrong = any(is_of_crew(field) for field in self.errors)
        if not is_wrong:
            self.errors.clear()
        return None if is_wrong else self.attempt(lambda: presets.save_preset(by=self.by, name=name, agents=agents))

    def _options(self, adapter: Adapter) -> dict[str, Any]:
        said = {"effort": self.cleaned_data.get(f"effort-{adapter.name}"), "max_turns": self.cleaned_data.get(f"turns-{adapter.name}")}
        return {key: value for key, value in said.items() if value}


def is_of_crew(name: str) -> bool:
    return name.startswith(("runs-", "effort-", "turns-"))
