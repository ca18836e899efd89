from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxes.inside.journal import LINE_MAX, Journal
from sandboxes.inside.steps import Output
from tests.sandboxes.inside._houses import House, processes_with, shell, until

STUBBORN = "trap '' TERM INT HUP; while :; do sleep 0.1; done"


def test_a_turn_runs_its_steps_one_after_the_other(each_house: House) -> None:
    end = each_house.run("echo one >> log", "cat log; echo oops >&2")
    assert {key: end[key] for key in ("step", "reason", "code", "signal", "has_patch", "error")} == {
        "step": "step1", "reason": "exit", "code": 0, "signal": None, "has_patch": True, "error": None,
    }  # fmt: skip
    assert (each_house.lines(step="step1"), each_house.lines("err", step="step1")) == (["one"], ["oops"])
    kinds = [(record["kind"], record.get("step"), record.get("state")) for record in each_house.records() if record["kind"] != "beat"]
    assert kinds[:2] == [("boot", None, None), ("turn", None, None)]
    assert [kind for kind in kinds if kind[0] == "step"] == [
        ("step", name, state) for name in ("checkout", "step0", "step1") for state in ("started", "ended")
    ]
    assert [kind for kind, _, _ in kinds[-2:]] == ["patch", "end"]


def test_records_are_numbered_without_a_gap(each_house: House) -> None:
    each_house.run("seq 1000; seq 1000 >&2")
    assert each_house.lines() == each_house.lines("err") == [str(number) for number in range(1, 1001)]
    assert [record["n"] for record in each_house.records()] == list(range(1, len(each_house.records()) + 1))


def test_a_failed_step_is_the_last_one(house: House) -> None:
    end = house.run("exit 3", "echo never")
    assert (end["step"], end["reason"], end["code"], end["error"]) == ("step0", "exit", 3, None)
    assert not house.records("step", step="step1")


def test_a_step_that_a_signal_ended_says_which(house: House) -> None:
    end = house.run("kill -KILL $$")
    assert (end["reason"], end["code"], end["signal"]) == ("exit", None, signal.SIGKILL)


def test_a_command_that_does_not_exist_is_an_error_with_a_sentence(house: House) -> None:
    end = house.run({"argv": ["no-such-command"]})
    assert (end["reason"], end["error"]) == ("error", "The command 'no-such-command' could not be started: No such file or directory.")


def test_a_folder_that_does_not_exist_is_an_error_with_a_sentence(house: House) -> None:
    end = house.run(shell("true", cwd="/no/such/folder"))
    assert end["error"] == "The folder /no/such/folder cannot be entered: /no/such/folder: No such file or directory."


def test_a_step_has_the_plain_environment_and_its_own(house: House) -> None:
    house.run(shell("env", env={"COLOR": "blue", "LANG": "de"}))
    environment = dict(line.split("=", 1) for line in house.lines())
    assert environment["HOME"] == str(house.home)
    assert (environment["COLOR"], environment["LANG"], environment["GIT_TERMINAL_PROMPT"]) == ("blue", "de", "0")
    assert "HTTP_PROXY" not in environment
    plain = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "TMPDIR", "ASYNCCODE", "GIT_TERMINAL_PROMPT"}
    assert set(environment) - {"PWD", "SHLVL", "_"} == plain | {"COLOR"}


def test_a_step_s_files_are_there_when_it_starts(house: House) -> None:
    path = house.home / "new" / "prompt.txt"
    house.run(shell(f"cat {path}", files={str(path): "Größe\n"}))
    assert house.lines() == ["Größe"]


def test_a_step_inherits_no_descriptor_and_no_input(each_house: House) -> None:
    each_house.run("cat; ls /proc/self/fd")
    assert each_house.lines() == ["0", "1", "2", "3"]  # the last is that of ls


def test_a_step_starts_with_no_signal_ignored_or_blocked(each_house: House) -> None:
    each_house.run("grep -E 'Sig(Blk|Ign)' /proc/self/status")
    own_of_libc = 0x180000000  # 32 and 33, which no program can set; make hands them on ignored
    assert {int(line.split()[1], 16) & ~own_of_libc for line in each_house.lines()} == {0}


def test_everything_a_step_left_behind_is_dead_before_the_next_one(each_house: House) -> None:
    marks = [f"{each_house.folder}/mark-{name}" for name in ("plain", "session", "double", "stubborn")]
    script = f"""
        sleep 1000 {marks[0]} & sh -c 'sleep 1000; : {marks[0]}' &
        setsid sh -c 'sleep 1000; : {marks[1]}' &
        (setsid sh -c '(sleep 1000; : {marks[2]}) &' &) &
        setsid bash -c "{STUBBORN}; : {marks[3]}" &
        until [ $(pgrep -cf 'sleep 100[0]; :|sleep 0[.]1; done; :') -ge 4 ]; do :; done
    """
    each_house.run(script, f"pgrep -af '{each_house.folder}/[m]ark-' ; true")
    assert each_house.lines(step="step1") == []
    assert not any(processes_with(mark) for mark in marks)


