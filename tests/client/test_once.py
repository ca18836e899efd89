"""Whatever gets lost on the way, what was asked is done once."""

from __future__ import annotations

import pytest

from asynccode.client.api import Api
from asynccode.client.failures import Unreachable
from asynccode.client.following import Event, follow
from tests.client.conftest import Desk, World
from tests.client.relay import Relay


def test_a_lost_answer_makes_no_second_task(behind: Desk, relay: Relay) -> None:
    behind.submit("true")  # the repository is there
    before = behind.ok("list", "--limit", "100").count("task/")
    relay.loses = b"POST /api/v1/tasks"

    assert len(behind.submit("echo once")) == 1

    assert relay.lost == 1
    assert behind.ok("list", "--limit", "100").count("task/") == before + 1


def test_a_server_that_stays_away_is_given_up(desk: Desk, relay: Relay, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asynccode.client.following.PATIENCE_S", 1.0)
    (run,) = desk.submit("true")
    with Api(relay.url, world.write) as api:
        events = follow(api, run)
        assert isinstance(next(events), Event)
        relay.is_closed = True
        relay.cut()
        with pytest.raises(Unreachable, match="cannot be reached"):
            for _ in events:
                pass


def test_commands_with_one_key_count_once(desk: Desk) -> None:
    first = desk.submit("echo keyed", "--idempotency-key", "nightly")
    assert desk.submit("echo keyed", "--idempotency-key", "nightly") == first
    other = desk("submit", "echo other", "--agent", "shell", "--idempotency-key", "nightly")
    assert other.exit_code == 1
    assert "This Idempotency-Key came with another request before" in other.stderr


@pytest.mark.parametrize("words", [["watch", "987654"], ["cancel", "987654"], ["apply", "987654"], ["pr", "987654"], ["open", "987654"]])
def test_what_is_not_there_is_said_at_once(desk: Desk, words: list[str]) -> None:
    done = desk(*words)
    assert done.exit_code == 1
    assert done.stderr == "There is nothing at this address, or it is not yours.\n"
