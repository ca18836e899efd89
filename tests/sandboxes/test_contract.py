"""The contract of `sandboxes.base`, as every backend keeps it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from sandboxes.base import Command, CommandName
from sandboxes.errors import FileMissing, SandboxError, SandboxGone

PROJECT = Path(__file__).parents[2]
ACP_AGENT = Path(__file__).parent / "inside" / "acp_agent.py"


def lines(records, kind="out"):
    return [record["line"] for record in records if record["kind"] == kind and record["step"] == "agent"]


def saw(text):
    return lambda record: record.get("line") == text


async def read_to(sandbox, mark, offset=0):
    """The journal's bytes from `offset` to the end of the line that holds `mark`, and what came with it."""
    found = b""
    async with asyncio.timeout(20):
        async for chunk in sandbox.journal(offset):
            found += chunk
            if b"\n" in found.partition(mark)[2]:
                break
    return found


async def test_create_twice_with_one_key_gives_whole_sandboxes(house):
    key = house.key()
    first, second = await asyncio.gather(house.backend.create(key, house.spec), house.backend.create(key, house.spec))
    for sandbox in (first, second):
        assert (await sandbox.run(["echo", "here"], timeout=10)).stdout == b"here\n"
    assert key in [info.key for info in await house.backend.list()]


async def test_connect_by_reference_gives_the_same_sandbox(house):
    sandbox = await house.make()
    await sandbox.put("/workspace/note", b"x")
    assert await (await house.backend.connect(sandbox.ref)).get("/workspace/note") == b"x"


async def test_list_names_key_reference_and_life(house):
    sandbox = await house.make()
    (info,) = [info for info in await house.backend.list() if info.ref == sandbox.ref]
    assert (info.key, info.is_alive) == (house.keys[-1], True)


@pytest.mark.parametrize("path", ["/workspace/plain", "/workspace/a folder/ünï\n'“code”", "/home/agent/.config/x", "/tmp/x"])
async def test_put_and_get_give_the_same_bytes(house, path):
    sandbox = await house.make()
    content = bytes(range(256)) * 10
    await sandbox.put(path, content)
    assert await sandbox.get(path) == content


async def test_an_empty_file_goes_both_ways(house):
    sandbox = await house.make()
    await sandbox.put("/workspace/empty", b"")
    assert await sandbox.get("/workspace/empty") == b""


async def test_a_hundred_megabytes_go_both_ways(house):
    sandbox = await house.make()
    content = os.urandom(1024 * 1024) * 100
    await sandbox.put("/workspace/big", content)
    assert await sandbox.get("/workspace/big") == content


async def test_get_of_a_missing_file_says_so(house):
    sandbox = await house.make()
    with pytest.raises(FileMissing):
        await sandbox.get("/workspace/not there")


async def test_what_is_no_file_is_refused_at_once(house):
    sandbox = await house.make()
    await sandbox.run(["sh", "-c", "mkfifo /tmp/pipe; mkdir /tmp/folder"], timeout=5)
    for path in ("/tmp/pipe", "/tmp/folder", "/dev/zero"):
        async with asyncio.timeout(10):
            with pytest.raises(SandboxError):
                await sandbox.get(path)


async def test_a_file_too_big_for_us_is_refused(house):
    sandbox = await house.make()
    await sandbox.run(["truncate", "--size=900M", "/tmp/huge"], timeout=5)
    with pytest.raises(SandboxError, match="MiB"):
        await sandbox.get("/tmp/huge")
    assert (await sandbox.run(["echo", "on"], timeout=5)).stdout == b"on\n"


@pytest.mark.parametrize("size", [1, 50_000_000])
async def test_a_put_that_may_not_be_says_why(house, size):
    sandbox = await house.make()
    with pytest.raises(SandboxError, match="/usr/x") as caught:
        await sandbox.put("/usr/x", b"x" * size)
    assert not isinstance(caught.value, SandboxGone)


async def test_the_workspace_is_looked_at_while_a_turn_runs(house, records):
    sandbox = await house.make()
    script = "mkdir -p sub; printf '%s' ünï > sub/ünï; ln -s /etc/passwd to; ln -s .. sub/up; touch $'latin\\xe9'; mkfifo pipe"
    await sandbox.turn(house.turn(f"{script}; echo up; sleep 600"))
    await records(sandbox, is_last=saw("up"))
    entries, count = await sandbox.look("", first=0, most=100)
    assert count == len(entries)
    shown = {(entry.name, entry.kind.value, entry.size, entry.target) for entry in entries}
    assert {("sub", "folder", 0, ""), ("to", "link", 0, "/etc/passwd"), ("latin\udce9", "file", 0, ""), ("pipe", "other", 0, "")} <= shown
    assert ([entry.name for entry in (await sandbox.look("sub", first=1, most=1))[0]]) == ["ünï"]
    assert await sandbox.read("sub/ünï", offset=2, most=2) == (b"n" + "ï".encode()[:1], 5)
    assert await sandbox.read("latin\udce9", most=9) == (b"", 0)
    for path in ("to", "sub/up", "pipe", "sub/up/README", "../etc/passwd"):
        with pytest.raises(SandboxError):
            await sandbox.read(path, most=9)
    with pytest.raises(FileMissing):
        await sandbox.look("none", first=0, most=1)


