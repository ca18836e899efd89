"""Each agent's attempts at a task."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from tasks.api.paging import BIGGEST, Page
from tasks.api.schemas.inputs import Input, Number, Said
from tasks.api.schemas.patches import PatchFigures
from tasks.api.schemas.pulls import PullRequest
from tasks.models import RunStatus, Verdict


class Run(BaseModel):
    """One agent's attempt at a task."""

    id: int
    task: int
    url: str
    agent: str
    model: str = Field(description="Empty for the agent's default.")
    attempt: int
    backend: str
    branch: str
    status: RunStatus
    stage: str = Field(description="Where it is in its life, or was when it ended.")
    error: str
    error_class: str
    is_stopping: bool
    waits_for: str = Field(description="Of a run in the queue: why it has not started.")
    parent: int | None = Field(description="Of a branch, the run that it goes on from.")
    parent_turn: int | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_s: float | None
    chosen_at: datetime | None
    set_aside_at: datetime | None
    events: int = Field(description="How many there are: the seq of the newest.")
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    patch: PatchFigures | None
    check: Verdict | None = Field(description="What the repository's check says of the patch.")
    pull_request: PullRequest | None


class Runs(Page):
    items: list[Run]


class NewBranch(Input):
    after: Number = Field(description="The number of the turn that it goes on from.")
    prompt: Said


class Revert(Input):
    to: Annotated[int, Field(ge=0, le=BIGGEST)] = Field(description="The turn whose changes are kept; 0: none.")


class Choice(Input):
    sets_others_aside: bool = Field(False, description="Stop the task's other runs and give their sandboxes back.")


class ApprovedPlan(Input):
    plan: Said = Field(description="The plan as it is to be carried out: the `answer` of the turn, edited or not.")