def test_a_fork_bomb_dies_with_its_step(each_house: House) -> None:
    mark = f"{each_house.folder}/bomb"
    bomb = f"import os, sys, time\nfor _ in range(5):\n    if os.fork() == 0: os.setsid()\ntime.sleep(1000)  # {mark}"
    each_house.run(shell(f"python3 -c '{bomb}' & until [ $(pgrep -cf {mark[:-1]}[b]) -ge 30 ]; do sleep 0.01; done; kill -9 $!"))
    assert not processes_with(mark)


def test_orphans_do_not_become_zombies(each_house: House) -> None:
    """They are the supervisor's children then, as the step itself is."""
    count = "ps -o stat=,args= --ppid $PPID | grep -c '^Z'"
    wait = f"for i in $(seq 100); do sleep 0.05; [ $({count}) = 0 ] && break; done"
    each_house.run(f"for i in $(seq 20); do (sleep 0.01 &) ; done; {wait}; {count}; true")
    assert each_house.lines() == ["0"]


def test_the_total_clock_ends_a_step_that_ignores_term(each_house: House) -> None:
    end = each_house.run(shell(f"echo begun; {STUBBORN}", total_s=0.3), "echo never")
    assert (end["step"], end["reason"], end["signal"]) == ("step0", "total", signal.SIGKILL)
    assert 0.5 < each_house.records("step", step="step0", state="ended")[0]["seconds"] < 3
    assert end["has_patch"]


def test_a_step_has_a_moment_to_tidy_up(house: House) -> None:
    house.run(shell("trap 'echo tidied; exit 7' TERM; while :; do sleep 0.01; done", total_s=0.2), term_grace_s=5.0)
    ended = house.records("step", step="step0", state="ended")[0]
    assert (house.lines(), ended["reason"], ended["code"]) == (["tidied"], "total", 7)


def test_the_silence_clock_starts_anew_with_each_output(house: House) -> None:
    end = house.run(shell("for i in 1 2 3 4; do echo $i >&2; sleep 0.3; done; sleep 1000", silence_s=0.7))
    assert (end["reason"], house.lines("err")) == ("silence", ["1", "2", "3", "4"])


def test_stop_ends_a_turn_within_four_seconds_and_its_patch_is_made(house: House) -> None:
    house.turn(f"echo x > new; echo begun; {STUBBORN}", term_grace_s=2.0)
    house.wait("out", line="begun")
    started = time.monotonic()
    assert house.ask("stop") == {"ok": True}
    end = house.end()
    assert time.monotonic() - started < 4
    assert (end["reason"], end["has_patch"]) == ("stop", True)
    assert b"+x" in house.patch()


def test_stop_without_a_turn_is_nothing(house: House) -> None:
    assert house.ask("stop") == {"ok": True}


def test_interrupt_reaches_the_whole_group(house: House) -> None:
    house.turn("trap 'echo caught' INT; (trap 'echo child caught; exit' INT; echo begun; while :; do sleep 0.01; done); echo done")
    house.wait("out", line="begun")
    assert house.ask("interrupt") == {"ok": True}
    assert house.end()["reason"] == "exit"
    assert sorted(house.lines()) == ["begun", "caught", "child caught", "done"]


@pytest.mark.parametrize("do", ["interrupt", "message", "checkpoint"])
def test_a_command_for_a_step_needs_one(house: House, do: str) -> None:
    assert house.ask(do, text="hello")["error"] == "missing"


def test_a_message_reaches_a_step_that_reads_its_input(house: House) -> None:
    house.turn(shell("while read -r line; do echo got $line; [ $line = last ] && break; done", stdin=True))
    house.wait_step()
    long = "x" * 200_000  # more than a pipe holds
    for text in ("größe", long, "last"):
        assert house.ask("message", text=text) == {"ok": True}
    house.end()
    assert house.lines() == ["got größe", f"got {long}", "got last"]


def test_a_message_to_a_step_without_input_is_refused(house: House) -> None:
    house.turn("sleep 1000")
    house.wait_step()
    assert house.ask("message", text="x") == {"ok": False, "error": "failed", "message": "The running step does not take messages."}


def test_output_that_is_no_utf_8_and_has_no_newline_arrives(house: House) -> None:
    house.run(r"printf 'a\n\ncaf\351\r\nend'")
    assert house.lines() == ["a", "", "caf\ufffd\r", "end"]


def test_a_huge_line_is_cut_and_what_is_missing_counted(house: House) -> None:
    house.run("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo next")
    long, short = house.records("out", step="step0")
    assert (len(long["line"]), long["cut"], short["line"]) == (LINE_MAX, 3_000_000 - LINE_MAX, "next")