async def test_what_a_run_left_is_collected_but_for_what_is_known(house, records):
    sandbox = await house.make()
    script = "mkdir -p artifacts/deep; echo one > artifacts/one; echo two > artifacts/deep/ünï; head -c 500 /dev/zero > artifacts/large"
    await sandbox.turn(house.turn(f"{script}; ln -s /etc/passwd artifacts/link"))
    await records(sandbox)
    bounds = {"most_files": 9, "most_file_bytes": 100, "most_bytes": 1000}
    found = await sandbox.collect("artifacts", known={"one": hashlib.sha256(b"one\n").hexdigest()}, **bounds)
    assert found.files == [("deep/ünï", b"two\n")]
    assert found.left_out == [{"path": "large", "bytes": 500, "reason": "size"}]
    assert (await sandbox.patch(1, "final")).content == b""
    assert (await sandbox.collect("none", known={}, **bounds)).files == []


async def test_a_sandbox_that_sleeps_is_not_looked_into(house):
    sandbox = await house.make()
    await sandbox.pause()
    again = await house.backend.connect(sandbox.ref)
    with pytest.raises(SandboxGone):
        await again.look("", first=0, most=1)
    with pytest.raises(SandboxGone):
        await again.read("x", most=1)
    with pytest.raises(SandboxGone):
        await again.collect("artifacts", known={}, most_files=1, most_file_bytes=1, most_bytes=1)
    assert not await again.alive()


async def test_run_gives_code_and_both_outputs(house):
    sandbox = await house.make()
    done = await sandbox.run(["sh", "-c", "echo ünï; echo wrong >&2; exit 3"], timeout=10)
    assert (done.code, done.stdout.decode(), done.stderr, done.is_timed_out) == (3, "ünï\n", b"wrong\n", False)


async def test_run_ends_at_its_timeout(house):
    sandbox = await house.make()
    done = await sandbox.run(["sh", "-c", "echo before; sleep 60"], timeout=0.5)
    assert done.is_timed_out
    assert done.stdout == b"before\n"


async def test_run_of_a_missing_program_fails_with_a_sentence(house):
    sandbox = await house.make()
    with pytest.raises(SandboxError, match="no-such-program"):
        await sandbox.run(["no-such-program"], timeout=5)


async def test_run_cuts_endless_output(house):
    sandbox = await house.make()
    done = await sandbox.run(["sh", "-c", "head -c 40000000 /dev/zero"], timeout=30)
    assert len(done.stdout) <= 16 * 1024 * 1024


async def test_a_turn_checks_out_runs_and_leaves_its_patch(house, records):
    sandbox = await house.make()
    assert await sandbox.turn(house.turn("cat README; echo ünï >> README; echo wrong >&2"))
    found = await records(sandbox)
    assert lines(found) == ["hello"]
    assert lines(found, "err") == ["wrong"]
    assert (found[-1]["reason"], found[-1]["code"], found[-1]["has_patch"]) == ("exit", 0, True)
    patch = await sandbox.patch(1, "final")
    assert "+ünï".encode() in patch.content
    assert patch.left_out == []


async def test_a_turn_handed_over_twice_runs_once(house, records):
    sandbox = await house.make()
    turn = house.turn("echo ran >> /home/agent/log; sleep 0.2")
    assert await sandbox.turn(turn) is True
    assert await sandbox.turn(turn) is False
    await records(sandbox)
    assert await sandbox.turn(turn) is False
    assert await sandbox.get("/home/agent/log") == b"ran\n"


async def test_the_patch_of_a_turn_that_never_was_is_missing(house):
    sandbox = await house.make()
    with pytest.raises(FileMissing):
        await sandbox.patch(7, "final")


async def test_stop_kills_what_the_step_started_to_the_last_grandchild(house, records):
    sandbox = await house.make()
    await sandbox.turn(house.turn("trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 4711' &); sleep 4711 & echo up; wait"))
    await records(sandbox, is_last=saw("up"))
    await sandbox.tell(Command(CommandName.STOP))
    end = (await records(sandbox))[-1]
    assert end["reason"] == "stop"
    assert b"4711" not in (await sandbox.run(["sh", "-c", "cat /proc/[0-9]*/cmdline"], timeout=5)).stdout.replace(b"\0", b" ")


