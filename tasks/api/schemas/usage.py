"""Tokens and cost."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Usage(BaseModel):
    """What some turns took together."""

    key: str = Field(description="A day (2026-11-27), an agent, a model, or a user's name.")
    turns: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: float | None = Field(description="null where no price is known.")


class Usages(BaseModel):
    items: list[Usage]
