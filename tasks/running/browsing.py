"""A workspace in which a turn is at work, as a page may look into it: its sandbox is asked, with little patience. Nothing is woken up.

Who asks waits with a thread and a connection of the database in hand, so a web process looks into few at one time.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from asgiref.sync import async_to_sync
from django.conf import settings

from sandboxes.base import Entry, Sandbox
from sandboxes.errors import FileMissing, SandboxError
from tasks.errors import AppError
from tasks.models import Run, RunStatus, SandboxStatus, User
from tasks.models import Sandbox as Row
from tasks.running import backends

T = TypeVar("T")
PATIENCE_S = 5.0
MOST_LOOKS = 6  # at one time, in one process
MOST_OF_USER = 2  # of these

_looks: Counter[int] = Counter()  # at this time, by user
_counting = threading.Lock()


class Unseen(AppError):
    """The workspace cannot be looked into as it is now; the message says why."""

    code = "workspace_unseen"


def sandbox_of(run: Run) -> Row | None:
    """The sandbox in which a turn of this run is at work; None when none is."""
    if run.status != RunStatus.RUNNING:
        return None
    return Row.objects.filter(run=run, generation=run.generation, status=SandboxStatus.LIVE).exclude(ref="").first()


def entries(row: Row, folder: str, *, by: User, first: int, most: int) -> tuple[list[Entry], int] | None:
    """At most `most` entries of a folder of the workspace from number `first` on, and how many there are; None when there is no such
    folder. Unseen when the sandbox does not say, or too many look already."""

    async def look(box: Sandbox) -> tuple[list[Entry], int]:
        found, count = await box.look(folder, first=first, most=most)
        return [_sensible(entry) for entry in found[:most]], int(count)

    return _asked(row, by, look)


def content(row: Row, path: str, *, by: User, most: int) -> tuple[bytes, int] | None:
    """At most `most` bytes of a file of the workspace, and its whole size; None when there is none. Unseen as above."""

    async def read(box: Sandbox) -> tuple[bytes, int]:
        found, whole = await box.read(path, most=most)
        return found[:most], max(int(whole), 0)

    return _asked(row, by, read)


def _sensible(entry: Entry) -> Entry:
    """The entry, if a file can have such a name and size: at E2B it is only a claim."""
    for text in (entry.name, entry.target):
        text.encode(errors="surrogateescape")
    if not entry.name or {"/", "\0"} & set(entry.name) or not isinstance(entry.size, int) or entry.size < 0:
        raise ValueError("No file can be so.")
    return entry


@contextmanager
def _place(user_id: int) -> Iterator[None]:
    """One of the places of those who look; Unseen when there is none."""
    with _counting:
        if _looks[user_id] >= MOST_OF_USER:
            raise Unseen(f"You are looking into {MOST_OF_USER} workspaces just now. Try again when they have answered.")
        if _looks.total() >= MOST_LOOKS:
            raise Unseen("Too many people are looking into workspaces just now. Try again in a moment.")
        _looks[user_id] += 1
    try:
        yield
    finally:
        with _counting:
            _looks[user_id] -= 1
            if not _looks[user_id]:
                del _looks[user_id]


def _asked(row: Row, by: User, question: Callable[[Sandbox], Awaitable[T]]) -> T | None:
    if row.backend == "local" and row.host != settings.HOST_NAME:
        raise Unseen(f"The sandbox of this run is on another machine ({row.host}).")

    async def ask() -> T:
        async with asyncio.timeout(PATIENCE_S):
            return await question(await backends.backend(row.backend).connect(row.ref))

    try:
        with _place(by.pk):
            return async_to_sync(ask)()
    except FileMissing:
        return None
    except (SandboxError, TimeoutError) as error:
        raise Unseen("The sandbox of this run does not answer just now.") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # it is not ours alone, so its answer may make no sense
        raise Unseen("The sandbox of this run gave an answer that makes no sense.") from error
