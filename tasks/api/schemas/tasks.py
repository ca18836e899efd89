"""What somebody wants."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from tasks.api.paging import Page
from tasks.api.schemas.attachments import AttachmentIds
from tasks.api.schemas.inputs import Input, ModeName, Name, Number, Said
from tasks.api.schemas.runs import Run
from tasks.choices import MOST_ATTEMPTS, MOST_STEPS
from tasks.models import Mode


class AgentChoice(Input):
    agent: Name = Field(examples=["shell"])
    model: Annotated[str, Field(max_length=120)] = Field("", description="Empty for the agent's default.")
    attempts: Annotated[int, Field(ge=1, le=MOST_ATTEMPTS)] = 1
    effort: Annotated[str, Field(max_length=20)] | None = None
    max_turns: Annotated[int, Field(ge=1, le=MOST_STEPS)] | None = None


class NewTask(Input):
    repo: Number | Name = Field(description="The id of a repository, or the source of one, which is added if it is new.", examples=[1])
    prompt: Said = Field(examples=["Add a --verbose option"])
    agents: Annotated[list[AgentChoice], Field(min_length=1, max_length=20)]
    branch: Annotated[str, Field(max_length=250)] = Field("", description="The base branch; empty for the repository's default.")
    mode: ModeName = "code"
    backend: Literal["", "local", "e2b"] = Field("", description="Where sandboxes are made; empty for the usual place.")
    attachments: AttachmentIds = []


class TaskRepo(BaseModel):
    id: int
    name: str


class Task(BaseModel):
    """What somebody wants, with the runs that try it."""

    id: int
    url: str
    repo: TaskRepo
    title: str
    mode: Mode
    base_branch: str
    base_commit: str = Field(description="Empty while the repository is copied for the first time.")
    created_at: datetime
    archived_at: datetime | None
    origin: str = Field(description="The address at GitHub where it was asked for; else empty.")
    is_restricted: bool
    runs: list[Run]


class WholeTask(Task):
    prompt: str


class Tasks(Page):
    items: list[Task]


class NewFollowUps(Input):
    runs: Annotated[list[Number], Field(min_length=1, max_length=100)]
    prompt: Said
    mode: ModeName | None = None
    attachments: AttachmentIds = []
