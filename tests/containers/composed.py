"""The compose files as Docker reads them: variables put in, files laid over each other. As much of that as ours use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
BASE, LOCAL, TEST = "compose.yaml", "compose.local-sandboxes.yaml", "compose.test.yaml"
PROFILE = "compose.local-sandboxes.seccomp.json"
OURS = ("migrate", "web", "worker", "operations", "follower", "gateway", "cron")
SERVERS = ("postgres", "redis")

_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)(?::([-?])([^}]*))?\}")
_REPLACED = ("command", "entrypoint", "test")  # the other lists are added to


def services(*files: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """The services that start by themselves, by their names."""
    merged: dict[str, Any] = {}
    for file in files:
        text = (ROOT / file).read_text()
        said = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        merged = _over(merged, yaml.safe_load(_VARIABLE.sub(lambda found: _value(found, environment), said)))
    return {name: service for name, service in merged["services"].items() if "profiles" not in service}


def _value(found: re.Match[str], environment: Mapping[str, str]) -> str:
    name, how, rest = found.groups()
    if value := environment.get(name, ""):
        return value
    assert how != "?", f"{name}: {rest}"
    return rest or ""


def _over(below: Any, above: Any, key: str = "") -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {name: _over(below.get(name), value, name) for name, value in above.items()}
    if isinstance(below, list) and isinstance(above, list) and key not in _REPLACED:
        return [*below, *(entry for entry in above if entry not in below)]
    return above
