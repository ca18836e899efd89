"""What a run left beside its patch."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field


class Artifact(BaseModel):
    """A file that a run left in its folder `artifacts/`."""

    id: int
    path: str = Field(description="Below that folder, as the agent named it: do not trust it as a path of yours.")
    turn: int = Field(description="The turn whose version it is.")
    size: int = Field(description="Bytes.")
    sha256: str = Field(description="Of what is kept; empty when nothing is.")
    left_out: str = Field(description="Why the newest version is not kept (size, total, count, unreadable); empty when it is.")
    secrets_found: list[str] = Field(description="The names of the repository's secrets whose values are in it.")
    created_at: datetime


class Artifacts(BaseModel):
    items: list[Artifact]
