"""What every bench gives."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

_COMPARE = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Report:
    """`figures` by name; `goals` as {name: ["<=" or ">=", number]}."""

    bench: str
    figures: dict[str, float]
    goals: dict[str, list[Any]]

    @property
    def missed(self) -> list[str]:
        return [key for key, (sign, goal) in self.goals.items() if not _COMPARE[sign](self.figures[key], goal)]

    def as_json(self) -> dict[str, Any]:
        return {"bench": self.bench, "figures": self.figures, "goals": self.goals, "missed": self.missed}
