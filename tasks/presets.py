"""The verbs of presets, choices of agents that a user keeps under a name; and which agents are taken when none are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Count, QuerySet, Subquery

from tasks.choices import COMBINES, RETRY_OF, AgentChoice
from tasks.errors import Conflict, InvalidInput, NotAllowed
from tasks.models import Mode, Preset, Run, Task, User
from tasks.running.offers import Offers

MOST_PRESETS = 50  # of a user
MOST_NAME = 100  # characters
_LATEST = 20  # tasks that are looked at for what was chosen last


@dataclass(frozen=True)
class Latest:
    """How a user's latest task was begun."""

    mode: str
    agents: Sequence[AgentChoice]


def agents_of(task: Task) -> list[AgentChoice]:
    """The agents of a task with their numbers of attempts, retries, branches and combinations not counted."""
    return [AgentChoice(**row) for row in _first(task.runs.all()).values("agent", "model", "options").annotate(attempts=Count("pk"))]


def latest(by: User) -> Latest | None:
    """None when the user has no task yet. One query."""
    newest = Task.objects.visible_to(by).filter(is_trial=False).order_by("-pk").values("pk")[:1]
    chosen = _first(Run.objects.filter(task=Subquery(newest))).values("agent", "model", "options", "task__mode")
    rows = list(chosen.annotate(attempts=Count("pk")))
    agents = [AgentChoice(row["agent"], row["model"], row["attempts"], row["options"]) for row in rows]
    return Latest(rows[0]["task__mode"], agents) if rows else None


def _first(runs: QuerySet[Run]) -> QuerySet[Run]:
    """Those that came with their task."""
    return runs.exclude(options__has_any_keys=[RETRY_OF, COMBINES]).filter(parent=None).order_by()


def usual_agents(by: User) -> list[AgentChoice]:
    """Those that take a prompt in words of the user's latest task that had any and can start now, else the first one that can."""
    offers = Offers.to(by)
    able = {adapter.name: adapter for adapter in offers.adapters if adapter.providers and Mode.CODE in adapter.modes}

    def can_start(agent: str, model: str) -> bool:
        is_there = agent in able and (not model or model in {one.name for one in offers.models[agent]})
        return is_there and not offers.missing_key(able[agent], model)

    for task in Task.objects.visible_to(by).filter(is_trial=False).order_by("-pk")[:_LATEST]:
        if found := [choice for choice in agents_of(task) if can_start(choice.agent, choice.model)]:
            return found
    firsts = ((name, offers.models[name][0].name if offers.models[name] else "") for name in able)
    return [AgentChoice(agent, model) for agent, model in firsts if can_start(agent, model)][:1]


def save_preset(*, by: User, name: str, agents: Sequence[AgentChoice]) -> Preset:
    """Keep a choice of agents under a name; one that has the name already becomes this."""
    name = " ".join(name.split())
    if not name or "\0" in name:
        raise InvalidInput("Give the preset a name.", field="preset_name")
    if len(name) > MOST_NAME:
        raise InvalidInput(f"The name has {len(name)} characters; {MOST_NAME} are the most.", field="preset_name")
    if not agents:
        raise InvalidInput("Choose at least one agent first; the preset keeps that choice.", field="preset_name")
    choices = [{"agent": c.agent, "model": c.model, "attempts": c.attempts, "options": dict(c.options)} for c in agents]
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=by.pk)  # one at a time, so that their number holds
        mine = Preset.objects.visible_to(by)
        if not mine.filter(name=name).exists() and mine.count() >= MOST_PRESETS:
            raise Conflict(f"You have {MOST_PRESETS} presets, as many as there may be. Remove one first.")
        saved, _ = Preset.objects.update_or_create(owner=by, name=name, defaults={"choices": choices})
    return saved


def remove_preset(*, by: User, preset: Preset) -> None:
    if preset.owner_id != by.pk:
        raise NotAllowed("This preset belongs to somebody else.")
    preset.delete()
