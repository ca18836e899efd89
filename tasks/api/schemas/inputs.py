"""What values of bodies may be, and a body."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.api.paging import BIGGEST
from tasks.choices import MOST_PROMPT

Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Said = Annotated[str, Field(min_length=1, max_length=MOST_PROMPT, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]
Name = Annotated[str, Field(min_length=1, max_length=250, pattern=r"^[^\x00]*$")]
Number = Annotated[int, Field(ge=1, le=BIGGEST)]
ModeName = Literal["code", "plan", "ask"]


class Input(BaseModel):
    """A body. What it does not know is refused, so that a misspelled name does not go unnoticed."""

    model_config = ConfigDict(extra="forbid", strict=True)
