"""Which agents and models this installation offers: what adapters know, as operators have changed it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from agents.adapters.base import Adapter, Model, Provider
from agents.registry import ADAPTERS
from tasks.models import AgentModel, AgentSetting
from tasks.models.credential import PROVIDERS


def adapters() -> list[Adapter]:
    """The agents that are on, in their order."""
    off = set(AgentSetting.objects.filter(is_on=False).values_list("agent", flat=True))
    return [adapter for adapter in ADAPTERS.values() if adapter.name not in off]


def all_models() -> dict[str, Sequence[Model]]:
    """Agent → its models, the default first."""
    named: dict[str, list[Model]] = {}
    for row in AgentModel.objects.all():
        named.setdefault(row.agent, []).append(Model(row.name, row.label or row.name))
    return {adapter.name: named.get(adapter.name) or adapter.models for adapter in ADAPTERS.values()}


def models(adapter: Adapter) -> Sequence[Model]:
    """The models of one agent, the default first."""
    rows = AgentModel.objects.filter(agent=adapter.name)
    return [Model(row.name, row.label or row.name) for row in rows] or adapter.models


def missing_key(adapter: Adapter, model: str, keys: Collection[Provider]) -> str:
    """What to do before this agent can work with this model ("" for its default), given whose keys there are; "" when it can."""
    provider = adapter.provider(model)
    if provider is None or provider in keys:
        return ""
    return f"{adapter.label} needs a key of {dict(PROVIDERS)[provider]}. Add one under Settings → Keys."
