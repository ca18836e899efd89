"""What goes wrong at E2B, and what becomes of it; the rest of the contract is in test_contract.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandboxes.base import HeaderRule, NetworkMode, NetworkPolicy, Sandbox
from sandboxes.e2b import journal
from sandboxes.e2b.account import Account
from sandboxes.e2b.backend import E2BBackend
from sandboxes.errors import AccountRefused, HeadersRefused, SandboxError, SandboxGone, SandboxLimited
from tests.e2bcloud.process import Cloud
from tests.sandboxes.conftest import House

Until = Callable[..., Awaitable[None]]
Records = Callable[..., Awaitable[list[dict[str, Any]]]]


def backend(cloud: Cloud, *, timeout_s: int = 300, installation: str = "test") -> E2BBackend:
    return E2BBackend(Account(**cloud.options), installation=installation, timeout_s=timeout_s)


@pytest.fixture
async def house(cloud: Cloud, mirror: tuple[Path, str]) -> AsyncIterator[House]:
    house = House(backend(cloud), "", mirror)
    yield house
    cloud.clear()
    await house.destroy_all()


def lines(records: list[dict[str, Any]]) -> list[str]:
    return [record["line"] for record in records if record["kind"] == "out" and record["step"] == "agent"]


def made(cloud: Cloud, house: House) -> list[dict[str, Any]]:
    return [one for one in cloud.sandboxes() if one["metadata"].get("asynccode_key") in house.keys]


async def whole(sandbox: Sandbox) -> bytes:
    """The journal to its turn's end."""
    found = b""
    async with asyncio.timeout(60):
        async for chunk in sandbox.journal(0):
            found += chunk
            if b'"kind":"end"' in found:
                break
    return found


# Creations


async def test_no_room_is_said_as_such_and_leaves_nothing(house: House, cloud: Cloud) -> None:
    cloud.fault("quota", message="You have reached the maximum number of concurrent sandboxes (20).")
    with pytest.raises(SandboxLimited, match="20"):
        await house.make()
    assert made(cloud, house) == []


async def test_a_rate_limit_that_passes_soon_is_waited_for(house: House, cloud: Cloud) -> None:
    cloud.fault("429", retry_after=1, count=1)
    assert await (await house.make()).alive()


async def test_a_longer_one_says_how_long_it_is_also_to_one_that_is_to_wake_up(house: House, cloud: Cloud) -> None:
    sandbox = await house.make()
    await sandbox.pause()
    for path, deed in (("POST /v2/sandboxes$", house.make), ("POST /v2/sandboxes/.*/connect$", sandbox.resume)):
        cloud.fault("429", path=path, retry_after=120, count=1)
        with pytest.raises(SandboxLimited, match="Rate limit exceeded") as refused:
            await deed()
        assert refused.value.retry_after_s == 120
    assert len(made(cloud, house)) == 1


async def test_a_refused_account_says_what_to_look_at(house: House, cloud: Cloud) -> None:
    cloud.fault("auth")
    with pytest.raises(AccountRefused, match="E2B_API_KEY"):
        await house.make()
    with pytest.raises(AccountRefused):
        await house.backend.list()


@pytest.mark.parametrize("path", ["POST /v2/sandboxes", "POST /sandboxes"])
async def test_an_answer_of_the_kind_500_is_asked_again(house: House, cloud: Cloud, path: str) -> None:
    cloud.fault("500", path=path, count=2)
    assert await (await house.make()).alive()
    assert len(made(cloud, house)) == 1


async def test_a_template_that_is_not_there_is_named(house: House) -> None:
    with pytest.raises(SandboxError, match=r"no-such-one.*build-template"):
        await house.make(replace(house.spec, template="no-such-one"))


async def test_a_creation_may_be_slow(house: House, cloud: Cloud) -> None:
    cloud.fault("slow_create", seconds=2)
    assert await (await house.make()).alive()


async def test_one_that_vanishes_while_it_is_made_is_gone_and_leaves_nothing(house: House, cloud: Cloud) -> None:
    for fault in ({"at": "create"}, {"text": "mkdir -p"}, {"text": "setsid"}):
        cloud.fault("vanish", count=1, **fault)
        with pytest.raises(SandboxGone):
            await house.make()
        assert made(cloud, house) == []


async def test_an_error_after_the_creation_destroys_what_was_made(house: House, cloud: Cloud) -> None:
    cloud.fault("500", path="/process.Process/Start")
    with pytest.raises(SandboxError):
        await house.make()
    assert made(cloud, house) == []


