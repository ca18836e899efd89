"""The loopback cloud, asked by the real SDK."""

from __future__ import annotations

import asyncio
import inspect
import io
import os
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2b import AsyncSandbox, AsyncTemplate, LogEntry, Sandbox, SandboxQuery, SandboxState, Template
from e2b.exceptions import (
    AuthenticationException,
    BuildException,
    NotFoundException,
    RateLimitException,
    SandboxException,
    SandboxNotFoundException,
    SandboxNotRunningException,
    SandboxUnreachableException,
    ServiceBusyException,
    TimeoutException,
)
from e2b.sandbox.commands.command_handle import CommandExitException

from tests.e2bcloud.process import Cloud, is_alive

MB100 = 100_000_000
SHARED = {"shared": "by many tests"}


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with Cloud.start() as cloud:
        yield cloud


@pytest.fixture
def cloud(running: Cloud) -> Iterator[Cloud]:
    """The one cloud, as new: no faults, no limits, no sandboxes of another test."""
    yield running
    running.clear()
    running.settings(max_life=86400.0, concurrency=None, creations_per_s=None)
    for sandbox in running.sandboxes():
        if sandbox["metadata"] != SHARED:
            running.vanish(sandbox["id"])
    running.forget_requests()


@pytest.fixture(scope="module")
def shared_id(running: Cloud) -> str:
    return Sandbox.create(**running.options, timeout=3600, metadata=SHARED).sandbox_id


@pytest.fixture
async def shared(cloud: Cloud, shared_id: str) -> AsyncSandbox:
    """A sandbox for all tests that let it run, and leave no command in it."""
    return await AsyncSandbox.connect(shared_id, **cloud.options)


@pytest.fixture
async def sandbox(cloud: Cloud) -> AsyncSandbox:
    return await AsyncSandbox.create(**cloud.options)


async def until(is_so: Callable[[], Any], seconds: float = 10.0) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        found = is_so()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, "It did not come about."
        await asyncio.sleep(0.02)


async def is_idle(sandbox: AsyncSandbox) -> bool:
    return not await sandbox.commands.list()


def known(cloud: Cloud, sandbox: AsyncSandbox) -> dict[str, Any]:
    return next((one for one in cloud.sandboxes() if one["id"] == sandbox.sandbox_id), {"state": "gone"})


def state(cloud: Cloud, sandbox: AsyncSandbox) -> str:
    return str(known(cloud, sandbox)["state"])


# --- commands -----------------------------------------------------------------------------------------------------------------


async def test_a_command_says_what_it_did(cloud: Cloud) -> None:
    sandbox = await AsyncSandbox.create(**cloud.options, envs={"OF": "sandbox", "BOTH": "sandbox"})
    done = await sandbox.commands.run('echo "$OF $BOTH $MINE $HOME"; echo to stderr >&2', envs={"MINE": "mine", "BOTH": "command"})
    assert (done.stdout, done.stderr, done.exit_code) == ("sandbox command mine /home/user\n", "to stderr\n", 0)
    with pytest.raises(CommandExitException) as failed:
        await sandbox.commands.run("echo so far; exit 3")
    assert (failed.value.exit_code, failed.value.stdout, failed.value.error) == (3, "so far\n", "exit status 3")


async def test_root_makes_folders_in_a_root_of_its_own(shared: AsyncSandbox) -> None:
    await shared.commands.run("mkdir -p /workspace /home/agent && touch /workspace/made /opt/made", user="root")
    assert (await shared.commands.run("ls /workspace; pwd", cwd="/workspace")).stdout == "made\n/workspace\n"
    assert not Path("/opt/made").exists()
    with pytest.raises(CommandExitException):
        await shared.commands.run("touch /usr/made", user="root")


