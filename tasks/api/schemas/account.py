"""Whose token it is."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class Me(BaseModel):
    """Whose token this is, and what it may do."""

    username: str
    is_operator: bool
    token: str = Field(description="The token's name.")
    scope: Literal["read", "write"]
    expires_at: datetime | None
