"""Which agents and models this installation offers: what adapters know, as operators have changed it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef, Q, QuerySet
from django.db.models.functions import JSONObject

from agents.adapters.base import Adapter, Model, Provider
from agents.registry import ADAPTERS
from tasks.models import AgentModel, AgentSetting, Credential, User
from tasks.models.credential import PROVIDERS
from tasks.running import model_access


@dataclass(frozen=True)
class Offers:
    """What a user may choose from: the agents that are on, in their order; by agent all its models, the default first; and whose keys
    the user's agents can use."""

    adapters: Sequence[Adapter]
    models: Mapping[str, Sequence[Model]]
    keys: Collection[Provider]

    @classmethod
    def to(cls, user: User) -> Offers:
        """One query."""
        return cls.of(User.objects.filter(pk=user.pk).values(**cls.asked()).get())

    @staticmethod
    @cache  # the same for every query, and not made in a moment
    def asked() -> dict[str, ArraySubquery]:
        """Of a query of users, what `of` has to know, for whoever asks for more of them at once."""
        named = AgentModel.objects.values(json=JSONObject(agent="agent", name="name", label="label"))
        stored = Credential.objects.filter(Q(owner=OuterRef("pk")) | Q(owner=None))
        return {
            "agents_off": ArraySubquery(_off().values("agent")),
            "models_named": ArraySubquery(named),
            "keys_stored": ArraySubquery(stored.values("provider")),
        }

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Offers:
        return cls(
            [adapter for adapter in ADAPTERS.values() if adapter.name not in row["agents_off"]],
            _models((said["agent"], said["name"], said["label"]) for said in row["models_named"]),
            model_access.providers_with_key(row["keys_stored"]),
        )

    def missing_key(self, adapter: Adapter, model: str = "") -> str:
        """What to do before this agent can work with this model ("" for its default); "" when it can."""
        provider = adapter.provider(model)
        if provider is None or provider in self.keys:
            return ""
        return f"{adapter.label} needs a key of {dict(PROVIDERS)[provider]}. Add one under Settings → Keys."


def adapters() -> list[Adapter]:
    """The agents that are on, in their order, whoever asks."""
    off = set(_off().values_list("agent", flat=True))
    return [adapter for adapter in ADAPTERS.values() if adapter.name not in off]


def all_models() -> dict[str, Sequence[Model]]:
    """Agent → its models, the default first."""
    return _models(AgentModel.objects.values_list("agent", "name", "label"))


def _off() -> QuerySet[AgentSetting]:
    return AgentSetting.objects.filter(is_on=False)


def _models(rows: Iterable[tuple[str, str, str]]) -> dict[str, Sequence[Model]]:
    """Of rows of agent, name and label."""
    named: dict[str, list[Model]] = {}
    for agent, name, label in rows:
        named.setdefault(agent, []).append(Model(name, label or name))
    return {adapter.name: named.get(adapter.name) or adapter.models for adapter in ADAPTERS.values()}
