"""The sockets: who gets one, when, and what becomes of it."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sandboxes.egress import HostError
from sandboxes.gateway import Attempt, Gateway

from .conftest import World, can_connect, until


async def test_the_socket_says_who_asks(world: World) -> None:
    await world.origin("example.org")
    world.sandbox("alice", "example.org")
    world.sandbox("bob")
    await world.gateway()
    assert (await world.get("http://example.org/", "alice")).startswith(b"HTTP/1.1 200")
    assert (await world.get("http://example.org/", "bob")).startswith(b"HTTP/1.1 403")
    await until(lambda: len(world.attempts) == 2)
    assert [(key, attempt.is_allowed) for key, attempt in world.attempts] == [("test:alice:1", True), ("test:bob:1", False)]


async def test_every_account_may_connect(world: World) -> None:
    path = world.sandbox()
    path.parent.chmod(0o700)
    await world.gateway()
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert os.listdir(path.parent) == ["gateway.sock"]


async def test_a_new_sandbox_is_noticed_quickly_and_a_removed_one_closed(world: World) -> None:
    await world.gateway(scan_s=0.25)
    path = world.sandbox()
    await until(path.exists, 0.6)
    reader, _ = await world.dial()
    shutil.rmtree(path.parent.parent)
    assert await asyncio.wait_for(reader.read(), 2) == b""


async def test_a_gateway_folder_that_comes_later_is_noticed(world: World) -> None:
    (world.root / "box").mkdir(parents=True)
    os.utime(world.root, (1, 1))  # long unchanged: nothing but the sandbox's own folder tells
    task = asyncio.create_task(Gateway(world.root, on_attempt=lambda *_: None).serve())
    world.stack.push_async_callback(world.stop, task)
    await asyncio.sleep(0)
    path = world.sandbox()
    await until(path.exists, 1)


async def test_a_sandbox_that_comes_within_the_clocks_grain_is_noticed(world: World) -> None:
    world.sandbox("first")
    await world.gateway()
    before = world.root.stat().st_mtime_ns
    path = world.sandbox("second")
    os.utime(world.root, ns=(before, before))  # as if both had come in the same tick
    await until(path.exists)


async def test_a_socket_path_may_be_long(world: World) -> None:
    world.root = world.root / ("x" * 120) / ("y" * 120)
    path = world.sandbox()
    await world.gateway()
    assert can_connect(path)


async def test_a_deleted_socket_comes_back(world: World) -> None:
    path = world.sandbox()
    await world.gateway()
    path.unlink()
    await until(lambda: path.exists() and can_connect(path))


async def test_links_are_not_followed(world: World, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "gateway").mkdir(parents=True)
    world.sandbox("real")
    (world.root / "link").symlink_to(tmp_path / "elsewhere")
    world.sandbox("trick")
    (world.root / "trick" / "gateway").rmdir()
    (world.root / "trick" / "gateway").symlink_to(tmp_path / "elsewhere" / "gateway")
    task = asyncio.create_task(Gateway(world.root, on_attempt=lambda *_: None).serve())
    world.stack.push_async_callback(world.stop, task)
    await until((world.root / "real" / "gateway" / "gateway.sock").exists)
    assert os.listdir(tmp_path / "elsewhere" / "gateway") == []


async def test_a_changed_policy_holds_from_the_next_request(world: World) -> None:
    await world.origin("example.org")
    world.sandbox("box")
    await world.gateway()
    assert b"403" in (await world.get("http://example.org/")).split(b"\r\n")[0]
    world.sandbox("box", "example.org")
    assert b"200" in (await world.get("http://example.org/")).split(b"\r\n")[0]


@pytest.mark.parametrize(
    "spec",
    [
        None,
        "",
        "[]",
        "{",
        '{"key": "a", "network": {"mode": "all", "hosts": []}}',
        '{"key": "a", "network": {"mode": "public", "hosts": ["a b"]}}',
    ],
)
async def test_without_a_readable_policy_nothing_goes_out(world: World, spec: str | None) -> None:
    path = world.sandbox("box", mode="public")
    file = path.parent.parent / "state" / "spec.json"
    file.unlink() if spec is None else file.write_text(spec)
    await world.origin("example.org")
    await world.gateway()
    answer = await world.get("http://example.org/")
    assert answer.startswith(b"HTTP/1.1 503")
    assert world.asked == []


async def test_a_malformed_private_host_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(HostError):
        Gateway(tmp_path, allow_private=["http://10.0.0.1"], on_attempt=lambda *_: None)


async def test_errors_in_the_callback_are_logged_and_hurt_nobody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.origin("example.org")
    world.sandbox("box", "example.org")
    seen: list[Attempt] = []

    async def broken(key: str, attempt: Attempt) -> None:
        seen.append(attempt)
        raise RuntimeError("the database is away")

    gateway = Gateway(world.root, on_attempt=broken, resolve=world.resolve, connect=world.connect)
    task = asyncio.create_task(gateway.serve())
    world.stack.push_async_callback(world.stop, task)
    await until((world.root / "box" / "gateway" / "gateway.sock").exists)
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            assert (await world.get("http://example.org/")).endswith(b"hello")
        await until(lambda: len(seen) == 2 and len(caplog.records) == 2)
    assert "was not recorded" in caplog.records[0].getMessage()


async def test_the_end_of_the_gateway_ends_every_connection_and_reports_it(world: World) -> None:
    await world.origin("example.org", port=443)
    world.sandbox("box", "example.org")
    task = await world.gateway()
    head, reader, _ = await world.tunnel("example.org:443")
    assert b"200" in head
    await world.stop(task)
    assert await asyncio.wait_for(reader.read(), 2) == b""
    assert [attempt.host for _, attempt in world.attempts] == ["example.org"]


async def test_when_another_gateway_takes_over_old_connections_go_on(world: World) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    await world.site("example.org", echo, port=443)
    path = world.sandbox("box", "example.org")
    await world.gateway()
    _, reader, writer = await world.tunnel("example.org:443")
    before = path.stat().st_ino
    await world.gateway()
    await until(lambda: path.stat().st_ino != before)
    writer.write(b"still here")
    assert await asyncio.wait_for(reader.readexactly(10), 2) == b"still here"
    assert b"200" in (await world.tunnel("example.org:443"))[0]


GATEWAY = """
import asyncio, sys
from pathlib import Path
from sandboxes.gateway import Gateway
asyncio.run(Gateway(Path(sys.argv[1]), on_attempt=lambda key, attempt: None).serve())
"""


async def test_after_a_killed_gateway_a_new_one_is_found_in_the_same_folder(world: World) -> None:
    path = world.sandbox()

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", GATEWAY, str(world.root)], cwd=Path(__file__).parents[3])
        world.stack.callback(process.wait)
        world.stack.callback(process.kill)
        return process

    first = start()
    await until(lambda: path.exists() and can_connect(path), 10)
    folder = path.parent.stat().st_ino
    first.kill()
    first.wait()
    assert path.exists()
    assert not can_connect(path)
    start()
    await until(lambda: can_connect(path), 10)
    assert path.parent.stat().st_ino == folder
    assert (await world.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")).startswith(b"HTTP/1.1 404")