async def test_a_background_command_outlives_its_stream_and_is_found_again(sandbox: AsyncSandbox) -> None:
    handle = await sandbox.commands.run("echo one; read line; echo two $line; exit 4", background=True, stdin=True, timeout=0)
    assert [process.pid for process in await sandbox.commands.list()] == [handle.pid]
    await until(lambda: handle.stdout)
    await handle.disconnect()
    again = await sandbox.commands.connect(handle.pid, timeout=0)
    await sandbox.commands.send_stdin(handle.pid, "three\n")
    with pytest.raises(CommandExitException) as ended:
        await again.wait()
    assert (ended.value.exit_code, ended.value.stdout) == (4, "two three\n")  # "one" is not said again
    late = await sandbox.commands.connect(handle.pid)
    with pytest.raises(CommandExitException) as remembered:
        await late.wait()
    assert (remembered.value.exit_code, remembered.value.stdout) == (4, "")
    assert await sandbox.commands.list() == []
    assert not await sandbox.commands.kill(handle.pid)


async def test_what_a_command_says_to_nobody_is_lost_but_does_not_stop_it(shared: AsyncSandbox) -> None:
    handle = await shared.commands.run("read line; seq 100000; touch ~/heard; read line; echo end", background=True, stdin=True, timeout=0)
    await handle.disconnect()
    await shared.commands.send_stdin(handle.pid, "\n")
    await until(lambda: shared.files.exists("heard"))
    again = await shared.commands.connect(handle.pid, timeout=0)
    await shared.commands.send_stdin(handle.pid, "\n")
    assert (await again.wait()).stdout == "end\n"


async def test_input_comes_in_order_and_ends(shared: AsyncSandbox) -> None:
    handle = await shared.commands.run("cat", background=True, stdin=True, timeout=0)
    async with shared.commands.stream_input(handle.pid) as given:
        for number in range(20):
            await given.send(f"{number} ")
    await shared.commands.close_stdin(handle.pid)
    assert (await handle.wait()).stdout.split() == [str(number) for number in range(20)]


async def test_killing_a_command(shared: AsyncSandbox) -> None:
    handle = await shared.commands.run("exec sleep 1000", background=True, timeout=0)
    assert await handle.kill()
    with pytest.raises(CommandExitException) as killed:
        await handle.wait()
    assert (killed.value.exit_code, killed.value.error) == (-1, "signal: killed")


async def test_the_time_limit_of_a_command_ends_it_though_nobody_waits(sandbox: AsyncSandbox) -> None:
    handle = await sandbox.commands.run("exec sleep 1000", background=True, timeout=0.3)
    await handle.disconnect()
    await until(lambda: is_idle(sandbox))
    with pytest.raises(TimeoutException, match="timeout"):
        await sandbox.commands.run("exec sleep 1000", timeout=0.2)
    handle = await sandbox.commands.run("exec sleep 1000", background=True, timeout=0)
    with pytest.raises(TimeoutException):
        await (await sandbox.commands.connect(handle.pid, timeout=0.2)).wait()
    assert not await is_idle(sandbox)  # the limit of a connection is not its command's


async def test_a_child_that_keeps_the_output_keeps_the_stream(shared: AsyncSandbox) -> None:
    handle = await shared.commands.run("sleep 1000 & echo started", background=True, timeout=0)
    await until(lambda: handle.stdout)
    await shared.commands.run("pkill sleep")
    assert (await handle.wait()).stdout == "started\n"


async def test_100_mb_of_output(shared: AsyncSandbox) -> None:
    heard = 0

    def hear(text: str) -> None:
        nonlocal heard
        heard += len(text)

    await shared.commands.run(f"head -c {MB100} /dev/zero | tr '\\0' x", on_stdout=hear, retain_output=False, timeout=0)
    assert heard == MB100


# --- files --------------------------------------------------------------------------------------------------------------------


async def test_files_go_both_ways(shared: AsyncSandbox) -> None:
    await shared.files.write("notes/a.txt", "häh\r\n--x\r\n")
    assert await shared.files.read("/home/user/notes/a.txt") == "häh\r\n--x\r\n"
    written = await shared.files.write_files([{"path": "/tmp/one", "data": b"1"}, {"path": "/tmp/two", "data": b""}])
    assert [one.path for one in written] == ["/tmp/one", "/tmp/two"]
    await shared.files.write("/tmp/packed", b"packed" * 1000, gzip=True)
    assert (await shared.files.get_info("/tmp/packed")).size == 6000
    assert await shared.files.make_dir("notes/b")
    assert not await shared.files.make_dir("notes/b")
    await shared.files.rename("/tmp/one", "notes/b/one")
    assert [entry.name for entry in await shared.files.list("notes", depth=2)] == ["a.txt", "b", "one"]
    await shared.files.remove("notes")
    assert not await shared.files.exists("notes")
    with pytest.raises(NotFoundException):
        await shared.files.read("notes/a.txt")


