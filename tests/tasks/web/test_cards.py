"""What a run's card says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from tasks.models import Patch, PatchKind, PullRequest, Run, Turn
from tasks.web.cards import Figures, RunCard, amount, cards_of, dollars, time_of

MakeRun = Callable[..., Run]


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0.0, "0.1 s"), (0.42, "0.4 s"), (1.0, "0:01"), (372.9, "6:12"), (3723.0, "1:02:03")]
)
def test_times(seconds: float | None, text: str) -> None:
    assert time_of(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (950, "950"), (1000, "1.0k"), (9499, "9.5k"), (48_200, "48k"), (1_200_000, "1.2M"), (48_000_000, "48M")]
)
def test_amounts_have_four_signs_at_most(number: int, text: str) -> None:
    assert amount(number) == text


@pytest.mark.parametrize(("cost", "text"), [(None, ""), ("0", "$0.00"), ("0.004", "<$0.01"), ("0.615", "$0.62"), ("1234.5", "$1,234.50")])
def test_costs(cost: str | None, text: str) -> None:
    assert dollars(Decimal(cost) if cost else None) == text


def test_a_clock_runs_only_while_the_run_does() -> None:
    started_at = timezone.now() - timedelta(seconds=90)
    running = RunCard(Run(status="running", started_at=started_at))
    over = RunCard(Run(status="succeeded", started_at=started_at, finished_at=started_at + timedelta(seconds=0.4)))
    again = RunCard(Run(status="queued", started_at=started_at))
    assert (running.since, running.time) == (started_at, "1:30")
    assert (over.since, over.time) == (None, "0.4 s")
    assert (again.since, again.time) == (None, "")


def test_tokens_and_cost_are_empty_until_they_are_known() -> None:
    assert (RunCard(Run()).tokens, RunCard(Run()).cost) == ("", "")
    assert RunCard(Run(input_tokens=41_200, output_tokens=6_900)).tokens == "41k in · 6.9k out"


def test_an_error_comes_with_what_to_do() -> None:
    assert "key" in RunCard(Run(status="failed", error_class="auth")).advice
    assert "setup script" in RunCard(Run(status="errored", stage="setup")).advice
    assert RunCard(Run(status="succeeded", error_class="auth")).advice == ""
    assert RunCard(Run(status="failed", error_class="never heard of")).advice == ""


@pytest.mark.django_db
def test_the_newest_patch_counts_and_a_final_one_before_its_checkpoint(make_run: MakeRun) -> None:
    run = make_run()
    later = Turn.objects.create(run=run, number=2, prompt="more")
    for turn, kind, added in ((run.turns.get(number=1), "final", 1), (later, "checkpoint", 2), (later, "final", 3)):
        Patch.objects.create(
            run=run, turn=turn, kind=PatchKind(kind), content=b"x", sha256="0", files=[{"path": "a"}, {"path": "b"}], additions=added
        )
    [card] = cards_of([run])
    assert card.figures == Figures(2, 3, 0)


@pytest.mark.django_db
def test_turns_follow_ups_and_the_pull_request(make_run: MakeRun) -> None:
    run, other = make_run(status="running"), make_run()
    for number in (2, 3):
        Turn.objects.create(run=run, number=number, prompt="more", status="queued")
    PullRequest.objects.create(run=run, number=7, url="https://example.org/7", branch="b")
    card, plain = cards_of([run, other])
    assert (card.turns, card.follow_ups, card.pull_request_name) == (3, 2, "PR #7 open")
    assert (plain.turns, plain.follow_ups, plain.pull_request_name, plain.pull_request_url) == (1, 0, "", "")
