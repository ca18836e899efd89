"""What a run changed."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from tasks.models import PatchKind


class PatchFigures(BaseModel):
    """How much a patch changes."""

    sha256: str
    is_final: bool = Field(description="false of one that was taken while the agent is at work.")
    files: int
    additions: int
    deletions: int


class PatchFile(BaseModel):
    path: str
    old_path: str | None
    state: Literal["added", "modified", "deleted", "renamed", "mode"]
    additions: int
    deletions: int
    is_binary: bool


class LeftOut(BaseModel):
    """A file that is not in the patch, and why."""

    path: str
    bytes: int | None = None
    reason: str = ""


class Patch(BaseModel):
    """What a run had changed since the base commit when a turn was over, or so far."""

    turn: int
    kind: PatchKind
    sha256: str
    additions: int
    deletions: int
    files: list[PatchFile]
    left_out: list[LeftOut]
    secrets_found: list[str] = Field(description="The names of the repository's secrets whose values are in the patch.")
    created_at: datetime


class Patches(BaseModel):
    items: list[Patch]
