"""The dashboard of the administration: what it counts, by few questions, for operators only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from tasks.admin import figures
from tasks.models import Event, EventKind, ModelCall, Run, RunStatus, User
from tasks.review import statistics
from tasks.running.model_access import month_began

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
HOSTILE = "<script>alert(1)</script>\u202e"
MOST_QUERIES = 12


@pytest.fixture(autouse=True)
def nothing_is_kept(settings: Settings) -> None:
    """What a slow machine took long to count would be shown again by the next test."""
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}


@pytest.fixture
def operator(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


def call(run: Run, usd: str, **at: object) -> None:
    made = ModelCall.objects.create(user=run.task.owner, run=run, turn=run.turns.get(), provider="openai", status=200, cost_usd=usd)
    ModelCall.objects.filter(pk=made.pk).update(**at)


def begun(run: Run, *, queue: int, start: int, first: int) -> None:
    """Let a run's first turn have waited so many seconds for each."""
    turn = run.turns.get()
    at = turn.created_at + timedelta(seconds=queue)
    run.turns.update(started_at=at)
    for seq, kind, data in [
        (1, EventKind.STATUS, {"status": "starting"}),
        (2, EventKind.STATUS, {"status": "running"}),
        (3, EventKind.STATUS, {"stage": "agent"}),
        (4, EventKind.MESSAGE, {"text": HOSTILE}),
    ]:
        after = {1: 0, 2: start, 3: start, 4: start + first}[seq]
        Event.objects.create(run=run, turn=turn, seq=seq, kind=kind, data=data, at=at + timedelta(seconds=after))


def test_it_says_what_goes_on_and_what_was_spent(operator: Client, make_run: MakeRun, bob: User) -> None:
    make_run(status=RunStatus.RUNNING), make_run(status=RunStatus.QUEUED), make_run(status=RunStatus.WAITING)
    call(make_run(status=RunStatus.SUCCEEDED), "1.25")
    call(make_run(owner=bob, status=RunStatus.SUCCEEDED, agent="codex"), "3", at=month_began(timezone.now()))
    call(make_run(owner=bob), "100", at=month_began(timezone.now()) - timedelta(seconds=1))
    assert figures.now() == {"queued": 2, "starting": 0, "running": 1, "waiting": 1}
    costs = figures.count_costs()
    assert costs.month == Decimal("4.25")
    assert [(cost.name, cost.month) for cost in costs.people] == [("bob", 3), ("alice", Decimal("1.25"))]
    assert [cost.name for cost in costs.agents] == ["Codex", "Shell script"]
    assert costs.agents[1].today == Decimal("1.25")
    page = operator.get("/admin/").content.decode()
    assert "$4.25" in page
    assert "Codex" in page


def test_it_says_why_runs_failed(operator: Client, make_run: MakeRun) -> None:
    now = timezone.now()
    for _ in range(2):
        make_run(status=RunStatus.FAILED, error_class="rate_limit", stage="agent", finished_at=now)
    make_run(status=RunStatus.ERRORED, stage="setup", error=HOSTILE, finished_at=now)
    make_run(status=RunStatus.FAILED, finished_at=now - timedelta(days=8))
    assert [(f.error_class, f.stage, f.status, f.runs) for f in figures.count_failures()] == [
        ("rate_limit", "agent", "failed", 2),
        ("", "setup", "errored", 1),
    ]
    page = operator.get("/admin/").content.decode()
    assert "Rate limit" in page
    assert "Running the setup script" in page
    assert "<script>alert" not in page
    listed = operator.get("/admin/tasks/run/?status__exact=failed&stage__exact=agent&error=rate_limit")
    assert listed.context["cl"].result_count == 2


def test_it_says_how_long_runs_waited(make_run: MakeRun) -> None:
    for queue, start, first in [(1, 2, 10), (3, 4, 20)]:
        begun(make_run(status=RunStatus.SUCCEEDED), queue=queue, start=start, first=first)
    make_run()  # one that waits still
    days = figures.count_waits()
    assert len(days) == figures.DAYS
    assert days[-1].runs == 2
    assert (days[-1].queue[0], days[-1].start[0], days[-1].first[0]) == pytest.approx((2, 3, 15))
    assert days[-1].first[1] == pytest.approx(19.5)
    assert days[0].queue == (None, None)


def test_it_asks_as_little_however_much_there_is(operator: Client, make_run: MakeRun) -> None:
    found = []
    for _ in range(2):
        for status in RunStatus.values:
            run = make_run(status=status, finished_at=timezone.now(), stage="agent", error_class="hung")
            begun(run, queue=1, start=1, first=1)
            call(run, "1")
        with CaptureQueriesContext(connection) as asked:
            assert operator.get("/admin/").status_code == 200
        found.append(len(asked))
    assert found[0] == found[1] <= MOST_QUERIES


def test_what_it_counts_is_found_by_indexes_and_within_bounds_of_time() -> None:
    """Whatever there is in all: nothing is read that is older than what is shown."""
    with connection.cursor() as cursor, CaptureQueriesContext(connection) as asked:
        cursor.execute("SET LOCAL enable_seqscan = off")  # there are too few rows here for an index to be worth it
        for count in (figures.now, figures.count_costs, figures.count_failures, figures.count_waits):
            count()
    big = ("tasks_run", "tasks_turn", "tasks_event", "tasks_modelcall")
    selects = [query["sql"] for query in asked.captured_queries if "SELECT" in query["sql"]]
    assert len(selects) == 4
    for sql in selects:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {sql}".replace("%", "%%"))
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert not any(f"Seq Scan on {table}" in plan for table in big), plan
        assert any(bound in plan for bound in ("Index Cond: (at >=", "Index Cond: (finished_at >=", "(created_at >=", "(status")), plan


def test_what_takes_a_while_is_counted_once_in_a_while(
    operator: Client, make_run: MakeRun, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "dashboard"}}
    monkeypatch.setattr(figures, "_LONG_S", 0)
    monkeypatch.setattr(statistics, "KEPT", 10**6)
    call(make_run(status=RunStatus.SUCCEEDED), "1.25")
    numbers = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as asked:
            assert "$1.25" in operator.get("/admin/").content.decode()
        numbers.append(sum(any(table in query["sql"] for table in ("modelcall", "finished_at", "tasks_event")) for query in asked))
        call(make_run(status=RunStatus.SUCCEEDED), "3")
    assert numbers == [3, 0]
    cache.clear()


def test_nobody_else_sees_it(bob: User) -> None:
    client = Client()
    assert client.get("/admin/").status_code == 302
    client.force_login(bob)
    assert client.get("/admin/").status_code == 302
