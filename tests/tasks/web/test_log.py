"""A run's events in pages."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.models import EventKind, Run
from tasks.running import events
from tasks.web import log

pytestmark = pytest.mark.django_db


def test_events_that_come_while_the_newest_page_is_made_are_left_to_the_socket(make_run: Callable[..., Run]) -> None:
    """A page that offers "newer events" does not follow by itself."""
    run = make_run()
    events.append(run.pk, EventKind.LOG, {"stream": "stdout", "text": "one\n"})
    page = log.newest(run)
    events.append(run.pk, EventKind.LOG, {"stream": "stdout", "text": "two\n"})
    assert (page.last, page.has_newer) == (1, False)
    assert log.before(run, 2).has_newer
