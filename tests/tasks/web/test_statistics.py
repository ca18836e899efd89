"""How agents have done, on a page: of one user, or for operators of everybody."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from tasks.models import Run, Task, User
from tasks.review import statistics
from tasks.review.statistics import scores
from tasks.web.plots import nice_end, nice_time

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]


def over(make_run: MakeRun, task: Task, agent: str, seconds: int, cost: str, **fields: object) -> Run:
    end = timezone.now()
    times = {"started_at": end - timedelta(seconds=seconds), "finished_at": end}
    return make_run(task, agent=agent, cost_usd=cost, **{"status": "succeeded"} | times | fields)


def text(client: Client, query: str = "") -> str:
    html = client.get(f"/statistics/{query}").content.decode()
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


@pytest.fixture
def task(make_task: Callable[..., Task], make_run: MakeRun) -> Task:
    task = make_task()
    over(make_run, task, "claude", 60, "0.60", model="opus", chosen_at=timezone.now())
    over(make_run, task, "claude", 120, "0.20", model="opus", status="failed")
    over(make_run, task, "claude", 180, "0.40", model="opus", queued_at=timezone.now() - timedelta(days=60))
    over(make_run, task, "codex", 30, "0.10")
    over(make_run, make_task(), "codex", 30, "0.30")
    make_run(task, agent="codex")
    return task


def test_wins_success_time_and_cost_by_agent_and_model(task: Task, alice: User) -> None:
    claude, codex = scores(user=alice, everybody=False, days=None)
    assert (claude.label, claude.runs, claude.succeeded, claude.over, claude.wins, claude.decided) == ("Claude Code opus", 3, 2, 3, 1, 3)
    assert (round(claude.median_s or 0), float(claude.median_cost or 0), float(claude.total_cost or 0)) == (120, 0.4, 1.2)
    assert (codex.runs, codex.over, codex.wins, codex.decided) == (3, 2, 0, 2)  # of the other task nobody has chosen
    assert scores(user=alice, everybody=False, days=30)[0].runs == 2


def test_the_page_has_a_plot_and_a_table(as_alice: Client, task: Task) -> None:
    shown = text(as_alice, "?days=all")
    assert "1 Claude Code opus 1 of 3 33% 2 of 3 67% 3 2:00 $0.40 $1.20" in shown
    assert "2 Codex 0 of 2 0% 2 of 2 100% 3 0:30 $0.20 $0.40" in shown
    assert '<svg class="plot"' in as_alice.get("/statistics/").content.decode()


def test_others_runs_are_for_operators_who_ask(as_alice: Client, as_bob: Client, task: Task, make_run: MakeRun, bob: User) -> None:
    assert "No runs in the last 30 days" in text(as_bob)
    assert "No runs in the last 30 days" in text(as_bob, "?of=all")
    make_run(owner=bob, agent="gemini")
    assert "Gemini" not in text(as_alice)
    assert "Gemini" in text(as_alice, "?of=all")


@pytest.mark.parametrize(("most", "end"), [(0, 1), (0.3, 0.5), (7, 10), (240, 250), (1000, 1000)])
def test_axes_end_at_round_numbers(most: float, end: float) -> None:
    assert nice_end(most) == pytest.approx(end)
    assert [nice_time(seconds) for seconds in (4, 61, 460, 10**9)] == [5, 75, 600, 10**9]


def test_what_takes_long_to_count_is_kept_for_a_while(
    as_alice: Client, task: Task, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "LONG_S", 0)
    monkeypatch.setattr(statistics, "MOST_KEPT_S", 60)
    monkeypatch.setattr(statistics, "KEPT", 100_000)
    assert "As of" not in text(as_alice)
    over(make_run, task, "claude", 60, "0.60", model="sonnet")
    assert re.search(r"As of \d\d:\d\d UTC", kept := text(as_alice))
    assert "sonnet" not in kept
    assert "sonnet" in text(as_alice, "?days=90")  # which is counted by itself
