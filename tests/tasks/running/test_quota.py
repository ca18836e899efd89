"""How many runs somebody may have: what the scheduler holds to, what a submission is refused for, and what the composer says before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.utils import timezone
from pytest_django import Settings

from tasks import services
from tasks.models import Quota as Row
from tasks.models import Run, Task, Turn, User
from tasks.running import quotas, scheduler
from tasks.running.quotas import Day
from tasks.running.scheduler import Quota, quota

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        ([], [], Quota(3, 0, {"local": 3})),
        (["running", "starting", "succeeded"], [], Quota(3, 2, {"local": 1})),
        (["running", "queued"], [], Quota(3, 1, {"local": 1})),
        (["running", "running", "running", "queued"], [], Quota(3, 3, {"local": 0})),
        ([], ["running", "running", "running", "queued", "queued"], Quota(3, 0, {"local": 1})),
        (["running"], ["running", "running", "running"], Quota(3, 1, {"local": 0})),
    ],
)
def test_both_caps_and_what_waits_are_taken_off(
    alice: User, bob: User, make_run: MakeRun, settings: Settings, mine: list[str], theirs: list[str], expected: Quota
) -> None:
    settings.MAX_ACTIVE_RUNS, settings.MAX_ACTIVE_RUNS_PER_USER = 4, 3
    for owner, statuses in ((alice, mine), (bob, theirs)):
        for status in statuses:
            make_run(owner=owner, status=status)
    assert quota(alice, ["local"]) == expected


@pytest.mark.parametrize("usual", ["local", "e2b"])
def test_what_e2b_has_no_room_for_is_not_free_there(alice: User, make_run: MakeRun, settings: Settings, usual: str) -> None:
    settings.MAX_ACTIVE_RUNS = settings.MAX_ACTIVE_RUNS_PER_USER = 10
    settings.SANDBOX_BACKEND, settings.E2B_MAX_SANDBOXES = usual, 3
    make_run(status="starting", backend="e2b")
    assert quota(alice, ["e2b", "local"]).free == {"e2b": 2, "local": 9}


def test_it_is_two_queries(alice: User, django_assert_num_queries: Callable[[int], object]) -> None:
    with django_assert_num_queries(2):  # type: ignore[attr-defined]
        quota(alice, ["local"])


# --- at once --------------------------------------------------------------------------------------------------------------


def start(runs: list[Run]) -> int:
    """How many of these the scheduler starts."""
    scheduler.dispatch()
    return Run.objects.filter(pk__in=[run.pk for run in runs], status="starting").count()


@pytest.fixture
def web(alice: User, bob: User) -> Group:
    group = Group.objects.create(name="Web")
    group.user_set.set([alice, bob])
    return group


def test_ones_own_quota_goes_before_that_of_each_person_and_that_before_the_setting(
    alice: User, bob: User, charlie: User, make_run: MakeRun, settings: Settings
) -> None:
    settings.MAX_ACTIVE_RUNS, settings.MAX_ACTIVE_RUNS_PER_USER = 20, 1
    Row.objects.create(scope="user", at_once=2)
    Row.objects.create(scope="user", user=alice, at_once=5)
    Row.objects.create(scope="user", user=charlie, a_day=3)  # leaves the other to that of each person
    runs = {user.username: [make_run(owner=user) for _ in range(6)] for user in (alice, bob, charlie)}
    assert quota(alice, ["local"]).most == 5
    assert {name: start(own) for name, own in runs.items()} == {"alice": 5, "bob": 2, "charlie": 2}
    waiting = runs["bob"][-1].pk
    assert scheduler.places([waiting])[waiting].reason == "You have 2 runs active, as many as one person may."


def test_a_group_shares_its_quota_and_holds_up_nobody_else(
    alice: User, bob: User, charlie: User, web: Group, make_run: MakeRun, settings: Settings
) -> None:
    settings.MAX_ACTIVE_RUNS = settings.MAX_ACTIVE_RUNS_PER_USER = 20
    Row.objects.create(scope="group", group=web, at_once=3)
    make_run(owner=alice, status="running")
    hers, his, theirs = ([make_run(owner=user) for _ in range(4)] for user in (alice, bob, charlie))
    assert quota(bob, ["local"]).free == {"local": 2}
    assert (start(hers) + start(his), start(theirs)) == (2, 4)
    assert scheduler.places([hers[-1].pk])[hers[-1].pk].reason == "The group Web has as many runs active as it may together."
    assert scheduler.dispatch() == 0


def test_the_site_may_be_held_to_less_than_its_setting(alice: User, make_run: MakeRun, settings: Settings) -> None:
    settings.MAX_ACTIVE_RUNS = settings.MAX_ACTIVE_RUNS_PER_USER = 20
    Row.objects.create(scope="site", at_once=2)
    runs = [make_run() for _ in range(4)]
    assert quota(alice, ["local"]).most == 2
    assert start(runs) == 2
    assert "2 runs may be active at once" in scheduler.places([runs[-1].pk])[runs[-1].pk].reason


# --- a day ----------------------------------------------------------------------------------------------------------------


def test_a_day_counts_new_runs_from_midnight_on_and_no_follow_ups_and_none_of_our_own(
    alice: User, bob: User, web: Group, make_run: MakeRun, make_task: Callable[..., Task]
) -> None:
    Row.objects.create(scope="user", a_day=50)
    Row.objects.create(scope="group", group=web, a_day=60)
    Row.objects.create(scope="site", a_day=70)
    Row.objects.create(scope="user", user=bob, a_day=5)
    run = make_run(owner=alice)
    Turn.objects.create(run=run, number=2, prompt="more", author=alice)
    make_run(make_task(alice, is_trial=True))
    make_run(owner=bob)
    old = make_run(owner=alice)
    old.turns.update(created_at=timezone.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(seconds=1))
    assert quota(alice, []).days == (Day("You", 50, 1), Day("The group Web", 60, 2), Day("Everybody together", 70, 2))
    assert quota(bob, []).days[0] == Day("You", 5, 1)


def test_what_goes_beyond_a_day_is_refused_whole_and_says_whose_day_it_is(alice: User, make_run: MakeRun) -> None:
    row = Row.objects.create(scope="user", user=alice, a_day=3)
    run = make_run(owner=alice, status="failed")
    quotas.check_day(owner=alice, runs=2)
    with pytest.raises(quotas.QuotaUsedUp, match=r"^You may begin 3 runs a day, and have begun 1 today; these are 3 more\."):
        quotas.check_day(owner=alice, runs=3)
    services.retry_run(run=run, by=alice)
    row.a_day = 2
    row.save()
    with pytest.raises(quotas.QuotaUsedUp, match="this is one more"):
        services.retry_run(run=make_run(owner=alice, status="failed"), by=alice)


@pytest.mark.django_db(transaction=True)
def test_of_two_submissions_at_once_only_what_is_left_gets_through(alice: User, make_task: Callable[..., Task]) -> None:
    Row.objects.create(scope="site", a_day=5)
    task = make_task(alice)
    begun: list[int] = []

    def submit(number: int) -> None:
        try:
            with transaction.atomic():
                quotas.check_day(owner=alice, runs=3)
                for attempt in range(3):
                    run = Run.objects.create(task=task, agent="shell", attempt=10 * number + attempt, backend="local", branch="b")
                    Turn.objects.create(run=run, number=1, prompt="x", author=alice)
            begun.append(number)
        except quotas.QuotaUsedUp:
            pass
        finally:
            connection.close()

    threads = [threading.Thread(target=submit, args=[number]) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == 1
    assert Run.objects.count() == 3
