"""What may be asked of whom: prompts, and agents with their models, modes and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agents.adapters.base import Adapter
from agents.registry import ADAPTERS
from tasks.errors import InvalidInput
from tasks.models import User
from tasks.running import backends
from tasks.running.offers import Offers

MOST_PROMPT = 200_000  # characters
MOST_ATTEMPTS = 20
MOST_STEPS = 1000  # of a turn, where an agent can be limited
RETRY_OF = "retry_of"  # the option of a run that names the one it is a new attempt of
COMBINES = "combines"  # that names those whose patches it was given


@dataclass(frozen=True)
class AgentChoice:
    """An agent with one of its models ("" for its default), tried `attempts` times. `options`: {"effort", "max_turns"}."""

    agent: str
    model: str = ""
    attempts: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)


def parse_agent(text: str, *, attempts: int = 1) -> AgentChoice:
    """`NAME[:MODEL]` as an AgentChoice."""
    agent, _, model = text.strip().partition(":")
    return AgentChoice(agent, model, attempts)


def check_prompt(prompt: str) -> None:
    """InvalidInput for one that cannot be asked."""
    if not prompt.strip():
        raise InvalidInput("Say what is to be done: the prompt is empty.", field="prompt")
    if len(prompt) > MOST_PROMPT:
        raise InvalidInput(f"The prompt has {len(prompt):,} characters; {MOST_PROMPT:,} are the most.", field="prompt")
    if "\0" in prompt:
        raise InvalidInput("The prompt has a NUL character in it.", field="prompt")


def check_mode(agent: str, mode: str) -> None:
    """InvalidInput when the agent is not there (any more), or cannot work in this mode."""
    adapter = ADAPTERS.get(agent)
    if adapter is None:
        raise InvalidInput(f"There is no agent {agent!r} any more.", field="agents")
    if mode not in adapter.modes:
        raise InvalidInput(f"{adapter.label} cannot do {mode!r}.", field="mode")


def check_agents(agents: Sequence[AgentChoice], *, mode: str, backend: str, by: User) -> None:
    """InvalidInput unless all of these can be started for this user."""
    if not agents:
        raise InvalidInput("Choose at least one agent.", field="agents")
    if len({(choice.agent, choice.model) for choice in agents}) != len(agents):
        raise InvalidInput("An agent is named twice with the same model; ask for more attempts instead.", field="agents")
    offers = Offers.to(by)
    offered = {adapter.name: adapter for adapter in offers.adapters}
    for choice in agents:
        adapter = offered.get(choice.agent)
        if adapter is None:
            raise InvalidInput(f"There is no agent {choice.agent!r}. There are: {', '.join(offered)}.", field="agents")
        names = [model.name for model in offers.models[adapter.name]]
        if choice.model and choice.model not in names:
            which = f"There are: {', '.join(names)}" if names else "It takes none"
            raise InvalidInput(f"{adapter.label} has no model {choice.model!r}. {which}.", field="agents")
        if not 1 <= choice.attempts <= MOST_ATTEMPTS:
            raise InvalidInput(f"Attempts go from 1 to {MOST_ATTEMPTS}.", field="attempts")
        check_mode(adapter.name, mode)
        _check_options(adapter, choice.options)
        if missing := offers.missing_key(adapter, choice.model):
            raise InvalidInput(missing, field="agents")
    if none := backends.why_none():
        raise InvalidInput(none, field="backend")
    if backend not in backends.names():
        why = " Set E2B_API_KEY to have it." if backend == "e2b" else ""
        raise InvalidInput(f"There is no sandbox backend {backend!r} here; there is: {', '.join(backends.names())}.{why}", field="backend")


def _check_options(adapter: Adapter, options: Mapping[str, Any]) -> None:
    effort, most = options.get("effort"), options.get("max_turns")
    if effort and effort not in adapter.efforts:
        raise InvalidInput(f"{adapter.label} does not know the effort {effort!r}.", field="agents")
    if most is not None and not (adapter.can_limit_turns and 1 <= most <= MOST_STEPS):
        raise InvalidInput(f"The steps of {adapter.label} cannot be limited to {most}.", field="agents")
