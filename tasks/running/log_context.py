"""What the work at hand is about: ids of a run, its task and turn, a user, a job, which stand with each line that is logged meanwhile
(asynccode/logs.py). They go along into what is begun from there: threads of asgiref's, tasks of asyncio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

Ids = Mapping[str, str | int]
_NOTHING: Ids = MappingProxyType({})
_about: ContextVar[Ids] = ContextVar("about", default=_NOTHING)


def current() -> Ids:
    return _about.get()


@contextmanager
def about(**ids: str | int) -> Iterator[None]:
    """Within the block, these ids are added."""
    token = _about.set({**_about.get(), **ids})
    try:
        yield
    finally:
        _about.reset(token)


def add(**ids: str | int) -> None:
    """Add these to the end of the innermost block."""
    _about.set({**_about.get(), **ids})


def begin(**ids: str | int) -> None:
    """From here on it is about these and nothing else: another request."""
    _about.set(ids)
