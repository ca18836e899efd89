"""After a follow-up about a pull request it is updated by itself, if that was wanted, once and only with what ended well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.core.cache import cache
from django.utils import timezone

from tasks.errors import Conflict
from tasks.github import following, jobs
from tasks.models import Operation, Run, RunStatus, Turn
from tests.tasks.github import test_pulls
from tests.tasks.github.test_pulls import Shop

pytestmark = pytest.mark.django_db
server, shop, changed = test_pulls.server, test_pulls.shop, test_pulls.changed


@pytest.fixture
def opened(changed: Shop, settings: Any) -> Shop:
    """With a pull request, and a follow-up under way after which it is to be updated."""
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}
    changed.opened()
    assert following.send(run=changed.run, by=changed.alice, prompt="Fix the checks", updates=True).number == 2
    return changed


def end(shop: Shop, *, status: str = "succeeded", **patch: Any) -> None:
    """Turn 2 is over, and has changed a file."""
    shop.change({"shop.py": "price = 3\n"}, turn=2, **patch)
    Run.objects.filter(pk=shop.run.pk).update(status=status)


def begun() -> int:
    return Operation.objects.filter(kind="pull_request").exclude(status="succeeded").count()


def test_it_is_updated_when_the_turn_is_over(opened: Shop) -> None:
    jobs.update_pull_requests()
    assert begun() == 0  # it is at work
    end(opened)
    jobs.update_pull_request(opened.run.pk)
    jobs.update_pull_requests()
    assert begun() == 1
    opened.work()
    assert opened.pushed("shop.py") == "price = 3\n"
    assert opened.publication().update_after is None
    jobs.update_pull_requests()
    assert begun() == 0


@pytest.mark.parametrize("status", ["failed", "errored", "canceled", "interrupted"])
def test_what_did_not_end_well_is_not_published(opened: Shop, status: str) -> None:
    end(opened, status=status)
    jobs.update_pull_requests()
    assert (begun(), opened.publication().update_after, opened.publication().error) == (0, None, "")


def test_a_turn_that_changed_nothing_publishes_nothing(opened: Shop) -> None:
    Turn.objects.filter(run=opened.run, number=2).update(status="succeeded")
    Run.objects.filter(pk=opened.run.pk).update(status=RunStatus.SUCCEEDED)
    jobs.update_pull_requests()
    assert (begun(), opened.publication().update_after) == (0, None)


def test_secrets_are_never_published_by_themselves(opened: Shop) -> None:
    end(opened, secrets_found=["API_KEY"])
    jobs.update_pull_requests()
    assert begun() == 0
    assert "API_KEY" in opened.publication().error
    assert opened.publication().update_after is None


@pytest.mark.parametrize("trouble", ["limit", "down"])
def test_while_github_cannot_be_asked_it_waits(opened: Shop, trouble: str) -> None:
    end(opened)
    if trouble == "limit":
        opened.server.limit(seconds=600)
    else:
        opened.server.fault("/repos/", status=502, times=None)
    jobs.update_pull_requests()
    assert (begun(), opened.publication().update_after) == (0, 2)
    opened.server.forget()
    cache.clear()
    jobs.update_pull_requests()
    assert begun() == 1


def test_a_pull_request_that_was_merged_meanwhile_is_left_alone(opened: Shop) -> None:
    end(opened)
    opened.run.pull_request.state = "merged"
    opened.run.pull_request.save()
    jobs.update_pull_requests()
    assert begun() == 0
    assert "is merged" in opened.publication().error


def test_without_the_wish_nothing_is_published(changed: Shop) -> None:
    changed.opened()
    following.send(run=changed.run, by=changed.alice, prompt="Fix the checks", updates=False)
    end(changed)
    jobs.update_pull_requests()
    assert begun() == 0


def test_a_script_or_a_closed_pull_request_takes_no_such_follow_up(opened: Shop, make_run: Callable[..., Run]) -> None:
    send = lambda: following.send(run=opened.run, by=opened.alice, prompt="x", updates=True)  # noqa: E731
    opened.run.agent = "shell"
    with pytest.raises(Conflict, match="script"):
        send()
    opened.run.agent = "claude"
    opened.run.pull_request.state = "closed"
    opened.run.pull_request.seen_at = timezone.now()
    opened.run.pull_request.save()
    with pytest.raises(Conflict, match="Reopen it"):
        send()
