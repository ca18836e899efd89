"""What happened in a run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from tasks.models import EventKind


class Event(BaseModel):
    """One immutable record of a run. `data` depends on the kind."""

    seq: int
    turn: int | None = Field(description="The turn's number.")
    kind: EventKind
    at: datetime
    data: dict[str, Any]


class Events(BaseModel):
    """Some events in their order. A page may hold fewer than `limit`, since it is bounded in bytes too."""

    items: list[Event]
    last: int = Field(description="The seq to go on after.")
    next: str | None = Field(description="The address of the next page; null when there are no more yet.")