async def test_when_even_that_fails_the_first_error_is_told(house: House, cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    cloud.fault("500", path="/process.Process/Start", message="the first")
    cloud.fault("500", path="^DELETE /sandboxes/", count=1, message="the second")
    with pytest.raises(SandboxError, match="the first"):
        await house.make()
    (left,) = made(cloud, house)
    assert f"The half-made sandbox {left['id']} is left to the reaper" in caplog.text
    assert "the second" in caplog.text


async def test_a_second_creation_with_a_key_is_a_second_sandbox_that_the_list_shows(house: House) -> None:
    key = house.key()
    refs = {(await house.backend.create(key, house.spec)).ref for _ in range(2)}
    assert len(refs) == 2
    assert {info.ref for info in await house.backend.list() if info.key == key} == refs


# Streams


async def test_streams_that_are_cut_again_and_again_lose_and_double_nothing(house: House, cloud: Cloud) -> None:
    sandbox = await house.make()
    await sandbox.turn(house.turn("seq -f 'ünï %g' 2000"))
    plain = await whole(sandbox)
    cloud.fault("drop_stream", after=150_000, sandbox=sandbox.ref)  # more than one piece takes: else nothing ever gets through
    assert (await whole(sandbox)).startswith(plain)


async def test_pieces_cut_within_characters_are_put_together(house: House, cloud: Cloud, records: Records) -> None:
    sandbox = await house.make()
    cloud.fault("split", bytes=3, sandbox=sandbox.ref)
    await sandbox.turn(house.turn("echo 'ünï “code” ✓'"))
    assert lines(await records(sandbox)) == ["ünï “code” ✓"]


async def test_a_stream_that_stalls_is_given_up(
    until: Until, house: House, cloud: Cloud, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SILENCE_S", 1.0)
    sandbox = await house.make()
    stalled = cloud.fault("stall_stream", after=-1, path="/process.Process/Start", sandbox=sandbox.ref, count=1)
    reading = asyncio.create_task(records(sandbox))
    await until(lambda: any(fault["id"] == stalled and fault["hits"] for fault in cloud.faults()))
    await sandbox.turn(house.turn("echo on"))
    assert lines(await reading) == ["on"]


async def test_what_is_said_while_nobody_listens_is_read_later(until: Until, house: House, records: Records) -> None:
    sandbox = await house.make()
    await sandbox.turn(house.turn("seq 100"))

    async def is_over() -> bool:
        return b'"kind":"end"' in (await sandbox.run(["cat", "/var/lib/asynccode/state/journal.jsonl"], timeout=5)).stdout

    await until(is_over)
    assert lines(await records(sandbox)) == [str(number) for number in range(1, 101)]


async def test_the_relays_that_read_do_not_pile_up(until: Until, house: House, cloud: Cloud, records: Records) -> None:
    sandbox = await house.make()
    await sandbox.turn(house.turn("true"))
    for _ in range(5):
        await records(sandbox)
    listed = ["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'relay follow' | wc -l"]

    async def are_few() -> bool:
        return int((await sandbox.run(listed, timeout=5)).stdout) <= 1

    await until(are_few)


async def test_the_journal_of_one_that_vanishes_ends(house: House, cloud: Cloud) -> None:
    sandbox = await house.make()
    await sandbox.turn(house.turn("echo up; sleep 600"))
    async with asyncio.timeout(30):
        found = b""
        async for chunk in sandbox.journal(0):
            found += chunk
            if b'"line":"up"' in found and made(cloud, house):
                await asyncio.to_thread(cloud.vanish, sandbox.ref)
    assert b'"line":"up"' in found
    assert not await sandbox.alive()


# Time


async def test_one_that_is_followed_outlives_its_timeout(cloud: Cloud, house: House, records: Records) -> None:
    house.backend = backend(cloud, timeout_s=3)
    sandbox = await house.make()
    await sandbox.turn(house.turn("for i in 1 2 3 4 5 6; do echo $i; sleep 1; done"))
    assert lines(await records(sandbox))[-1] == "6"
    assert [one["state"] for one in made(cloud, house)] == ["running"]


async def test_one_that_nobody_follows_sleeps_with_its_agent_and_goes_on_when_read(
    until: Until, cloud: Cloud, house: House, records: Records
) -> None:
    house.backend = backend(cloud, timeout_s=2)
    sandbox = await house.make()
    await sandbox.turn(house.turn("for i in 1 2 3 4 5 6; do echo $i; sleep 1; done; echo done"))
    await until(lambda: made(cloud, house)[0]["state"] == "paused")
    found = await records(await house.backend.connect(sandbox.ref))
    assert lines(found) == ["1", "2", "3", "4", "5", "6", "done"]
    assert found[-1]["reason"] == "exit"


# Whose it is, and what it may reach


async def test_another_installations_sandbox_is_none_of_ours(house: House, cloud: Cloud) -> None:
    sandbox = await house.make()
    other = backend(cloud, installation="other")
    assert sandbox.ref not in [info.ref for info in await other.list()]
    with pytest.raises(SandboxGone):
        await other.connect(sandbox.ref)


async def test_the_network_is_given_at_the_creation_and_anew_when_it_wakes_up(house: House, cloud: Cloud) -> None:
    none = NetworkPolicy(NetworkMode.NONE, ("one.example.org",))
    sandbox = await house.make(replace(house.spec, network=none))
    assert made(cloud, house)[0]["network"]["allowOut"] == ["one.example.org"]
    await sandbox.pause()
    rule = HeaderRule("api.example.org", {"x-api-key": "secret"})
    await sandbox.resume(replace(house.spec, network=NetworkPolicy(NetworkMode.NONE), headers=[rule]))
    network = made(cloud, house)[0]["network"]
    assert network["allowOut"] == ["api.example.org"]
    assert "api.example.org" in network["rules"]


@pytest.mark.parametrize("status", [400, 403])
async def test_headers_that_may_not_be_added_are_told_from_other_refusals(house: House, cloud: Cloud, status: int) -> None:
    ruled = replace(house.spec, headers=[HeaderRule("api.example.org", {"x-api-key": "secret"})])
    sandbox = await house.make()
    cloud.fault("rules", status=status)
    with pytest.raises(HeadersRefused):
        await house.make(ruled)
    with pytest.raises(HeadersRefused):
        await sandbox.resume(ruled)
    await sandbox.resume(house.spec)
    assert len(made(cloud, house)) == 1
