"""The sandboxes that a backend has beside the rows we have of them. Only a look: what no row wants, `reaping` destroys."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from asgiref.sync import async_to_sync
from django.conf import settings
from django.db.models import QuerySet

from sandboxes.base import Backend, SandboxInfo
from sandboxes.errors import SandboxError
from tasks.models import Sandbox, SandboxStatus
from tasks.running import backends

MOST_S = 5.0  # for which a backend's answer is waited for
MOST_ROWS = 500
_COLUMNS = ("run__status", "run__task_id", "ref", "status", "generation", "created_at", "run_id", "host", "backend")


class Match(StrEnum):
    BOTH = "both"
    NOT_THERE = "not there"  # we have a row, the backend has no sandbox
    NO_ROW = "no row"  # it is ours by its key, but no row wants it
    ELSEWHERE = "of another installation"


@dataclass(frozen=True)
class Entry:
    match: Match
    ref: str
    key: str
    is_alive: bool | None  # None: the backend has none
    row: Sandbox | None


@dataclass(frozen=True)
class Inventory:
    """Differences first. `problem`: why the backend said nothing; then all rows stand there as they are known."""

    backend: str
    where: str
    entries: Sequence[Entry]
    problem: str = ""
    is_cut: bool = False


def look(name: str) -> Inventory:
    """Takes no longer than MOST_S and two queries."""
    where = settings.HOST_NAME if name == "local" else settings.E2B_DOMAIN or "e2b.app"
    here = {"host": settings.HOST_NAME} if name == "local" else {}
    ours = Sandbox.objects.filter(backend=name, **here).exclude(status=SandboxStatus.DESTROYED).select_related("run").only(*_COLUMNS)
    # Before the list, so that what is missing in it was known before it was made.
    rows = {row.ref: row for row in ours.exclude(ref="").order_by("-pk")[: MOST_ROWS + 1]}
    is_cut = len(rows) > MOST_ROWS
    problem, infos = "", []
    try:
        infos = async_to_sync(_listed)(backends.backend(name))
    except TimeoutError:
        problem = f"It did not answer within {MOST_S:.0f} seconds."
    except SandboxError as error:
        problem = str(error)
    found = [Entry(Match.BOTH, info.ref, info.key, info.is_alive, rows.pop(info.ref)) for info in infos if info.ref in rows]
    known = {entry.ref for entry in found}
    found += _without_row([info for info in infos if info.ref not in known], ours)
    if not is_cut:  # else a row may be beyond those that were read
        found += [Entry(Match.BOTH if problem else Match.NOT_THERE, ref, "", None, row) for ref, row in rows.items()]
    found.sort(key=lambda entry: entry.match == Match.BOTH)
    return Inventory(name, where, found[:MOST_ROWS], problem, is_cut or len(found) > MOST_ROWS)


def _without_row(infos: Sequence[SandboxInfo], ours: QuerySet[Sandbox]) -> list[Entry]:
    """Those of whose reference no row was read: one that is being made has none yet, and others may have a row further back."""
    named = {info.ref: _named(info.key) for info in infos}
    wanted = {run for run, _ in filter(None, named.values())}
    rows = {(row.run_id, row.generation): row for row in ours.filter(run__in=wanted)} if wanted else {}
    found = []
    for info in infos:
        place = named[info.ref]
        row = rows.get(place) if place else None
        row = row if row is not None and row.ref in ("", info.ref) else None
        match = Match.BOTH if row else Match.NO_ROW if place else Match.ELSEWHERE
        found.append(Entry(match, info.ref, info.key, info.is_alive, row))
    return found


def _named(key: str) -> tuple[int, int] | None:
    """The run and generation of a key of this installation's."""
    installation, _, rest = key.partition(":")
    run, _, generation = rest.partition(":")
    is_ours = installation == backends.installation() and all(part.isdecimal() and len(part) <= 18 for part in (run, generation))
    return (int(run), int(generation)) if is_ours else None


async def _listed(backend: Backend) -> list[SandboxInfo]:
    async with asyncio.timeout(MOST_S):
        return await backend.list()
