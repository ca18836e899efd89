from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from asynccode.processes import pids_of_session, started_at, wait_until
from asynccode.supervise import Clocks, Log, Service, Supervisor, end_leftovers
from tests.processes import ending

QUICK = Clocks(first_s=0.05, longest_s=0.2, healthy_s=5, stop_s=2)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest_asyncio.fixture
async def make(stream: io.StringIO, tmp_path: Path) -> AsyncIterator[Callable[..., Supervisor]]:
    made: list[Supervisor] = []

    def make(clocks: Clocks = QUICK) -> Supervisor:
        made.append(Supervisor(Log(stream), tmp_path / "services", clocks))
        return made[-1]

    yield make
    for supervisor in made:
        await supervisor.stop()


def python(name: str, code: str) -> Service:
    return Service(name, [sys.executable, "-c", code])


def shell(name: str, script: str) -> Service:
    return Service(name, ["sh", "-c", script])


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


async def test_every_line_has_its_services_name_before_it(make: Callable[..., Supervisor], stream: io.StringIO) -> None:
    supervisor = make()
    supervisor.start([shell("web", "echo one; echo two >&2; printf three; sleep 60"), shell("worker", "echo four; sleep 60")])

    await until(lambda: stream.getvalue().count("\n") >= 3)
    await supervisor.stop()

    assert sorted(stream.getvalue().splitlines()) == ["web       | one", "web       | three", "web       | two", "worker    | four"]


def test_names_are_coloured_on_a_terminal_only() -> None:
    Log(plain := io.StringIO()).line("web", "hello")
    Log(terminal := Terminal()).line("web", "hello")

    assert plain.getvalue() == "web       | hello\n"
    assert re.fullmatch(r"\x1b\[\d+mweb       \|\x1b\[0m hello\n", terminal.getvalue())


async def test_a_line_without_end_is_cut_and_shown(make: Callable[..., Supervisor], stream: io.StringIO) -> None:
    supervisor = make()
    supervisor.start([python("web", "print('x' * 300_000, end='', flush=True); import time; time.sleep(60)")])

    await until(lambda: stream.getvalue().count("x") > 200_000)
    await supervisor.stop()

    assert stream.getvalue().count("x") == 300_000


