"""Runs side by side."""

from __future__ import annotations

from pydantic import BaseModel, Field

from tasks.api.schemas.runs import Run


class Compared(BaseModel):
    """A run of a comparison, with its figures."""

    run: Run
    only: int = Field(description="Files that no other of these runs touched.")
    first_edit_s: float | None = Field(description="From its start to its first change of a file.")
    total_s: float | None = Field(description="What its turns took together.")
    conflicts: list[str] | None = Field(description="Files that conflict with the base branch as it is now; null where that is not known.")


class Cell(BaseModel):
    """What one run did to a file. Cells of a row with the same `letter` left the same content."""

    status: str
    path: str
    additions: int
    deletions: int
    is_binary: bool
    letter: str


class ComparedFile(BaseModel):
    """A row of the matrix: a cell for each run, in the order of `runs`; null where it did not touch the file."""

    path: str
    is_agreed: bool
    cells: list[Cell | None]


class Comparison(BaseModel):
    runs: list[Compared]
    files: list[ComparedFile]
    total: int = Field(description="Files in all, of which `files` are some.")
    agreed: int = Field(description="Files that all runs left with the same content.")
    shared: int = Field(description="Files that several runs touched.")
    next: str | None = Field(description="The address of the next files.")
