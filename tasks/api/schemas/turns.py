"""What was said in a run, and follow-ups."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from tasks.api.paging import Page
from tasks.api.schemas.attachments import Attachment, AttachmentIds
from tasks.api.schemas.inputs import Input, ModeName, Said
from tasks.models import Mode, RunStatus, TurnKind


class Turn(BaseModel):
    """One exchange with the agent."""

    number: int
    kind: TurnKind
    mode: Mode
    prompt: str
    attachments: list[Attachment] = Field(description="The files that went with the prompt.")
    answer: str = Field(description="The agent's last message; of a plan turn, the plan.")
    status: RunStatus
    error_class: str
    author: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: float | None


class Turns(Page):
    items: list[Turn]


class NewFollowUp(Input):
    prompt: Said
    mode: ModeName | None = Field(None, description="That of the newest turn, unless another is asked for.")
    is_urgent: bool = Field(False, description="Do not let it wait for the turn at work: the agent gets it now, or is stopped for it.")
    attachments: AttachmentIds = []
