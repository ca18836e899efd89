"""What was used, by the API."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from tasks.models import Run, User
from tests.tasks.api.conftest import Program

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def used(make_run: Callable[..., Run], bob: User) -> None:
    now = timezone.now()
    for owner, agent, cost, days in (
        (None, "claude", "1.5", 0),
        (None, "codex", "2.5", 1),
        (None, "shell", None, 1),
        (bob, "codex", "9", 0),
    ):
        run = make_run(owner=owner, agent=agent, status="succeeded")
        run.turns.update(started_at=now - timedelta(days=days), input_tokens=100, output_tokens=10, cost_usd=cost)
    make_run().turns.update(started_at=now - timedelta(days=40), cost_usd="99")


def test_it_is_told_by_day_agent_and_model(alices: Program) -> None:
    days = alices.get("/usage").body["items"]
    today = timezone.now().date()
    assert [(row["key"], row["turns"], row["cost_usd"]) for row in days] == [(f"{today}", 1, 1.5), (f"{today - timedelta(days=1)}", 2, 2.5)]
    by_agent = alices.get("/usage?by=agent").body["items"]
    assert [(row["key"], row["cost_usd"], row["input_tokens"]) for row in by_agent] == [
        ("codex", 2.5, 100),
        ("claude", 1.5, 100),
        ("shell", None, 100),
    ]
    assert [row["key"] for row in alices.get("/usage?by=model").body["items"]] == [""]
    assert sum(row["turns"] for row in alices.get("/usage?days=366").body["items"]) == 4


def test_only_operators_see_what_everybody_used(alices: Program, bobs: Program) -> None:
    everybody = alices.get("/usage?by=user&everybody=true").body["items"]
    assert [(row["key"], row["cost_usd"]) for row in everybody] == [("bob", 9.0), ("alice", 4.0)]
    assert bobs.get("/usage?by=user").body["items"][0]["key"] == "bob"
    assert bobs.get("/usage?everybody=true").status == 403
