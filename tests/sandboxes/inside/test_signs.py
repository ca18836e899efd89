"""Steps that get input and say themselves that their work is done."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from sandboxes.inside.journal import LINE_MAX
from sandboxes.inside.signs import Signs
from tests.sandboxes.inside._houses import House, processes_with, shell

DONE = '{"type": "result", "is_error": false}'
ON = '{"type": "system", "subtype": "init"}'
HANG = "trap '' HUP; while :; do sleep 0.05; done"


def talk(script: str, **fields: Any) -> dict[str, Any]:
    """A step that is done with a result and goes on with an init, as one of the agents does."""
    given = {"ends_on": [{"type": "result"}], "goes_on": [{"type": "system", "subtype": "init"}], "linger_s": 0.4}
    return shell(script, **{**given, **fields})


def test_input_is_there_at_the_start_and_messages_come_after_it(house: House) -> None:
    house.turn(shell("while read -r line; do echo got $line; [ $line = last ] && break; done", stdin=True, input=["größe", "two"]))
    house.wait("out", line="got two")
    assert house.ask("message", text="last") == {"ok": True}
    assert house.end()["reason"] == "exit"
    assert house.lines() == ["got größe", "got two", "got last"]


def test_megabytes_of_input_arrive_whole_and_leave_room_for_messages(house: House) -> None:
    house.turn(shell("sleep 0.3; head -n 4 | wc -c", stdin=True, input=["x" * 1_500_000] * 3))
    house.wait_step()
    assert house.ask("message", text="more") == {"ok": True}
    house.end()
    assert house.lines() == [str(3 * 1_500_001 + 5)]


def test_input_to_a_step_that_does_not_read_it_changes_nothing(house: House) -> None:
    assert house.run(shell("exec <&-; echo on", stdin=True, input=["x" * 1_000_000]))["reason"] == "exit"
    assert house.lines() == ["on"]


def test_a_step_that_is_done_has_its_input_closed_and_leaves_by_itself(house: House) -> None:
    end = house.run(talk(f"echo '{DONE}'; while read -r line; do echo got $line; done; echo left", stdin=True, linger_s=30.0))
    assert (end["reason"], end["code"], house.lines()) == ("exit", 0, [DONE, "left"])


def test_a_step_that_is_done_and_stays_is_ended_as_finished_and_the_next_one_runs(house: House) -> None:
    end = house.run(talk(f"echo x > new; echo '{DONE}'; {HANG}"), "echo next")
    ended = house.records("step", step="step0", state="ended")[0]
    assert (ended["reason"], ended["signal"]) == ("finished", 15)
    assert (end["step"], end["reason"], house.lines(step="step1")) == ("step1", "exit", ["next"])


def test_the_turn_of_a_finished_step_ends_as_finished_with_its_patch(house: House) -> None:
    end = house.run(talk(f"echo x > new; echo '{DONE}'; trap '' TERM; (sleep 1000; : {house.folder}/left) & {HANG}"))
    assert (end["reason"], end["signal"], end["error"], end["has_patch"]) == ("finished", 9, None, True)
    assert b"+x" in house.patch()
    assert not processes_with(f"{house.folder}/left")


def test_a_done_step_that_still_writes_is_given_its_time(house: House) -> None:
    end = house.run(talk(f"echo '{DONE}'; for i in 1 2 3 4; do sleep 0.2; echo $i >&2; done; exit 3"))
    assert (end["reason"], end["code"]) == ("exit", 3)


def test_a_step_goes_on_after_all(house: House) -> None:
    end = house.run(talk(f"echo '{DONE}'; sleep 0.1; echo '{ON}'; sleep 1; echo really; echo '{DONE}'; {HANG}"))
    assert (end["reason"], house.lines()) == ("finished", [DONE, ON, "really", DONE])


def test_a_step_that_goes_on_has_its_silence_clock_again(house: House) -> None:
    assert house.run(talk(f"echo '{DONE}'; sleep 0.1; echo '{ON}'; {HANG}", silence_s=0.6))["reason"] == "silence"


@pytest.mark.parametrize("clock", ["silence_s", "total_s"])
def test_no_other_clock_makes_a_failure_of_what_is_done(house: House, clock: str) -> None:
    assert house.run(talk(f"echo '{DONE}'; {HANG}", linger_s=1.5, **{clock: 0.7}))["reason"] == "finished"


def test_a_stop_of_a_done_step_is_a_stop(house: House) -> None:
    house.turn(talk(f"echo '{DONE}'; {HANG}", linger_s=60.0))
    house.wait("out", line=DONE)
    house.ask("stop")
    assert house.end()["reason"] == "stop"


def test_a_message_after_the_work_is_done_is_refused(house: House) -> None:
    house.turn(talk(f"echo '{DONE}'; sleep 0.1; echo '{ON}'; echo on; {HANG}", stdin=True, linger_s=60.0))
    house.wait("out", line="on")
    sentence = "The running step has said that its work is done, and takes no more messages."
    assert house.ask("message", text="x") == {"ok": False, "error": "failed", "message": sentence}


def test_messages_that_were_taken_before_the_work_was_done_arrive(house: House) -> None:
    house.turn(talk(f"read -r line; sleep 0.3; echo '{DONE}'; sleep 0.5; wc -c", stdin=True, linger_s=30.0))
    house.wait_step()
    for text in ("first", "x" * 500_000):
        assert house.ask("message", text=text) == {"ok": True}
    house.end()
    assert house.lines() == [DONE, "500001"]


def test_what_says_nothing_ends_nothing(house: House) -> None:
    long = '{"type": "result", "text": "' + "x" * LINE_MAX + '"}'
    lines = ['"type": "result"', '["type", "result"]', '{"type": "result"', '{"kind": "result"}', "result", f"  {DONE}x"]
    script = f"cat {house.home}/lines; echo '{DONE}' >&2; sleep 0.7; exit 5"
    end = house.run(talk(script, linger_s=0.1, files={f"{house.home}/lines": "\n".join([*lines, long, ""])}))
    assert (end["reason"], end["code"]) == ("exit", 5)


MATCHES = [
    ({"type": "result"}, {"type": "result", "more": [1]}, True),
    ({"type": "result"}, {"type": "results"}, False),
    ({"type": "result", "ok": True}, {"ok": True, "type": "result"}, True),
    ({"type": "result", "ok": True}, {"ok": 1, "type": "result"}, False),
    ({"type": "result", "ok": 1}, {"ok": True, "type": "result"}, False),
    ({"ok": None}, {"ok": None}, True),
    ({"ok": None}, {}, False),
    ({"a": {"b": "c"}}, {"a": {"b": "c", "d": 1}, "e": 2}, True),
    ({"a": {"b": "c"}}, {"a": "b", "b": "c"}, False),
    ({"a": [1, 2]}, {"a": [1, 2]}, True),
    ({"a": [1, 2]}, {"a": [1, 2, 3]}, False),
    ({"größe": "ü"}, {"größe": "ü"}, True),
    ({"a": 'x"\\'}, {"a": 'x"\\'}, True),
]


@pytest.mark.parametrize(("pattern", "said", "matches"), MATCHES)
@pytest.mark.parametrize("is_ascii", [True, False])
def test_a_pattern_matches_what_has_its_members(pattern: dict[str, Any], said: dict[str, Any], matches: bool, is_ascii: bool) -> None:
    line = json.dumps(said, ensure_ascii=is_ascii).encode()
    assert Signs([pattern], [], 1.0).read([(line, 0)]) == (True if matches else None)
    assert Signs([], [pattern], 1.0).read([(line, 0)]) == (False if matches else None)
    assert Signs([pattern], [], 1.0).read([(line, 1)]) is None  # cut


@pytest.mark.parametrize("line", [b"[" * 100_000 + b'"done"', b'{"a": "done", "b": ' + b"9" * 100_000 + b"}", b'{"a": "done"} \xff', b""])
def test_odd_lines_are_no_sign(line: bytes) -> None:
    assert Signs([{"a": "done"}], [], 1.0).read([(line, 0)]) is None


def test_the_last_line_that_tells_counts() -> None:
    signs = Signs([{"type": "result"}], [{"type": "init"}], 1.0)
    done, on, other = b'{"type":"result"}', b'{"type":"init"}', b'{"type":"text","text":"init"}'
    assert signs.read([(done, 0), (other, 0)]) is True
    assert signs.read([(done, 0), (on, 0), (other, 0)]) is False


def test_a_flood_costs_little_when_it_is_looked_through() -> None:
    lines = [(b'{"type":"assistant","text":"' + b"result " * 12 + b'"}', 0)] * 200_000
    started = time.process_time()
    assert Signs([{"type": "result"}], [{"type": "system", "subtype": "init"}], 1.0).read(lines) is None
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"stdin": 1}, "standard input"),
        ({"input": ["x"]}, "has input but no standard input"),
        ({"input": "x", "stdin": True}, "not lines of text"),
        ({"input": ["a\nb"], "stdin": True}, "not lines of text"),
        ({"input": [1], "stdin": True}, "not lines of text"),
        ({"ends_on": {"type": "result"}}, "sign of its end"),
        ({"ends_on": [{}]}, "sign of its end"),
        ({"goes_on": ["result"]}, "sign of its end"),
        ({"linger_s": 0}, "linger"),
        ({"linger_s": True}, "linger"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(house: House, fields: dict[str, Any], words: str) -> None:
    reply = house.turn(shell("true", **fields))
    assert (reply["ok"], reply["error"]) == (False, "bad")
    assert words in reply["message"]