async def test_interrupt_reaches_the_step_even_when_its_starter_ignored_it(house, records):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as an RQ work horse does
    try:
        sandbox = await house.make()
    finally:
        signal.signal(signal.SIGINT, before)
    await sandbox.turn(house.turn("trap 'echo interrupted; exit 7' INT; echo up; while :; do sleep 0.05; done"))
    await records(sandbox, is_last=saw("up"))
    await sandbox.tell(Command(CommandName.INTERRUPT))
    found = await records(sandbox)
    assert lines(found) == ["up", "interrupted"]
    assert found[-1]["code"] == 7


async def test_a_message_reaches_the_steps_input(house, records):
    sandbox = await house.make()
    await sandbox.turn(house.turn("echo up; read line; echo got $line", stdin=True))
    await records(sandbox, is_last=saw("up"))
    await sandbox.tell(Command(CommandName.MESSAGE, text="ünï"))
    assert lines(await records(sandbox))[-1] == "got ünï"


async def test_a_step_that_says_it_is_done_and_stays_is_finished(house, records):
    sandbox = await house.make()
    done = '{"type": "result", "text": "ünï"}'
    script = f"read -r line; echo got $line > new; echo '{done}'; trap '' HUP; while :; do sleep 0.05; done"
    await sandbox.turn(house.turn(script, stdin=True, input=("ünï",), ends_on=({"type": "result"},), linger_s=0.3))
    end = (await records(sandbox))[-1]
    assert (end["reason"], end["has_patch"], end["error"]) == ("finished", True, None)
    assert "+got ünï".encode() in (await sandbox.patch(1, "final")).content


def agent_of_the_protocol(house, *acts, **acp):
    """A turn in which the scripted agent, put at /tmp/agent.py, plays `acts`."""
    prompt = [{"type": "text", "text": json.dumps(acts)}]
    return house.turn(["python3", "/tmp/agent.py"], acp={"prompt": prompt, **acp})


async def test_a_step_speaks_the_agent_client_protocol(house, records):
    sandbox = await house.make()
    await sandbox.put("/tmp/agent.py", ACP_AGENT.read_bytes())
    write = ["ask", "fs/write_text_file", {"path": "/workspace/new", "content": "ünï\n"}]
    await sandbox.turn(agent_of_the_protocol(house, ["chunks", 3], write))
    found = await records(sandbox)
    told = [json.loads(line) for line in lines(found)]
    assert [line["acp"] for line in told].count("in") == 8, told
    assert told[-1] == {"acp": "end", "stop_reason": "end_turn", "error": None}
    assert (found[-1]["reason"], found[-1]["code"]) == ("exit", 0)
    assert "+ünï".encode() in (await sandbox.patch(1, "final")).content


async def test_a_pause_cancels_an_agent_of_the_protocol(house, records):
    sandbox = await house.make()
    await sandbox.put("/tmp/agent.py", ACP_AGENT.read_bytes())
    await sandbox.turn(agent_of_the_protocol(house, ["hang"]))
    await records(sandbox, is_last=lambda record: "hanging" in record.get("line", ""))
    await sandbox.pause()
    found = await records(sandbox)
    assert json.loads(lines(found)[-1]) == {"acp": "end", "stop_reason": "cancelled", "error": None}
    assert found[-1]["reason"] == "shutdown"


async def test_the_journal_reads_from_any_offset(house, records):
    sandbox = await house.make()
    await sandbox.turn(house.turn("seq 1000; echo ünï"))
    await records(sandbox)
    whole = await read_to(sandbox, b'"kind":"end"')
    for offset in (1, len(whole) // 2, whole.index("ü".encode()) + 1):
        assert (await read_to(sandbox, b'"kind":"end"', offset)).startswith(whole[offset:])
    await sandbox.turn(house.turn("true", turn=2))
    assert (await read_to(sandbox, b'"kind":"turn"', len(whole))).startswith(b'{"n":')


async def test_a_hundred_megabytes_of_output_arrive_whole(house):
    sandbox = await house.make()
    await sandbox.turn(
        house.turn(
            "yes 0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXY | head -n 1048576"
        )
    )
    count, rest = 0, b""
    async with asyncio.timeout(90):
        async for chunk in sandbox.journal(0):
            *complete, rest = (rest + chunk).split(b"\n")
            count += sum(b'"line":"0123456789abc' in line for line in complete)
            if any(b'"kind":"end"' in line for line in complete):
                break
    assert count == 1048576


async def test_a_sandbox_survives_the_death_of_the_process_that_made_it(house, records, until):
    key = house.key()
    script = house.script + textwrap.dedent(
        f"""
        import asyncio, os, signal
        from pathlib import Path
        from sandboxes.base import *

        async def main():
            sandbox = await backend.create({key!r}, SandboxSpec(mirror=Path({str(house.mirror)!r})))
            step = Step(name="agent", argv=["bash", "-c", "echo up; until [ -e /tmp/go ]; do sleep 0.05; done; echo after"])
            checkout = Checkout({house.base!r}, "b", "https://example.org/x")
            await sandbox.turn(TurnSpec(turn=1, generation=1, checkout=checkout, steps=[step]))
            print(sandbox.ref, flush=True)
            os.killpg(0, signal.SIGTERM)

        signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        asyncio.run(main())
        """
    )
    pipe = asyncio.subprocess.PIPE
    maker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cwd=PROJECT, stdout=pipe, stderr=pipe, start_new_session=True
    )
    async with asyncio.timeout(30):
        printed, errors = await maker.communicate()
    assert maker.returncode == -signal.SIGKILL, errors.decode()
    sandbox = await house.backend.connect(printed.decode().strip())
    await records(sandbox, is_last=saw("up"))
    await sandbox.put("/tmp/go", b"")
    assert lines(await records(sandbox)) == ["up", "after"]


