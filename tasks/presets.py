"""The verbs of presets: choices of agents that a user keeps under a name."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from tasks.choices import AgentChoice
from tasks.errors import Conflict, InvalidInput, NotAllowed
from tasks.models import Preset, User

MOST_PRESETS = 50  # of a user
MOST_NAME = 100  # characters


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
