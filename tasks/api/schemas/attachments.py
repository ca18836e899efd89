"""Files that go with prompts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from tasks.api.paging import Page
from tasks.api.schemas.inputs import Number
from tasks.attachments import MOST_FILES

AttachmentIds = Annotated[
    list[Number], Field(max_length=MOST_FILES, description="Ids of files of yours that go with the prompt: see `upload_attachment`.")
]


class Attachment(BaseModel):
    """A file that goes with prompts."""

    id: int
    name: str = Field(description="The file's own, made safe for any folder.", examples=["notes.txt"])
    content_type: str = Field(description="By its content and name, not by what was said when it came.")
    size: int = Field(description="Bytes.")
    created_at: datetime


class Attachments(Page):
    items: list[Attachment]
