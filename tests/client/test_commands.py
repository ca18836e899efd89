"""From a prompt to files in a checkout and a pull request; whatever gets lost on the way, what was asked is done once."""

from __future__ import annotations

import json

import pytest

from asynccode.client.api import Api
from asynccode.client.failures import Unreachable
from asynccode.client.following import Event, follow
from tests.client.conftest import Desk, World
from tests.client.relay import Relay

HOSTILE = r"printf '\033]0;evil\007\033[2J\033[31mred\033[0m \342\200\256back\r\n'"


def test_login_submit_watch_diff_apply_and_pull_request(desk: Desk, world: World) -> None:
    (desk.folder.parent / "prompt").write_text(f"{HOSTILE}; echo four >> a.txt; printf '\\033[8mhidden\\n' > new.txt")

    watched = desk.ok("submit", f"@{desk.folder.parent / 'prompt'}", "--agent", "shell", "--watch")

    run = watched.split("\nrun ")[1].split(":")[0]
    assert "\nred U+202Eback\n" in watched
    assert "\x1b" not in watched
    assert f"run {run} succeeded" in watched
    assert f"{run} shell succeeded" in desk.ok("list")

    patch = desk.ok("diff", run)
    assert "+four\n" in patch
    assert "\x1b[8mhidden" in patch  # for git, byte for byte
    stat = desk.ok("diff", run, "--stat")
    assert "added            +1 −0  new.txt" in stat
    assert "2 files, +2 −0" in stat

    assert "Applied: 2 files, +2 −0." in desk.ok("apply", f"{world.url}/runs/{run}/")
    assert desk.git("status", "--porcelain") == "M  a.txt\nA  new.txt\n"
    assert desk.git("diff", "--cached", "--full-index", "--binary") == patch
    refused = desk("apply", run)
    assert refused.exit_code == 1
    assert "not committed (a.txt, new.txt). Commit or stash them first" in refused.stderr

    assert desk.ok("pr", run, "--draft", "--title", "Count on").startswith(f"{world.github}/alice/shop/pull/")
    assert "turn 2" in desk.ok("follow-up", run, "echo five >> a.txt")
    again = desk.ok("watch", run)
    assert again.index("› echo five") > again.index("› printf")
    assert "+five" in desk.ok("diff", run)


def test_events_and_tasks_are_json_for_programs(desk: Desk) -> None:
    out = desk.ok("submit", "-", "--agent", "shell", "--watch", "--json", input=HOSTILE)

    task, *events, end = map(json.loads, out.splitlines())
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert end == {"end": {"run": task["runs"][0]["id"], "status": "succeeded"}}
    assert out.isascii()
    assert "\x1b" not in out


def test_exit_codes_and_sentences(desk: Desk, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asynccode.client.api.PATIENCE_S", 1.0)

    def said(code: int, *words: str, **more: str) -> str:
        done = desk(*words, **more)
        assert done.exit_code == code, done.output
        return done.output

    task = ("--agent", "shell")
    assert "You can use: " in said(2, "submit", "true")
    assert "names no run" in said(2, "watch", "x")
    assert "is a task. Give one of its runs" in said(2, "apply", "task/1")
    assert "There is nothing at this address, or it is not yours." in said(1, "diff", "987654")
    assert "There is no agent 'nobody'" in said(1, "submit", "true", "--agent", "nobody")
    other = ("--agent", "shell", "--repo", "git@github.com:acme/other.git")
    assert "does not know https://github.com/acme/other.git. Let it be added with --add-repo" in said(1, "submit", "true", *other)
    assert "\n── failed\n" in said(1, "submit", "exit 3", *task, "--watch")

    assert "unknown, expired or revoked" in said(3, "login", "--token-stdin", input="ac_wrong")
    assert "not signed in at http://localhost:9. Do: asynccode login" in said(3, "whoami", "--server", "http://localhost:9")
    desk.environment["ASYNCCODE_TOKEN"] = world.read
    assert "http://localhost:9 cannot be reached" in said(4, "whoami", "--server", "http://localhost:9")
    assert "the token read may read" in said(0, "whoami")
    assert "not signed in at http://localhost:9" in said(3, "watch", "http://localhost:9/runs/1/")  # it gets no token of another server
    assert "This token may only read. Make one that may write" in said(1, "submit", "true", *task)
    desk.environment["ASYNCCODE_TOKEN"] = ""
    said(0, "logout")
    assert "not signed in to any server. Do: asynccode login URL" in said(3, "whoami")


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
