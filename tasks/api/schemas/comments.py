"""On lines of a run's changes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from tasks.api.paging import Page
from tasks.api.schemas.inputs import Input, Name, Number
from tasks.models import CommentSide


class Comment(BaseModel):
    """What somebody said of lines of a changed file."""

    id: int
    path: str
    old_path: str
    side: CommentSide = Field(description="new: lines as they are after the change; old: before it.")
    start: int = Field(description="The first line, from 1.")
    end: int = Field(description="The last line, included.")
    quote: str
    body: str
    author: str
    is_draft: bool
    turn: int | None = Field(description="The number of the follow-up that it was sent with.")
    review: str = Field(description="The address of the review at GitHub that it became a part of; else empty.")
    created_at: datetime


class Comments(Page):
    items: list[Comment]


CommentBody = Annotated[str, Field(min_length=1, max_length=10_000, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]
Line = Annotated[int, Field(ge=1, le=2**31 - 1)]


class NewComment(Input):
    path: Name = Field(description="Of the file, as the run has it now or as it was before.", examples=["shop/cart.py"])
    side: Literal["new", "old"] = "new"
    start: Line
    end: Line
    body: CommentBody


class CommentText(Input):
    body: CommentBody


class SentComments(Input):
    comments: Annotated[list[Number], Field(min_length=1, max_length=100)] = Field(description="Ids of your drafts on this run.")
    message: Annotated[str, Field(max_length=10_000, pattern=r"^[^\x00]*$")] = Field("", description="What is said before them.")
    is_urgent: bool = False
