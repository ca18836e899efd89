"""The agents there are, in the order in which they are shown."""

from __future__ import annotations

from agents.adapters.acp import AcpAdapter
from agents.adapters.base import Adapter
from agents.adapters.claude import ClaudeAdapter
from agents.adapters.codex import CodexAdapter
from agents.adapters.gemini import GeminiAdapter
from agents.adapters.profiles import PROFILES
from agents.adapters.shell import ShellAdapter

ADAPTERS: dict[str, Adapter] = {
    adapter.name: adapter
    for adapter in (
        ClaudeAdapter(),
        CodexAdapter(),
        GeminiAdapter(),
        *(AcpAdapter(profile) for profile in PROFILES),
        ShellAdapter(),
    )
}


def adapter(name: str) -> Adapter:
    """The adapter of that name; UnknownAgentError for one that this version does not know (any more)."""
    if name not in ADAPTERS:
        raise UnknownAgentError(f"This version of asynccode does not know the agent {name!r}.")
    return ADAPTERS[name]


class UnknownAgentError(Exception):
    """A run names an agent that is not there."""
