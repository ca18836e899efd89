"""What is particular to sandboxes on this machine: they outlive bwrap and us, and they keep to their limits."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from pathlib import Path

import psutil
import pytest

from sandboxes.base import Limits, SandboxSpec
from sandboxes.errors import SandboxError, SandboxGone
from sandboxes.local.backend import LocalBackend
from sandboxes.local.limits import Cgroups
from sandboxes.local.processes import Process

SMALL = Limits(memory_mb=256, processes=64, disk_mb=64, file_mb=32, tmp_mb=16, shm_mb=8)


def outer(sandbox):
    """bwrap itself, the parent of the sandbox's PID 1."""
    return psutil.Process(sandbox.record["pid"]).parent()


def without_cgroups(house):
    """The same backend on a machine where no cgroup can be made."""
    backend = LocalBackend(root=house.backend.root, runtime=house.backend.runtime, account=house.backend.account)
    backend.launcher = dataclasses.replace(house.backend.launcher, cgroups=Cgroups())
    return backend


async def small(house, backend=None, **changes):
    spec = SandboxSpec(mirror=house.mirror, limits=dataclasses.replace(SMALL, **changes))
    return await (backend or house.backend).create(house.key(), spec)


async def test_nothing_inside_runs_as_root_or_in_our_groups(house):
    sandbox = await house.make()
    status = Path(f"/proc/{sandbox.record['pid']}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    uid = os.geteuid() or house.backend.account.uid
    assert fields["Uid"].split() == [str(uid)] * 4
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    if house.backend.account:
        assert fields["Groups"].split() in ([], [str(house.backend.account.gid)])


async def test_the_record_says_what_holds_it_and_which_limits(house):
    record = (await house.make()).record
    assert record["isolation"].startswith("bubblewrap 0.11")
    assert set(record["limits"]) == {"memory", "processes", "cpu", "disk"}
    assert psutil.Process(record["pid"]).status() != psutil.STATUS_ZOMBIE


async def test_it_lives_and_dies_without_its_bwrap(house, until):
    sandbox = await house.make()
    pid = sandbox.record["pid"]
    outer(sandbox).kill()
    await until(lambda: psutil.Process(pid).ppid() == 1 or not outer(sandbox).name().startswith("bwrap"))
    assert await sandbox.alive()
    assert (await sandbox.run(["echo", "on"], timeout=5)).stdout == b"on\n"
    await sandbox.destroy()
    assert Process.now(pid) is None


async def test_destroy_kills_all_that_runs_inside(house):
    sandbox = await house.make()
    await sandbox.turn(house.turn("for i in 1 2 3; do setsid sleep 4712 & done; echo up; wait"))
    async for chunk in sandbox.journal(0):
        if b'"up"' in chunk:
            break
    inside = psutil.Process(sandbox.record["pid"]).children(recursive=True)
    assert len(inside) >= 4
    await sandbox.destroy()
    assert [process for process in inside if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []


async def test_destroy_works_on_a_frozen_sandbox(house):
    sandbox = await house.make()
    os.kill(sandbox.record["pid"], signal.SIGSTOP)
    await sandbox.destroy()
    assert not await sandbox.alive()


async def test_pause_kills_what_does_not_answer(house, monkeypatch):
    monkeypatch.setattr("sandboxes.supervised.CHECKPOINT_S", 0.3)
    sandbox = await house.make()
    os.kill(sandbox.record["pid"], signal.SIGSTOP)
    await sandbox.pause()
    assert not await sandbox.alive()
    await sandbox.resume()
    assert (await sandbox.run(["echo", "on"], timeout=5)).stdout == b"on\n"


async def test_making_and_destroying_leaves_no_children_and_no_descriptors(house):
    us = psutil.Process()
    await (await house.make()).destroy()  # what is made once is made now
    before = (us.children(), us.num_fds())
    for _ in range(5):
        await (await house.make()).destroy()
    assert (us.children(), us.num_fds()) == before


async def test_no_groups_and_no_files_are_left(house):
    sandbox = await house.make()
    groups = [Path(group) for group in sandbox.record["cgroups"]]
    await sandbox.destroy()
    assert not any(group.exists() for group in groups)
    assert not sandbox.folder.path.exists()


async def test_a_start_whose_starter_died_is_found_again(house):
    """The starter crashed after bwrap was on its way and before it could write the record."""
    sandbox = await house.make()
    lost = sandbox.record
    sandbox.folder.write_record({})
    again = await house.backend.create(house.keys[-1], house.spec)
    assert again.record["pid"] != lost["pid"]
    assert Process.now(lost["pid"]) is None
    assert (await again.run(["echo", "one"], timeout=5)).stdout == b"one\n"


async def test_destroy_finds_a_start_whose_starter_died(house):
    sandbox = await house.make()
    lost = sandbox.record
    sandbox.folder.write_record({})
    await sandbox.destroy()
    assert Process.now(lost["pid"]) is None


async def test_an_id_that_came_to_mean_another_process_is_left_alone(house):
    sandbox = await house.make()
    truly = sandbox.record
    sandbox.folder.write_record({**truly, "pid": os.getpid()})
    assert not await sandbox.alive()
    sandbox.folder.write_record({**truly, "boot": "another"})
    assert not await sandbox.alive()
    sandbox.folder.write_record({**truly, "pid": os.getpid()})
    await sandbox.destroy()  # by what bwrap said; and we are still here
    assert Process.now(truly["pid"]) is None


async def test_what_cannot_start_says_why_and_leaves_nothing(house):
    with pytest.raises(SandboxError, match="no such mirror"):
        await house.make(SandboxSpec(mirror=Path("/no such mirror")))
    assert house.keys[-1] not in [info.key for info in await house.backend.list()]


async def test_limits_that_cannot_be_set_let_nothing_run(house):
    broken = Cgroups({"memory": (1, Path("/nowhere/asynccode"))})
    backend = LocalBackend(root=house.backend.root, runtime=house.backend.runtime, account=house.backend.account)
    backend.launcher = dataclasses.replace(house.backend.launcher, cgroups=broken)
    with pytest.raises(SandboxError, match="/nowhere/asynccode"):
        await backend.create(house.key(), house.spec)
    assert house.keys[-1] not in [info.key for info in await house.backend.list()]


async def test_a_very_long_data_path_is_no_obstacle(house, data):
    long = data / ("d" * 100) / ("e" * 100)
    long.mkdir(parents=True, exist_ok=True)
    for folder in (long, long.parent):
        folder.chmod(0o711)
    backend = LocalBackend(root=long, runtime=house.backend.runtime, account=house.backend.account)
    sandbox = await backend.create("long:1:1", house.spec)
    try:
        assert (await sandbox.run(["echo", "on"], timeout=5)).stdout == b"on\n"
    finally:
        await sandbox.destroy()


async def test_destroy_in_the_middle_of_a_start_wins(house):
    key = house.key()
    making = asyncio.create_task(house.backend.create(key, house.spec))
    while not (found := [info for info in await house.backend.list() if info.key == key]):  # noqa: ASYNC110
        await asyncio.sleep(0)
    await (await house.backend.connect(found[0].ref)).destroy()
    try:
        sandbox = await making
    except SandboxGone:
        pass
    else:
        await sandbox.destroy()  # destroyed before it was started, then made anew: whole, either way
    assert key not in [info.key for info in await house.backend.list()]


EAT = "import time\nheld = []\nwhile True:\n    held.append(bytearray(b'x' * (8 << 20)))\n    time.sleep(0.01)"


@pytest.mark.parametrize("means", ["cgroups", "watchdog"])
async def test_memory_is_limited_and_the_supervisor_survives(house, records, means):
    sandbox = await small(house, without_cgroups(house) if means == "watchdog" else None)
    if means == "cgroups" and sandbox.record["limits"]["memory"] == "watchdog":
        pytest.skip("no memory cgroup can be made here")
    await sandbox.turn(house.turn(["python3", "-c", EAT]))
    end = (await records(sandbox))[-1]
    assert (end["reason"], end["signal"]) == ("exit", signal.SIGKILL) if means == "cgroups" else end["reason"] == "memory"
    assert (await sandbox.run(["echo", "on"], timeout=5)).stdout == b"on\n"


FORK = """
import os, time
count = 0
try:
    while os.fork():
        count += 1
    time.sleep(100)
except OSError as error:
    print(count, error.strerror, flush=True)
"""


@pytest.mark.parametrize("means", ["cgroups", "rlimit"])
async def test_processes_are_limited_sandbox_by_sandbox(house, records, means):
    backend = without_cgroups(house) if means == "rlimit" else None
    for _ in range(2):  # the second has as many as the first
        sandbox = await small(house, backend)
        await sandbox.turn(house.turn(["python3", "-c", FORK]))
        found = await records(sandbox, is_last=lambda record: record["kind"] == "out" and record["step"] == "agent")
        count, reason = found[-1]["line"].split(" ", 1)
        assert reason == "Resource temporarily unavailable"
        assert 40 <= int(count) <= 80


async def test_file_sizes_are_limited(house):
    sandbox = await small(house)
    done = await sandbox.run(["sh", "-c", "head -c 50000000 /dev/zero > big; stat -c %s big"], timeout=20)
    assert int(done.stdout) == SMALL.file_mb << 20


@pytest.mark.long  # the watchdog looks every 15 s
async def test_disk_is_limited(house, records):
    sandbox = await small(house)
    await sandbox.turn(house.turn("for i in 1 2 3; do head -c 30000000 /dev/zero > $i; done; sleep 60"))
    assert (await records(sandbox, seconds=60))[-1]["reason"] == "disk"


async def test_tmp_and_shm_have_their_sizes(house):
    sandbox = await small(house)
    for folder, size in (("/tmp", SMALL.tmp_mb), ("/dev/shm", SMALL.shm_mb)):
        done = await sandbox.run(["sh", "-c", f"head -c 50000000 /dev/zero > {folder}/x; stat -c %s {folder}/x"], timeout=10)
        assert int(done.stdout) <= size << 20


@pytest.mark.parametrize(
    "program",
    [
        ["git", "--version"],
        ["python3", "-c", "import ssl, threading; t = threading.Thread(); t.start(); t.join()"],
        ["bash", "-c", "wait"],
        ["getent", "passwd", "agent"],
        ["sh", "-c", "test -s /etc/ssl/certs/ca-certificates.crt || test -e /etc/pki"],
    ],
)
async def test_ordinary_programs_work(house, program):
    sandbox = await house.make()
    done = await sandbox.run(program, timeout=20)
    assert (done.code, done.stderr) == (0, b"")


async def test_what_the_host_has_installed_works_too(house):
    sandbox = await house.make()
    await sandbox.put("/workspace/a.c", b'#include <stdio.h>\nint main(void) { puts("built"); return 0; }\n')
    for needed, command, printed in (
        ("/usr/bin/gcc", "gcc -pthread a.c -o a && ./a", b"built\n"),
        ("/usr/bin/node", "node -e 'new Worker' 2>/dev/null; node -e 'console.log(1)'", b"1\n"),
        ("/usr/bin/perl", "perl -e 'print 1'", b"1"),
        ("/usr/bin/make", "printf 'all:\\n\\t@echo made\\n' > Makefile && make -s", b"made\n"),
    ):
        if Path(needed).exists():
            done = await sandbox.run(["sh", "-c", f"cd /workspace && {command}"], timeout=60)
            assert (done.stdout, done.code) == (printed, 0), done.stderr