async def test_the_log_going_away_does_not_stop_the_services(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    supervisor = Supervisor(Log(stream), tmp_path / "services", QUICK)
    supervisor.start([shell("web", f"echo hello; touch {tmp_path}/done; sleep 60")])

    await until((tmp_path / "done").exists)
    await supervisor.stop()

    with contextlib.suppress(BrokenPipeError):
        stream.close()


async def test_what_ends_is_started_again_after_pauses_that_double(make: Callable[..., Supervisor], stream: io.StringIO) -> None:
    supervisor = make()
    supervisor.start([shell("web", "exit 3")])

    await until(lambda: stream.getvalue().count("\n") >= 5)
    await supervisor.stop()

    pauses = re.findall(r"ended with code 3; starting it again in ([\d.]+) s", stream.getvalue())
    assert pauses[:4] == ["0.05", "0.1", "0.2", "0.2"]


async def test_five_failures_in_a_row_are_said_loudly_and_the_rest_lives(make: Callable[..., Supervisor], stream: io.StringIO) -> None:
    supervisor = make()
    supervisor.start([shell("web", "kill -9 $$"), shell("worker", "echo alive; sleep 60")])

    await until(lambda: "*** web ended 5 times in a row" in stream.getvalue())
    await supervisor.stop()

    assert "was killed by SIGKILL" in stream.getvalue()
    assert stream.getvalue().count("worker    |") == 1


async def test_a_long_life_resets_the_pause(make: Callable[..., Supervisor], stream: io.StringIO) -> None:
    supervisor = make(Clocks(first_s=0.05, longest_s=10, healthy_s=0.0, stop_s=2))
    supervisor.start([shell("web", "exit 1")])

    await until(lambda: stream.getvalue().count("again in 0.05 s") >= 4)
    await supervisor.stop()


async def test_a_program_that_is_not_there_is_said(make: Callable[..., Supervisor], stream: io.StringIO) -> None:
    supervisor = make()
    supervisor.start([Service("web", ["/nonexistent/program"])])

    await until(lambda: "cannot be started" in stream.getvalue())
    await supervisor.stop()


async def test_stop_sends_term_and_waits(make: Callable[..., Supervisor], stream: io.StringIO) -> None:
    supervisor = make()
    supervisor.start([shell("web", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done")])
    await until(lambda: "ready" in stream.getvalue())

    await supervisor.stop()

    assert stream.getvalue().endswith("web       | bye\n")


async def test_what_does_not_stop_is_killed_with_its_whole_session(make: Callable[..., Supervisor], stream: io.StringIO) -> None:
    supervisor = make(Clocks(stop_s=0.3))
    supervisor.start([python("web", "import os; print('session', os.getpid(), flush=True); os.fork() or os.setpgid(0, 0);" + IGNORE)])
    await until(lambda: stream.getvalue().count("ready") == 2)
    session = int(re.findall(r"session (\d+)", stream.getvalue())[0])
    assert len(pids_of_session(session)) == 2

    await supervisor.stop()

    assert pids_of_session(session) == []
    assert "did not stop within 0.3 s" in stream.getvalue()


async def test_processes_that_outlive_their_service_are_ended_before_it_starts_again(
    make: Callable[..., Supervisor], stream: io.StringIO
) -> None:
    supervisor = make()
    supervisor.start([shell("web", "echo $$; sleep 600 & exit 1")])
    await until(lambda: stream.getvalue().count("again in") >= 1)

    assert pids_of_session(int(re.findall(r"\| (\d+)", stream.getvalue())[0])) == []
    await supervisor.stop()


async def test_another_session_is_left_alone(make: Callable[..., Supervisor], stream: io.StringIO, tmp_path: Path) -> None:
    supervisor = make()
    supervisor.start(
        [shell("web", f"setsid sh -c 'echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 600' & wait")]
    )
    await until((tmp_path / "pid").exists)
    sandbox = int((tmp_path / "pid").read_text())

    await supervisor.stop()

    assert started_at(sandbox)
    os.kill(sandbox, signal.SIGKILL)


def test_services_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    with ending(subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stderr=subprocess.PIPE, text=True)) as holder:
        assert holder.stderr
        session = int(holder.stderr.readline().rpartition("|")[2])
        holder.kill()

    assert wait_until(lambda: not pids_of_session(session), 5)


def test_what_a_killed_supervisor_left_is_ended_at_the_next_start(tmp_path: Path) -> None:
    record = tmp_path / "services"
    with ending(subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 600 & wait"], start_new_session=True)) as stray:
        assert wait_until(lambda: len(pids_of_session(stray.pid)) == 2, 5)
        record.write_text(f"{stray.pid} {started_at(stray.pid)}\n")

        assert end_leftovers(record, marker="no such") == 2

    assert pids_of_session(stray.pid) == []
    assert end_leftovers(record, marker="no such") == 0


def test_the_orphans_of_a_killed_service_are_known_by_their_command(tmp_path: Path) -> None:
    record = tmp_path / "services"
    with ending(subprocess.Popen(["sh", "-c", "sleep 600 & sleep 601 & wait"], start_new_session=True)) as leader:
        assert wait_until(lambda: len(pids_of_session(leader.pid)) == 3, 5)
        ours, other = (
            next(pid for pid in pids_of_session(leader.pid) if argument in Path(f"/proc/{pid}/cmdline").read_text())
            for argument in ("\x00600", "\x00601")
        )
        record.write_text(f"{leader.pid} {started_at(leader.pid)}\n")
        leader.kill()

    assert end_leftovers(record, marker="sleep 600") == 1
    assert not pids_of_session(leader.pid) or pids_of_session(leader.pid) == [other]
    assert ours not in pids_of_session(leader.pid)
    os.kill(other, signal.SIGKILL)


def test_a_number_that_is_another_processs_by_now_is_left_alone(tmp_path: Path) -> None:
    record = tmp_path / "services"
    with ending(subprocess.Popen(["sleep", "600"], start_new_session=True)) as stranger:
        record.write_text(f"{stranger.pid} 1\n")

        assert end_leftovers(record, marker="sleep") == 0

        assert stranger.poll() is None
        stranger.kill()


IGNORE = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
HOLDER = """
import asyncio, sys
from pathlib import Path
from asynccode.supervise import Log, Service, Supervisor

async def main():
    Supervisor(Log(sys.stderr), Path(sys.argv[1]) / "services").start([Service("web", ["sh", "-c", "echo $$; exec sleep 600"])])
    await asyncio.sleep(600)

asyncio.run(main())
"""
