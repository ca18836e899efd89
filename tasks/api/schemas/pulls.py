"""Runs on GitHub."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from tasks.api.paging import Page
from tasks.api.schemas.inputs import Input, Name, Text
from tasks.models import PullRequestState


class PullRequest(BaseModel):
    """A pull request, as GitHub said last."""

    run: int
    repository: str
    number: int
    url: str
    branch: str
    base: str
    state: PullRequestState
    head_sha: str
    checks: str
    review: str
    mergeable: str
    created_at: datetime
    seen_at: datetime | None


class PullRequests(Page):
    items: list[PullRequest]


class Conflict(BaseModel):
    path: str
    text: str = ""


class Publication(BaseModel):
    """How far a run is on its way to GitHub."""

    run: int
    branch: str
    is_at_work: bool
    error: str
    error_code: str
    conflicts: list[Conflict]
    refused: list[str] = Field(description="Sentences on labels and reviewers that GitHub refused.")
    pull_request: PullRequest | None = Field(description="null until it is open.")


class NewPullRequest(Input):
    title: Annotated[str, Field(max_length=250)] = Field("", description="Empty: the task's title.")
    body: Text | None = Field(None, description="null: put together from what the agent said, the template and the prompt.")
    base: Annotated[str, Field(max_length=250)] = Field("", description="The branch it is to go into; empty: the task's base branch.")
    branch: Annotated[str, Field(max_length=250)] = Field("", description="The branch to push to; empty: the run's own.")
    is_draft: bool = False
    labels: Annotated[list[Name], Field(max_length=50)] = []
    reviewers: Annotated[list[Name], Field(max_length=50)] = []
    allows_secrets: bool = Field(False, description="Publish a patch that holds values of the repository's secrets.")


class PullRequestUpdate(Input):
    rebases: bool = Field(True, description="false: leave conflicts with the base branch to GitHub.")
    branch: Annotated[str, Field(max_length=250)] = ""
    labels: Annotated[list[Name], Field(max_length=50)] | None = None
    reviewers: Annotated[list[Name], Field(max_length=50)] | None = None
    allows_secrets: bool = False


class Merge(Input):
    method: Literal["merge", "squash", "rebase"]
    head_sha: Annotated[str, Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")] = Field(description="The commit that was looked at.")