def test_what_is_written_just_before_the_end_is_not_lost(house: House) -> None:
    house.run("seq 20000; exec >&-; seq 20000 >&2")
    assert len(house.lines()) == len(house.lines("err")) == 20_000


def test_output_of_a_child_that_outlives_its_parent_by_a_moment_is_not_lost(house: House) -> None:
    house.run("(sleep 0.05; echo late) &")
    assert house.lines() == ["late"]


def test_a_child_that_keeps_the_output_open_does_not_keep_the_step(house: House) -> None:
    started = time.monotonic()
    house.run("echo begun; setsid sh -c 'while :; do echo flood; done' & exit 0")
    assert time.monotonic() - started < 5


def test_a_flood_ends_its_step_and_takes_no_memory(house: House) -> None:
    before = resident(house)
    end = house.run("echo first; cat /dev/zero")
    assert (end["reason"], house.lines()[0]) == ("output", "first")
    assert resident(house) - before < 24 * 1024


def test_an_empty_line_costs_what_its_record_does(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "journal", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    output = Output(Journal(fd), 1, most=100_000)
    for _ in range(100):
        output.write("agent", "out", [(b"", 0)] * 100, 100)
    assert output.is_over
    assert os.fstat(fd).st_size < 110_000
    os.close(fd)


def test_an_interleaved_slow_step_is_heard_at_once(house: House) -> None:
    house.turn("echo now; sleep 1000")
    assert house.wait("out", line="now")


def test_a_journal_that_cannot_be_written_ends_the_step_and_is_continued_later(house: House) -> None:
    house.turn("while :; do echo line; sleep 0.01; done")
    house.wait("out", line="line")
    house.prlimit(resource.RLIMIT_FSIZE, house.journal.stat().st_size + 200)
    until(lambda: house.ask("ping")["turn"] is None)
    house.prlimit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
    house.ask("turn", spec=house.spec("true", turn=2))
    end = house.end()
    assert (end["reason"], end["error"]) == ("error", "The journal could not be written: File too large.")
    house.end(turn=2)
    assert [record["n"] for record in house.records()] == list(range(1, len(house.records()) + 1))


def test_limits_hold_in_every_step(make_house: Callable[..., House]) -> None:
    house = make_house().start(limits='{"open_files": 100, "file_mb": 1, "processes": 300}')
    house.run("ulimit -n; ulimit -u; ulimit -c; head -c 3000000 /dev/zero > big; echo $?; wc -c < big")
    assert house.lines() == ["100", "300", "0", str(128 + signal.SIGXFSZ), str(1024 * 1024)]


def test_a_step_without_limits_may_open_as_many_files_as_we_may(house: House) -> None:
    house.run("ulimit -Sn; ulimit -Hn")
    assert house.lines() == [str(limit) for limit in resource.getrlimit(resource.RLIMIT_NOFILE)]


def test_the_memory_limit_ends_a_step_also_when_it_hides(make_house: Callable[..., House]) -> None:
    house = make_house().start(limits='{"memory_mb": 150, "watch_memory": true}')
    hide = "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)"
    house.run("true")
    end = house.run(f"setsid python3 -c '{hide}; x = b\"x\" * (300 << 20); import time; time.sleep(1000)' & wait", turn=2)
    assert end["reason"] == "memory"


def test_shared_memory_is_counted_once(make_house: Callable[..., House]) -> None:
    house = make_house().start(limits='{"memory_mb": 300, "watch_memory": true}')
    script = 'import os, time; x = b"x" * (100 << 20); [os.fork() for _ in range(2)]; time.sleep(1.5)'
    assert house.run(f"python3 -c '{script}'")["reason"] == "exit"


def test_the_disk_limit_ends_a_step(make_house: Callable[..., House]) -> None:
    house = make_house().start(limits='{"disk_mb": 4}', disk_seconds=0.1)
    assert house.run("truncate -s 1G sparse; sleep 0.5")["reason"] == "exit"
    assert house.run(f"head -c 6000000 /dev/zero > {house.home}/big; sleep 1000", turn=2)["reason"] == "disk"


def test_signals_to_pid_1_change_nothing(make_house: Callable[..., House]) -> None:
    house = make_house("init").start()
    end = house.run("[ -d /proc/1 ] && for s in INT TERM HUP CHLD USR1 PIPE ALRM QUIT SEGV KILL STOP; do kill -$s 1; done; echo alive")
    assert (end["reason"], house.lines()) == ("exit", ["alive"])
    assert house.ask("ping")["pid"] == 1


def test_a_step_dies_with_the_supervisor(house: House) -> None:
    house.turn(f"sleep 1000; : {house.folder}/left")
    house.wait_step()
    mark = f"{house.folder}/left"
    until(lambda: processes_with(mark))
    os.kill(house.pid, signal.SIGKILL)
    house.process.wait()
    until(lambda: not processes_with(mark))


def resident(house: House) -> int:
    """KiB of memory of the supervisor."""
    status = Path(f"/proc/{house.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
