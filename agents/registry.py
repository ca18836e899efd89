"""The agents there are, in the order in which they are shown."""

from __future__ import annotations

from agents.adapters.base import Adapter
from agents.adapters.shell import ShellAdapter

ADAPTERS: dict[str, Adapter] = {adapter.name: adapter for adapter in (ShellAdapter(),)}
