"""Pull requests by the API, on a GitHub of the tests."""

from __future__ import annotations

import pytest

from tasks.models import PullRequest
from tests.tasks.api.conftest import Program
from tests.tasks.github.test_pulls import Shop
from tests.tasks.github.test_pulls import changed as changed
from tests.tasks.github.test_pulls import server as server
from tests.tasks.github.test_pulls import shop as shop

pytestmark = pytest.mark.django_db


def test_a_run_becomes_a_pull_request_and_is_merged(alices: Program, changed: Shop) -> None:
    address = f"/runs/{changed.run.pk}/pull-request"
    assert alices.get(address).status == 404
    asked = [alices.post(address, {"title": "Raise it", "is_draft": True}, key="one") for _ in range(2)]
    assert [(answer.status, answer.body["is_at_work"], answer.body["pull_request"]) for answer in asked] == [(202, True, None)] * 2
    changed.work()
    there = alices.get(address).body
    assert (there["is_at_work"], there["error"]) == (False, "")
    pull = there["pull_request"]
    assert (pull["state"], pull["repository"], pull["base"], pull["run"]) == ("draft", changed.name, "main", changed.run.pk)
    assert alices.get(f"/runs/{changed.run.pk}").body["pull_request"] == pull
    assert [one["number"] for one in alices.get("/pull-requests?state=draft").body["items"]] == [pull["number"]]
    assert alices.get("/pull-requests?state=open").body["items"] == []

    assert alices.post(f"{address}/ready").body["pull_request"]["state"] == "open"
    assert alices.post(f"{address}/close").body["pull_request"]["state"] == "closed"
    assert alices.post(f"{address}/reopen").body["pull_request"]["state"] == "open"
    stale = alices.post(f"{address}/merge", {"method": "squash", "head_sha": "0" * 40})
    assert stale.status == 409
    merged = alices.post(f"{address}/merge", {"method": "squash", "head_sha": pull["head_sha"]})
    assert merged.body["pull_request"]["state"] == "merged"


def test_an_update_takes_the_newest_patch(alices: Program, changed: Shop) -> None:
    address = f"/runs/{changed.run.pk}/pull-request"
    assert alices.ask("PATCH", address, {}).status == 409
    changed.opened()
    changed.change({"shop.py": "price = 3\n"}, turn=2)
    updated = alices.ask("PATCH", address, {"rebases": False})
    assert (updated.status, updated.body["is_at_work"]) == (202, True)
    changed.work()
    assert changed.pushed("shop.py") == "price = 3\n"
    assert PullRequest.objects.count() == 1


def test_what_github_refuses_is_told(alices: Program, changed: Shop) -> None:
    address = f"/runs/{changed.run.pk}/pull-request"
    assert alices.post(address, {"labels": ["nothing of the kind"]}).status == 422
    changed.alice.github.delete()
    answer = alices.post(address, {})
    assert (answer.status, answer.body["code"]) == (403, "github_not_connected")
