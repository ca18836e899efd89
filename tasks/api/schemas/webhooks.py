"""Who is told of your runs, and what became of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from tasks.api.paging import Page
from tasks.models import OutgoingState


class Webhook(BaseModel):
    """An address that is told of your runs."""

    id: int
    url: str
    events: list[str] = Field(examples=[["run.failed"]])
    is_active: bool
    created_at: datetime


class Webhooks(Page):
    items: list[Webhook]


class Delivery(BaseModel):
    """One message to a webhook."""

    id: int
    webhook: int
    key: str = Field(description="The `webhook-id` that it is sent with, the same in all attempts.")
    event: str
    state: OutgoingState = Field(description="due: it is tried again; delivered; failed: given up.")
    attempts: int
    due_at: datetime | None = Field(description="When it is tried next; null when it is not.")
    tried_at: datetime | None
    status: int | None = Field(description="Of the last answer; null when there was none.")
    answer: str = Field(description="How the last answer began, or why there was none.")
    payload: dict[str, Any]
    created_at: datetime


class Deliveries(Page):
    items: list[Delivery]
