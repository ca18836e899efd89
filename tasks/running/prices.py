"""What tokens cost: the price table, read once and asked often."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

MILLION = Decimal(1_000_000)


@dataclass(frozen=True)
class Prices:
    """Rows of Price: the beginning of a model's name → USD for a million tokens of input, cached input, written cache, output."""

    rows: Mapping[str, tuple[Decimal, Decimal, Decimal, Decimal]]

    @classmethod
    def of(cls, rows: Iterable[tuple[str, Decimal, Decimal, Decimal, Decimal]]) -> Prices:
        return cls({model: (given, cached, written, output) for model, given, cached, written, output in rows})

    def cost(self, model: str, *, input: int, cached: int = 0, written: int = 0, output: int = 0) -> Decimal | None:
        """USD; `input` holds the cached and the written tokens too. None for a model without a price. Some agents put the
        provider before the name: anthropic/claude-opus-5-5."""
        model = model.rpartition("/")[2]
        fitting = [name for name in self.rows if model.startswith(name)]
        if not model or not fitting:
            return None
        of_input, of_cached, of_written, of_output = self.rows[max(fitting, key=len)]
        plain = max(0, input - cached - written)
        return (plain * of_input + cached * of_cached + written * of_written + output * of_output) / MILLION

    def of_usage(self, data: Mapping[str, Any]) -> Decimal | None:
        """The cost of a usage event: what the agent says, else by the table."""
        said = data.get("cost_usd")
        if isinstance(said, int | float) and not isinstance(said, bool):
            return Decimal(str(said))
        count = {key: int(data.get(f"{key}_tokens") or 0) for key in ("input", "cached", "output")}
        return self.cost(str(data.get("model") or ""), **count)
