from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandboxes.inside.patches import bounded
from tests.sandboxes.inside._houses import PYTHON, House, processes_with, until

STOPPED = "The sandbox stopped before the turn was over."


def test_a_turn_is_new_only_once(house: House) -> None:
    house.turn("until [ -e go ]; do sleep 0.01; done; echo ran")
    assert house.turn("echo again") == {"ok": True, "is_new": False}
    house.wait_step()
    assert (house.state / "turn-1-1.lock").exists()
    (house.workspace / "go").touch()
    house.end()
    assert house.turn("echo again") == {"ok": True, "is_new": False}
    assert house.lines() == ["ran"]


def test_another_turn_is_refused_while_one_is_running(house: House) -> None:
    house.turn("sleep 1000")
    reply = house.turn("echo", turn=2)
    assert (reply["error"], reply["message"]) == ("busy", "Turn 1 is still running.")
    house.ask("stop")
    house.end()
    assert house.run("true", turn=2)["reason"] == "exit"


@pytest.mark.parametrize("mode", ["state", "descriptors"])
def test_a_turn_stays_old_for_the_next_supervisor(make_house: Callable[..., House], mode: str) -> None:
    house = make_house(mode).start()
    house.run("echo ran")
    assert house.ask("shutdown")["ok"]
    house.process.wait()
    house.start()
    assert house.ask("ping")["turns"] == [[1, 1]]
    assert house.turn("echo again") == {"ok": True, "is_new": False}
    assert house.run("true", turn=2)["reason"] == "exit"
    assert not house.records("step", turn=2, step="checkout")
    assert [record["n"] for record in house.records()] == list(range(1, len(house.records()) + 1))


@pytest.mark.parametrize("mode", ["state", "descriptors", "init"])
def test_a_turn_whose_supervisor_died_is_ended_by_the_next_one(make_house: Callable[..., House], mode: str) -> None:
    house = make_house(mode).start()
    house.turn("echo begun; sleep 1000")
    house.wait("out", line="begun")
    house.kill()
    with house.journal.open("ab") as journal:
        journal.write(b'{"n":99,"t":1.0,"kind":"ou')
    house.start()
    end = house.end()
    assert (end["reason"], end["error"], end["has_patch"]) == ("error", STOPPED, False)
    assert house.turn("echo again") == {"ok": True, "is_new": False}
    assert [record["n"] for record in house.records()] == list(range(1, len(house.records()) + 1))
    assert house.run("cat README", turn=2)["reason"] == "exit"


def test_a_turn_that_was_locked_and_never_recorded_is_ended_too(make_house: Callable[..., House]) -> None:
    house = make_house()
    (house.state / "turn-1-7.lock").touch()
    house.start()
    assert house.end(turn=7)["error"] == STOPPED
    assert house.turn("true", turn=7) == {"ok": True, "is_new": False}


