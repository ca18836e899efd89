"""Lists in pages: each tells where the next one is, by a cursor that holds its place whatever is added meanwhile."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from django.db.models import Model, QuerySet
from django.http import HttpRequest
from ninja import Path, Query
from pydantic import BaseModel, Field

MOST = 100  # rows of a page
BIGGEST = 2**53 - 1  # a number that every program reads as it is

Row = TypeVar("Row", bound=Model)
Id = Annotated[int, Path(ge=1, le=BIGGEST)]
IdAsked = Annotated[int | None, Query(ge=1, le=BIGGEST)]
Cursor = Annotated[str | None, Query(pattern=r"^c[1-9][0-9]{0,14}$", description="Where to go on: as the page before says it.")]
NO_NUL = r"^[^\x00]*$"  # which no text in PostgreSQL can hold
Limit = Annotated[int, Query(ge=1, le=MOST, description="How many at most.")]


class Page(BaseModel):
    """Some rows of a list, newest first."""

    next: str | None = Field(description="The address of the next page; null on the last one.")


def page(request: HttpRequest, rows: QuerySet[Row, Any], *, cursor: str | None, limit: int) -> tuple[list[Row], str | None]:
    """The rows of one page, by falling id, and the address of the next one. One query."""
    if cursor:
        rows = rows.filter(pk__lt=int(cursor[1:]))
    found = list(rows.order_by("-pk")[: limit + 1])
    if len(found) <= limit:
        return found, None
    return found[:limit], address(request, cursor=f"c{found[limit - 1].pk}")


def address(request: HttpRequest, **changed: str | int) -> str:
    """The address of this request with other values in its query."""
    query = request.GET.copy()
    for name, value in changed.items():
        query[name] = str(value)
    return request.build_absolute_uri(f"{request.path}?{query.urlencode()}")