async def test_100_mb_up_and_down(shared: AsyncSandbox) -> None:
    data = os.urandom(1_000_000) * 100
    await shared.files.write("/tmp/streamed", io.BytesIO(data[: MB100 // 4]))
    assert await shared.files.read("/tmp/streamed", format="bytes") == data[: MB100 // 4]
    await shared.files.write("/tmp/multipart", data)
    got = 0
    async for piece in await shared.files.read("/tmp/multipart", format="stream"):
        got += len(piece)
    assert got == MB100
    await shared.commands.run(f"cmp -n {MB100 // 4} /tmp/streamed /tmp/multipart")


async def test_a_signed_address_and_a_part_of_a_file(shared: AsyncSandbox) -> None:
    await shared.files.write("/tmp/x", "0123456789")
    request = urllib.request.Request(shared.download_url("/tmp/x"), headers={"Range": "bytes=7-"})
    with await asyncio.to_thread(urllib.request.urlopen, request) as response:
        assert (response.status, response.read()) == (206, b"789")


# --- life ---------------------------------------------------------------------------------------------------------------------


async def test_listing_by_metadata_and_by_pages(cloud: Cloud) -> None:
    made = [await AsyncSandbox.create(**cloud.options, metadata={"task of": f"a & b/{number % 2}", "x": "y"}) for number in range(4)]
    await made[0].pause()

    async def found(limit: int | None = None, **query: Any) -> set[str]:
        pages, ids = AsyncSandbox.list(query=SandboxQuery(**query), limit=limit, **cloud.options), set()
        while pages.has_next:
            ids |= {one.sandbox_id for one in await pages.next_items()}
        return ids

    assert await found(metadata={"task of": "a & b/0"}) == {made[0].sandbox_id, made[2].sandbox_id}
    assert await found(limit=3, metadata={"x": "y"}) == {one.sandbox_id for one in made}
    assert await found(state=[SandboxState.PAUSED]) == {made[0].sandbox_id}
    assert (await made[0].get_info()).metadata == {"task of": "a & b/0", "x": "y"}


async def test_a_paused_sandbox_goes_on_where_it_was(cloud: Cloud, sandbox: AsyncSandbox) -> None:
    await sandbox.commands.run("i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.01; done", background=True, timeout=0)
    count = Path(known(cloud, sandbox)["root"]) / "tmp/count"
    await until(count.exists)
    assert await sandbox.pause()
    assert not await sandbox.pause()
    stopped = count.read_text()
    with pytest.raises(SandboxNotRunningException):
        await sandbox.commands.run("true")
    assert not await sandbox.is_running()
    assert count.read_text() == stopped
    again = await AsyncSandbox.connect(sandbox.sandbox_id, **cloud.options)
    await until(lambda: count.read_text() > stopped or len(count.read_text()) > len(stopped))
    assert len(await again.commands.list()) == 1


async def test_a_stream_ends_when_its_sandbox_is_paused(sandbox: AsyncSandbox) -> None:
    handle = await sandbox.commands.run("sleep 1000", background=True, timeout=0)
    await sandbox.pause()
    with pytest.raises(SandboxNotRunningException):
        await handle.wait()


async def test_a_call_resumes_a_sandbox_that_wants_it(cloud: Cloud) -> None:
    sandbox = await AsyncSandbox.create(**cloud.options, lifecycle={"on_timeout": "pause", "auto_resume": True})
    await sandbox.pause()
    assert (await sandbox.commands.run("echo back")).stdout == "back\n"
    assert state(cloud, sandbox) == "running"


async def test_the_end_of_its_time_kills_or_pauses(cloud: Cloud) -> None:
    killed = await AsyncSandbox.create(**cloud.options, timeout=1)
    paused = await AsyncSandbox.create(**cloud.options, timeout=1, lifecycle={"on_timeout": "pause"})
    kept = await AsyncSandbox.create(**cloud.options, timeout=1)
    await kept.set_timeout(60)
    await until(lambda: state(cloud, killed) == "gone" and state(cloud, paused) == "paused")
    assert state(cloud, kept) == "running"
    with pytest.raises(SandboxNotFoundException):
        await killed.get_info()
    assert not await killed.kill()
    assert await paused.kill()


async def test_connecting_does_not_shorten_a_life(cloud: Cloud, sandbox: AsyncSandbox) -> None:
    await sandbox.connect(timeout=10)
    assert known(cloud, sandbox)["timeout_left"] > 250
    await sandbox.connect(timeout=3000)
    assert known(cloud, sandbox)["timeout_left"] > 2900
    await sandbox.set_timeout(10)
    assert known(cloud, sandbox)["timeout_left"] < 11


async def test_the_longest_life(cloud: Cloud) -> None:
    cloud.settings(max_life=2.0)
    with pytest.raises(SandboxException, match="400: Timeout cannot be greater than"):
        await AsyncSandbox.create(**cloud.options, timeout=3)
    sandbox = await AsyncSandbox.create(**cloud.options, timeout=2, lifecycle={"on_timeout": "pause"})
    await until(lambda: known(cloud, sandbox)["timeout_left"] < 1)
    await sandbox.set_timeout(2)  # to no avail
    assert known(cloud, sandbox)["timeout_left"] < 1
    await sandbox.pause()
    await sandbox.connect(timeout=2)
    assert known(cloud, sandbox)["timeout_left"] > 1


async def test_the_plans_limits(cloud: Cloud) -> None:
    cloud.settings(concurrency=1 + len(cloud.sandboxes()))
    sandbox = await AsyncSandbox.create(**cloud.options)
    with pytest.raises(RateLimitException, match="maximum number of concurrent E2B sandboxes"):
        await AsyncSandbox.create(**cloud.options, retries=0)
    await sandbox.pause()
    await (await AsyncSandbox.create(**cloud.options)).kill()
    cloud.settings(concurrency=None, creations_per_s=1)
    at_once = (AsyncSandbox.create(**cloud.options, retries=0) for _ in range(3))
    made = await asyncio.gather(*at_once, return_exceptions=True)
    assert sorted(type(one).__name__ for one in made) == ["AsyncSandbox", "RateLimitException", "RateLimitException"]


async def test_what_was_asked_for_is_kept(cloud: Cloud) -> None:
    network: Any = {"allow_out": ["api.example.org"], "deny_out": ["0.0.0.0/0"]}
    sandbox = await AsyncSandbox.create("codex", **cloud.options, network=network, metadata={"a": "b"}, envs={"C": "d"})
    [about] = cloud.sandboxes(a="b")
    assert about["network"] == {"allowOut": ["api.example.org"], "denyOut": ["0.0.0.0/0"]}
    assert (about["template"], about["envs"]) == ("codex", {"C": "d"})
    await sandbox.update_network({"allow_out": ["b.example.org"]})
    assert known(cloud, sandbox)["network"]["allowOut"] == ["b.example.org"]
    assert cloud.counts()["POST /v2/sandboxes"] == 1
    assert (await sandbox.get_metrics())[0].mem_used > 0
    with pytest.raises(SandboxException, match="404: template 'no-such' not found"):
        await AsyncSandbox.create("no-such", **cloud.options)


async def test_32_at_once(cloud: Cloud) -> None:
    made = await asyncio.gather(*(AsyncSandbox.create(**cloud.options, metadata={"number": "of 32"}) for _ in range(32)))
    said = await asyncio.gather(*(one.commands.run(f"echo {number}") for number, one in enumerate(made)))
    assert [int(one.stdout) for one in said] == list(range(32))
    pids = cloud.host_pids(number="of 32")
    assert len(pids) >= 32
    await asyncio.gather(*(one.kill() for one in made))
    assert not [pid for pid in pids if is_alive(pid)]


async def test_snapshots(cloud: Cloud, sandbox: AsyncSandbox) -> None:
    await sandbox.files.write("kept", "by the snapshot")
    snapshot = await sandbox.create_snapshot(name="mine")
    await sandbox.kill()
    again = await AsyncSandbox.create(snapshot.snapshot_id, **cloud.options)
    assert await again.files.read("kept") == "by the snapshot"
    assert await (await AsyncSandbox.create("mine", **cloud.options)).files.exists("kept")
    assert [one.snapshot_id for one in await AsyncSandbox.list_snapshots(**cloud.options).next_items()] == [snapshot.snapshot_id]
    assert await AsyncSandbox.delete_snapshot(snapshot.snapshot_id, **cloud.options)
    assert not await AsyncSandbox.delete_snapshot(snapshot.snapshot_id, **cloud.options)


async def test_templates(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "hello.txt").write_text("hello")
    template = Template(file_context_path=tmp_path).from_node_image("24").apt_install(["git"]).copy("hello.txt", "/hello.txt")
    heard: list[LogEntry] = []
    options = {name: value for name, value in cloud.options.items() if name != "sandbox_url"}
    await AsyncTemplate.build(template, "ours:v1", cpu_count=2, memory_mb=2048, on_build_logs=heard.append, **options)
    assert [entry.message for entry in heard if "apt" in entry.message]
    assert await AsyncTemplate.exists("ours", **options)
    assert not await AsyncTemplate.exists("others", **options)
    [build] = cloud.builds()
    assert build["status"] == "ready"
    assert build["steps"]["fromImage"] == "node:24"
    await AsyncSandbox.create("ours", **cloud.options)
    cloud.fault("build", count=1, message="apt is down")
    with pytest.raises(BuildException, match="apt is down"):
        await AsyncTemplate.build(Template().from_base_image(), "broken", **options)


# --- what goes wrong ----------------------------------------------------------------------------------------------------------


async def test_a_wrong_key(cloud: Cloud) -> None:
    with pytest.raises(AuthenticationException):
        await AsyncSandbox.create(**{**cloud.options, "api_key": "e2b_wrong"})


async def test_refused_creations(cloud: Cloud) -> None:
    cloud.fault("429", count=1, retry_after=1)
    begun = time.monotonic()
    await AsyncSandbox.create(**cloud.options)
    assert time.monotonic() - begun > 1
    cloud.fault("429", count=1, retry_after=1)
    with pytest.raises(RateLimitException):
        await AsyncSandbox.create(**cloud.options, retries=0)
    cloud.fault("quota", count=1)
    with pytest.raises(RateLimitException, match="maximum number"):
        await AsyncSandbox.create(**cloud.options, retries=0)
    cloud.fault("500", count=1)
    with pytest.raises(SandboxException, match=r"^500: "):
        await AsyncSandbox.create(**cloud.options)
    cloud.fault("503", count=1, path="/pause$")
    with pytest.raises(ServiceBusyException):
        await (await AsyncSandbox.create(**cloud.options)).pause(retries=0)
    assert [fault["hits"] for fault in cloud.faults()] == [1] * 5


async def test_the_key_is_revoked(cloud: Cloud, sandbox: AsyncSandbox) -> None:
    cloud.fault("auth")
    with pytest.raises(AuthenticationException):
        await sandbox.set_timeout(60)
    with pytest.raises(AuthenticationException):
        await sandbox.commands.run("true")
    cloud.clear()
    await sandbox.commands.run("true")


async def test_sandboxes_vanish(cloud: Cloud) -> None:
    now, at_command = await AsyncSandbox.create(**cloud.options), await AsyncSandbox.create(**cloud.options)
    handle = await now.commands.run("sleep 1000", background=True, timeout=0)
    cloud.vanish(now.sandbox_id)
    with pytest.raises(SandboxNotRunningException):
        await handle.wait()
    cloud.fault("vanish", count=1, text="fatal", sandbox=at_command.sandbox_id)
    await at_command.commands.run("true")
    with pytest.raises(SandboxNotRunningException):
        await at_command.commands.run("echo fatal")
    cloud.fault("vanish", count=1, at="create")
    at_creation = await AsyncSandbox.create(**cloud.options)
    with pytest.raises(SandboxNotRunningException):
        await at_creation.files.write("x", "y")
    with pytest.raises(SandboxNotFoundException):
        await at_creation.connect()
    cloud.fault("vanish", count=1, seconds=0.2)
    later, at_last = await AsyncSandbox.create(**cloud.options), await AsyncSandbox.create(**cloud.options)
    cloud.vanish(at_last.sandbox_id, after=0.2)
    await until(lambda: state(cloud, later) == state(cloud, at_last) == "gone")


async def test_streams_are_cut_and_the_command_goes_on(cloud: Cloud, sandbox: AsyncSandbox) -> None:
    cloud.fault("drop_stream", count=2, after=100_000)  # a message is 32 KiB of output, in base64
    handle = await sandbox.commands.run("read line; yes", background=True, stdin=True, timeout=0)
    await sandbox.commands.send_stdin(handle.pid, "\n")
    for cut in (handle, await sandbox.commands.connect(handle.pid, timeout=0)):
        with pytest.raises(SandboxUnreachableException):
            await cut.wait()
        assert 0 < len(cut.stdout) < 100_000
    assert len(await sandbox.commands.list()) == 1


async def test_a_stream_stalls(cloud: Cloud, shared: AsyncSandbox) -> None:
    cloud.fault("stall_stream", count=1, after=0)
    handle = await shared.commands.run("echo said; touch ~/done", background=True, timeout=0)
    await until(lambda: shared.files.exists("done"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(handle._wait), 0.3)
    assert handle.stdout == ""
    await handle.disconnect()


async def test_output_is_split_within_characters(cloud: Cloud, shared: AsyncSandbox) -> None:
    cloud.fault("split", bytes=1)
    heard: list[str] = []
    done = await shared.commands.run("echo 'häh 漢字'", on_stdout=heard.append)
    assert done.stdout == "".join(heard) == "häh 漢字\n"
    assert len(heard) == len("häh 漢字\n")


async def test_slowness(cloud: Cloud) -> None:
    cloud.fault("slow_create", count=1, seconds=0.3)
    cloud.fault("delay", count=1, seconds=0.3)
    begun = time.monotonic()
    sandbox = await AsyncSandbox.create(**cloud.options)
    assert time.monotonic() - begun > 0.3
    begun = time.monotonic()
    await sandbox.commands.run("true")
    assert time.monotonic() - begun > 0.3


async def test_a_killed_cloud_takes_its_sandboxes_along() -> None:
    shared = Path(tempfile.mkdtemp(prefix="e2bcloud-", dir="/tmp"))
    shared.chmod(0o755)
    (shared / "tool").write_text("from the host")
    cloud = Cloud.start(None, "--ro-bind", f"{shared}:/opt/tools")
    try:
        sandbox = await AsyncSandbox.create(**cloud.options)
        assert (await sandbox.commands.run("cat /opt/tools/tool")).stdout == "from the host"
        await sandbox.pause()
        pids = cloud.host_pids()
        cloud.process.kill()
        await until(lambda: not [pid for pid in pids if is_alive(pid)])
    finally:
        cloud.stop()
        shutil.rmtree(shared)


async def test_nothing_is_left() -> None:
    cloud = Cloud.start()
    try:
        sandbox = await AsyncSandbox.create(**cloud.options)
        paused = await AsyncSandbox.create(**cloud.options)
        await sandbox.commands.run("setsid sleep 1000 > /dev/null 2>&1 & trap '' TERM; sleep 1000; true", background=True, timeout=0)
        await paused.pause()
        pids = await until(lambda: len(found := cloud.host_pids()) >= 5 and found)
    finally:
        cloud.stop()
    assert not [pid for pid in pids if is_alive(pid)]
    assert cloud.process.returncode == 0
    assert not cloud.root.exists()
