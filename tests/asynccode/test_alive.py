"""`manage.py alive`: what compose asks of each service, and what makes it start one anew."""

from __future__ import annotations

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from pytest_django import Settings

from tasks.models import Beats
from tasks.running import condition, heartbeats

pytestmark = pytest.mark.django_db(transaction=True)  # it is asked on a connection of its own


def test_one_that_was_heard_of_is_alive_and_one_that_was_not_is_not() -> None:
    heartbeats.beat(Beats.WORKER)
    heartbeats.beat(Beats.RECONCILE)
    call_command("alive", "worker")
    call_command("alive", "reconcile")
    with pytest.raises(CommandError, match=r"The gateway of .* was not heard of lately"):
        call_command("alive", "gateway")


def test_one_that_fell_silent_is_not_and_another_hosts_does_not_count(settings: Settings) -> None:
    heartbeats.beat(Beats.FOLLOW)
    settings.HOST_NAME, ours = "another", settings.HOST_NAME
    with pytest.raises(CommandError, match="The follower of another was not heard of lately"):
        call_command("alive", "follow")
    settings.HOST_NAME = ours
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tasks_heartbeat SET at = at - interval '1 minute'")
    with pytest.raises(CommandError, match="was not heard of lately"):
        call_command("alive", "follow")


def test_without_a_database_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise psycopg.OperationalError("connection refused")

    monkeypatch.setattr(condition, "asking", refuse)
    with pytest.raises(CommandError, match="does not answer: connection refused"):
        call_command("alive", "worker")