@pytest.mark.parametrize("mode", ["state", "descriptors"])
def test_two_supervisors_never_share_a_journal(make_house: Callable[..., House], mode: str) -> None:
    house = make_house(mode).start()
    journal = os.open(house.journal, os.O_RDWR | os.O_APPEND)
    words = ["--state", str(house.state)] if mode == "state" else ["--journal-fd", str(journal), "--control-fd", "0"]
    second = subprocess.run(
        [PYTHON, "-I", "-S", str(house.app), *words, "--scratch", str(house.folder / "other")],
        pass_fds=[journal], capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    with pytest.raises(BlockingIOError):
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(journal)
    assert second.returncode == 1
    assert "Another supervisor is running on this journal." in second.stderr
    assert house.ask("ping")["ok"]


@pytest.mark.parametrize("words", [[], ["--state"], ["--journal-fd", "3"], ["--state", "x", "--what", "y"]])
def test_a_command_line_that_makes_no_sense_is_refused(make_house: Callable[..., House], words: list[str]) -> None:
    house = make_house()
    done = subprocess.run([PYTHON, "-I", "-S", str(house.app), *words], capture_output=True, text=True, cwd=house.folder)
    assert (done.returncode, done.stderr[:6]) == (1, "usage:")


def test_it_beats_between_turns_and_in_steps_that_say_nothing(make_house: Callable[..., House]) -> None:
    house = make_house().start(beat_seconds=0.05)
    until(lambda: len(house.records("beat", turn=None)) >= 3)
    house.turn("sleep 1000")
    until(lambda: len(house.records("beat", turn=1)) >= 3)


def test_it_beats_during_the_checkout(make_house: Callable[..., House]) -> None:
    house = make_house().start(beat_seconds=0.001)
    house.run("true")
    records = house.records()
    begun, ended = (records.index(house.records("step", step="checkout", state=state)[0]) for state in ("started", "ended"))
    assert any(record["kind"] == "beat" and record["turn"] == 1 for record in records[begun:ended])


def test_a_checkout_that_fails_ends_the_turn_with_a_sentence_and_is_tried_again(house: House) -> None:
    base, house.base = house.base, "1" * 40
    end = house.run("echo never")
    assert (end["step"], end["reason"], end["has_patch"]) == ("checkout", "error", False)
    assert "1" * 40 in end["error"]
    house.base = base
    assert house.run("cat README", turn=2)["reason"] == "exit"
    assert house.lines() == ["Hello"]


def test_the_checkout_has_a_clock_of_its_own(house: House) -> None:
    spec = house.spec("echo never")
    spec["checkout"]["total_s"] = 0.001
    house.ask("turn", spec=spec)
    end = house.end()
    assert (end["step"], end["reason"], end["has_patch"]) == ("checkout", "total", False)


def test_the_final_patch_is_what_the_workspace_holds(each_house: House) -> None:
    each_house.run("echo more >> README; echo new > 'a b'")
    patch = each_house.patch()
    record = each_house.wait("patch", patch="final")
    assert (record["sha256"], record["bytes"], record["left_out"]) == (hashlib.sha256(patch).hexdigest(), len(patch), [])
    assert patch.count(b"diff --git") == 2


def test_a_turn_that_changes_nothing_has_an_empty_patch(house: House) -> None:
    assert house.run("true")["has_patch"]
    assert house.patch() == b""
    assert not house.records("patch", patch="checkpoint")


def test_nothing_can_change_the_workspace_while_the_final_patch_is_made(each_house: House) -> None:
    script = "(setsid bash -c 'trap \"\" TERM; while :; do echo x >> counter; done' &); until [ -s counter ]; do :; done"
    each_house.run(script)
    assert each_house.patch().count(b"\n+x") == (each_house.workspace / "counter").read_bytes().count(b"x") > 0


def test_a_patch_that_cannot_be_made_is_an_error_with_a_sentence(house: House) -> None:
    house.run("true")
    end = house.run("rm -r ../scratch; touch ../scratch", turn=2)
    assert (end["reason"], end["has_patch"], end["code"]) == ("error", False, 0)
    assert end["error"].startswith("The patch could not be made: ")


def test_a_step_that_empties_our_private_folder_does_not_cost_the_patch(house: House) -> None:
    assert house.run("echo x > file; rm -rf ../scratch")["has_patch"]
    assert b"+x" in house.patch()


def test_the_limits_of_a_patch_are_those_of_its_turn(house: House) -> None:
    script = "head -c 2000 /dev/zero > large"
    house.run(script, max_file_bytes=1000)
    assert house.records("patch")[-1]["left_out"] == [{"path": "large", "bytes": 2000, "reason": "size"}]
    house.run(script, turn=2, max_file_bytes=3000)
    assert house.records("patch")[-1]["left_out"] == []


def test_more_left_out_files_than_the_journal_holds_are_summed_up() -> None:
    entry = {"path": "p" * 1000, "bytes": 10, "reason": "size"}
    told = bounded({"sha256": "", "left_out": [entry] * 2000})
    *listed, last = told["left_out"]
    assert len(json.dumps(told)) < 600_000
    assert last == {"path": "…", "bytes": 10 * (2000 - len(listed)), "reason": f"and {2000 - len(listed)} more"}
    assert bounded({"left_out": [entry]}) == {"left_out": [entry]}


def test_patches_of_the_last_two_turns_are_kept(house: House) -> None:
    for turn in (1, 2, 3):
        house.run(f"echo {turn} > file", turn=turn)
    assert house.ask("patch", turn=1, kind="final")["error"] == "missing"
    assert b"+2" in house.patch(turn=2)
    assert b"+3" in house.patch(turn=3)


def test_no_path_leads_to_a_kept_patch(house: House) -> None:
    house.run("echo secret > file")
    places = [path for folder in (house.home, house.folder / "scratch") for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in places if b"secret" in path.read_bytes()]


def test_checkpoints_are_made_when_something_changed_and_only_then(house: House) -> None:
    script = """
        sleep 0.3; echo one > file; until [ -e ../two ]; do sleep 0.01; done
        echo two > file; until [ -e ../end ]; do sleep 0.01; done
    """
    house.turn(script, checkpoint_s=0.05)
    first = house.wait("patch", patch="checkpoint")
    assert b"+one" in house.patch("checkpoint")
    house.ask("checkpoint")
    house.ask("checkpoint")
    assert house.records("patch") == [first]
    (house.folder / "two").touch()
    until(lambda: len(house.records("patch")) == 2)
    assert b"+two" in house.patch("checkpoint")
    (house.folder / "end").touch()
    house.end()
    assert [record["patch"] for record in house.records("patch")] == ["checkpoint", "checkpoint", "final"]


def test_a_checkpoint_that_is_asked_for_can_be_fetched_at_once(house: House) -> None:
    house.turn("until [ -e go ]; do sleep 0.01; done")
    house.wait_step()
    assert house.ask("checkpoint") == {"ok": True}
    assert house.patch("checkpoint") == b""


def test_many_checkpoints_asked_for_at_once_are_made_one_after_the_other(house: House) -> None:
    house.turn("sleep 1000")
    house.wait_step()
    clients = [house.client() for _ in range(4)]
    for client in clients:
        client.sock.sendall(b"\0\0\0\x13" + b'{"do":"checkpoint"}')
    assert [client.reply()[0] for client in clients] == [{"ok": True}] * 4


def test_a_follow_up_goes_on_in_the_same_workspace(house: House) -> None:
    house.run("echo one > file")
    house.run("cat file; echo two > other", turn=2)
    assert [record["line"] for record in house.records("out", turn=2)] == ["one"]
    patch = house.patch(turn=2)
    assert b"+one" in patch
    assert b"+two" in patch


def test_shutdown_ends_the_turn_with_a_checkpoint_and_gives_it(each_house: House) -> None:
    mark = f"{each_house.folder}/mark"
    each_house.turn(f"echo work > file; trap '' TERM; setsid sh -c 'sleep 1000; : {mark}' & echo begun; sleep 1000; sleep 1000")
    each_house.wait("out", line="begun")
    reply = each_house.ask("shutdown")
    assert (reply["ok"], reply["turn"], reply["sha256"]) == (True, 1, hashlib.sha256(reply["raw"]).hexdigest())
    assert b"+work" in reply["raw"]
    assert each_house.process.wait(5) == 0
    end = each_house.end()
    assert (end["reason"], end["has_patch"]) == ("shutdown", True)
    assert [record["patch"] for record in each_house.records("patch")] == ["checkpoint"]
    assert not processes_with(mark)


def test_shutdown_without_a_turn_leaves_nothing_behind(each_house: House) -> None:
    assert each_house.ask("shutdown") == {"ok": True, "turn": None}
    assert each_house.process.wait(5) == 0


def test_shutdown_during_the_checkout_leaves_no_patch(house: House) -> None:
    house.turn("sleep 1000")
    reply = house.ask("shutdown")
    house.process.wait(5)
    assert reply["ok"]
    assert house.end()["reason"] == "shutdown"


def test_stop_before_the_first_step_runs_none(house: House) -> None:
    client = house.client()
    client.ask("turn", spec=house.spec("echo ran"))
    client.ask("stop")
    assert house.end()["reason"] == "stop"
    assert house.lines() == []


def broken(spec: dict[str, Any], *path: str | int, value: object) -> dict[str, Any]:
    target: Any = spec
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    return spec


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("turn",), "1"), (("turn",), True), (("steps",), {}), (("steps", 0), "echo"), (("steps", 0, "argv"), []),
        (("steps", 0, "argv"), [1]),
        (("steps", 0, "name"), "checkout"), (("steps", 0, "name"), ""), (("steps", 0, "env"), {"a": 1}), (("steps", 0, "silence_s"), "x"),
        (("checkout",), None), (("checkout", "base"), 5), (("checkpoint_s",), None),
    ],
)  # fmt: skip
def test_a_spec_that_is_none_is_refused_and_nothing_begins(house: House, path: tuple[str | int, ...], value: object) -> None:
    assert house.ask("turn", spec=broken(house.spec("true"), *path, value=value))["error"] == "bad"
    assert not house.records("turn")
    assert house.ask("ping")["turn"] is None


def test_it_survives_that_its_children_are_killed_while_it_works_with_them(house: House) -> None:
    house.turn("while :; do echo x >> file; sleep 0.01; done", checkpoint_s=0.02)
    house.wait("patch", patch="checkpoint")
    killed = 0
    deadline = time.monotonic() + 10
    while killed < 5 and time.monotonic() < deadline:
        children = Path(f"/proc/{house.pid}/task/{house.pid}/children").read_text().split()
        for child in children[1:]:  # the first one is the step
            os.kill(int(child), signal.SIGKILL)
            killed += 1
    assert killed >= 5
    before = len(house.records("patch"))
    until(lambda: len(house.records("patch")) > before)
    house.ask("stop")
    assert house.end()["has_patch"]