async def test_pause_keeps_files_and_journal_and_resume_goes_on(house, records):
    sandbox = await house.make()
    await sandbox.put("/home/agent/kept", b"x")
    before = await read_to(sandbox, b'"kind":"boot"')
    await sandbox.pause()
    await sandbox.pause()
    assert not await sandbox.alive()
    with pytest.raises(SandboxGone):
        await sandbox.run(["true"], timeout=5)
    paused = b"".join([chunk async for chunk in sandbox.journal(0)])  # ends by itself
    assert paused.startswith(before)
    await sandbox.resume()
    await sandbox.resume()
    assert await sandbox.alive()
    assert await sandbox.get("/home/agent/kept") == b"x"
    assert await sandbox.turn(house.turn("echo ran"))
    assert lines(await records(sandbox)) == ["ran"]
    assert (await read_to(sandbox, b'"kind":"end"')).startswith(paused)


async def test_pause_in_the_middle_of_a_turn_ends_it_with_its_work_kept(house, records):
    sandbox = await house.make()
    await sandbox.turn(house.turn("echo half > half; echo up; sleep 600"))
    await records(sandbox, is_last=saw("up"))
    await sandbox.pause()
    end = (await records(sandbox))[-1]
    assert end["reason"] == "shutdown"
    assert b"+half" in (await sandbox.patch(1, "checkpoint")).content
    await sandbox.resume()
    assert b"+half" in (await sandbox.patch(1, "checkpoint")).content
    with pytest.raises(FileMissing):
        await sandbox.patch(1, "final")


async def test_two_resumes_at_once_end_with_one_running_sandbox(house):
    sandbox = await house.make()
    await sandbox.pause()
    other = await house.backend.connect(sandbox.ref)
    await asyncio.gather(sandbox.resume(), other.resume())
    assert (await sandbox.run(["echo", "one"], timeout=5)).stdout == b"one\n"
    assert (await other.run(["echo", "one"], timeout=5)).stdout == b"one\n"


async def test_destroy_twice_leaves_nothing(house):
    sandbox = await house.make()
    other = await house.backend.connect(sandbox.ref)
    await asyncio.gather(sandbox.destroy(), other.destroy())
    await sandbox.destroy()
    assert not await sandbox.alive()
    assert sandbox.ref not in [info.ref for info in await house.backend.list()]
    with pytest.raises(SandboxGone):
        await house.backend.connect(sandbox.ref)
    with pytest.raises(SandboxGone):
        await sandbox.get("/workspace/x")
    with pytest.raises(SandboxGone):
        await sandbox.resume()


async def test_several_sandboxes_at_once_do_not_see_each_other(house):
    made = await asyncio.gather(*(house.make() for _ in range(4)))
    await asyncio.gather(*(sandbox.put("/workspace/mine", sandbox.ref.encode()) for sandbox in made))
    assert [await sandbox.get("/workspace/mine") for sandbox in made] == [sandbox.ref.encode() for sandbox in made]


async def test_a_reference_that_is_no_reference_is_gone(house):
    for ref in ("../etc", "", "never.was.1", ".moving"):
        with pytest.raises(SandboxGone):
            await house.backend.connect(ref)


async def test_thirty_two_at_once(house, records):
    made = await asyncio.gather(*(house.make() for _ in range(32)))
    assert len({sandbox.ref for sandbox in made}) == 32
    await asyncio.gather(*(sandbox.turn(house.turn(f"echo {number} > mine; cat mine")) for number, sandbox in enumerate(made)))
    found = await asyncio.gather(*(records(sandbox, seconds=90) for sandbox in made))
    assert [lines(each) for each in found] == [[str(number)] for number in range(32)]
    assert {sandbox.ref for sandbox in made} <= {info.ref for info in await house.backend.list() if info.is_alive}
    await asyncio.gather(*(sandbox.destroy() for sandbox in made))
