"""What the composer says before it is sent: how many new runs would start at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_django import Settings

from tasks.models import Run, User
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


def test_it_is_one_query(alice: User, django_assert_num_queries: Callable[[int], object]) -> None:
    with django_assert_num_queries(1):  # type: ignore[attr-defined]
        quota(alice, ["local"])
