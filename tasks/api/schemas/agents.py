"""Who can be asked."""

from __future__ import annotations

from pydantic import BaseModel, Field

from tasks.models import Mode


class Model(BaseModel):
    name: str
    label: str


class Agent(BaseModel):
    """An agent that tasks can be given to. The first of its models is its default."""

    name: str = Field(examples=["shell"])
    label: str
    models: list[Model]
    modes: list[Mode]
    efforts: list[str]
    can_limit_turns: bool
    is_usable: bool
    why_not: str = Field(description="What to do before it can be used; empty when it can.")


class Agents(BaseModel):
    items: list[Agent]
