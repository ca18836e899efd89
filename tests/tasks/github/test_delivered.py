"""Webhooks as an emulator of GitHub's makes and delivers them, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from tasks.github import jobs
from tasks.models import Delivery, PullRequest, Run, RunStatus
from tests.github.server import GitHubServer, github_server
from tests.tasks.github.deliveries import SECRET

pytestmark = pytest.mark.django_db(transaction=True)
SHOP = "acme/shop"


@pytest.fixture(scope="module")
def server() -> Iterator[GitHubServer]:
    with github_server() as server:
        server.add_user("alice", "token-of-alice")
        server.add_repo(SHOP, {"a.txt": "a\n"}, permissions={"alice": "admin"})
        server.push(SHOP, "asynccode/1", {"b.txt": "b\n"})
        yield server


def test_what_happens_at_github_is_in_the_row(
    server: GitHubServer, live_server: LiveServer, settings: Settings, make_run: Callable[..., Run]
) -> None:
    settings.GITHUB_WEBHOOK_SECRET = SECRET
    number, head = server.add_pull(SHOP, "asynccode/1"), server.branches(SHOP)["asynccode/1"]
    row = PullRequest.objects.create(
        run=make_run(status=RunStatus.SUCCEEDED),
        repository=SHOP,
        number=number,
        url=f"{server.url}/{SHOP}/pull/{number}",
        branch="asynccode/1",
        base="main",
        head_sha=head,
        mergeable="clean",
    )

    def news() -> PullRequest:
        """The row, once all that was delivered has been worked on."""
        assert {delivery.status for delivery in server.deliveries} <= {202}
        for pk in Delivery.objects.filter(status="queued").order_by("pk").values_list("pk", flat=True):
            jobs.work_on_delivery(pk)
        row.refresh_from_db()
        return row

    server.listen(f"{live_server.url}/github/webhook", SECRET)
    check = server.add_check_run(SHOP, head)
    assert news().checks == "pending"
    server.finish_check_run(SHOP, check, "failure")
    assert news().checks == "failure"
    server.add_review(SHOP, number, "alice", "REQUEST_CHANGES")
    assert news().review == "changes_requested"
    server.push(SHOP, "main", {"c.txt": "c\n"})
    assert news().mergeable == ""
    server.close(SHOP, number)
    assert news().state == "closed"
    assert not Delivery.objects.filter(status__in=["queued", "failed"]).exists(), list(Delivery.objects.values("event", "outcome"))

    again = server.deliveries[-1]
    assert server.deliver(again.event, again.payload, id=again.id).response == "This was received before."
    assert server.deliver(again.event, again.payload, secret="guessed").status == 403
