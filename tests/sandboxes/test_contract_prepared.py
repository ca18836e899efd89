"""What every backend keeps of a sandbox, and gives to others: the part of the contract about prepared environments."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from sandboxes.errors import FileMissing, PreparedGone, SandboxError, SandboxGone

SETUP = "mkdir -p deps/deep && echo made > deps/deep/made && echo tool > ~/tool && echo changed > README && rm -f gone"


def lines(records, step="agent"):
    return [record["line"] for record in records if record["kind"] == "out" and record["step"] == step]


@pytest.fixture
async def prepare(house, records):
    """Runs a setup script and keeps what it left; gives the reference. All are discarded in the end."""
    made = []

    async def prepare(script=SETUP):
        sandbox = await house.make()
        await sandbox.turn(house.turn(script))
        end = (await records(sandbox))[-1]
        assert end["code"] == 0, end
        made.append(await sandbox.keep())
        await sandbox.destroy()
        return made[-1]

    yield prepare
    await house.destroy_all()
    for ref in made:
        await house.backend.discard(ref)


def on(house, ref):
    return dataclasses.replace(house.spec, prepared=ref)


async def test_two_at_once_begin_with_what_was_kept_and_do_not_see_each_other(house, prepare, records):
    ref = await prepare()
    first, second = await asyncio.gather(house.make(on(house, ref)), house.make(on(house, ref)))
    script = "cat deps/deep/made ~/tool README && rm -r deps ~/tool && echo mine > deps && echo $(cat deps)"
    for sandbox in (first, second):
        await sandbox.turn(house.turn(script))
        found = await records(sandbox)
        assert lines(found) == ["made", "tool", "hello", "mine"], found
    third = await house.make(on(house, ref))
    assert await third.get("/workspace/deps/deep/made") == b"made\n"
    assert await third.get("/home/agent/tool") == b"tool\n"


async def test_no_file_under_version_control_and_no_repository_is_kept(house, prepare):
    sandbox = await house.make(
        on(house, await prepare("mkdir -p ~/.asynccode; echo x > ~/.asynccode/setup.sh; mkdir artifacts; echo x | tee made artifacts/x"))
    )
    assert await sandbox.get("/workspace/made") == b"x\n"
    for path in ("/workspace/README", "/workspace/artifacts/x", "/workspace/.git/HEAD", "/home/agent/.asynccode/setup.sh"):
        with pytest.raises(FileMissing):
            await sandbox.get(path)


async def test_the_patch_is_that_of_a_run_whose_setup_script_ran_itself(house, prepare, records):
    setup = "mkdir deps && echo made > deps/made && echo secret > ignored && echo ignored > .git/../.gitignore"
    work = "; echo more >> README; echo new > new; echo more >> deps/made"
    itself, prepared = await house.make(), await house.make(on(house, await prepare(setup)))
    await itself.turn(house.turn(setup + work))
    await prepared.turn(house.turn(work.lstrip("; ")))
    for sandbox in (itself, prepared):
        assert (await records(sandbox))[-1]["has_patch"]
    patch = await prepared.patch(1, "final")
    assert patch == await itself.patch(1, "final")
    assert b"deps/made" in patch.content
    assert b"secret" not in patch.content


async def test_what_stands_where_the_base_has_a_file_gives_way(house, prepare, records):
    script = "git rm -q README; git commit -qm x; ln -s ~/precious README; echo x > ~/precious"
    sandbox = await house.make(on(house, await prepare(script)))
    await sandbox.turn(house.turn("cat README ~/precious; git status --porcelain"))
    assert lines(await records(sandbox)) == ["hello", "x"]


async def test_further_turns_a_pause_and_checkpoints_work_as_without(house, prepare, records):
    sandbox = await house.make(on(house, await prepare()))
    await sandbox.turn(house.turn("echo 1 >> deps/deep/made; echo 1 > one"))
    await records(sandbox)
    await sandbox.pause()
    await sandbox.resume()
    await sandbox.turn(house.turn("cat deps/deep/made one; echo up; sleep 60", turn=2))
    found = await records(sandbox, is_last=lambda record: record.get("line") == "up")
    assert lines(found) == ["made", "1", "1", "up"]
    await sandbox.pause()
    assert b"deps/deep/made" in (await sandbox.patch(2, "checkpoint")).content
    checkouts = [record["turn"] for record in found if record["kind"] == "step" and record["step"] == "checkout"]
    assert set(checkouts) == {1}


async def test_what_was_kept_outlives_its_sandbox_and_can_be_kept_again_with_more(house, prepare, records):
    first = await prepare()
    sandbox = await house.make(on(house, first))
    await sandbox.turn(house.turn("rm deps/deep/made; echo more > deps/more; echo 2 >> ~/tool"))
    await records(sandbox)
    again = await sandbox.keep()
    try:
        await sandbox.destroy()
        await house.backend.discard(first)
        other = await house.make(on(house, again))
        assert await other.get("/workspace/deps/more") == b"more\n"
        assert await other.get("/home/agent/tool") == b"tool\n2\n"
        with pytest.raises(FileMissing):
            await other.get("/workspace/deps/deep/made")
    finally:
        await house.destroy_all()
        await house.backend.discard(again)


async def test_without_any_turn_all_that_lies_there_is_kept(house):
    sandbox = await house.make()
    await sandbox.put("/workspace/a file", b"x")
    ref = await sandbox.keep()
    try:
        await sandbox.destroy()
        assert await (await house.make(on(house, ref))).get("/workspace/a file") == b"x"
    finally:
        await house.destroy_all()
        await house.backend.discard(ref)


async def test_a_running_turn_is_not_kept(house, records):
    sandbox = await house.make()
    await sandbox.turn(house.turn("echo up; sleep 60"))
    await records(sandbox, is_last=lambda record: record.get("line") == "up")
    with pytest.raises(SandboxError, match="turn"):
        await sandbox.keep()


async def test_keeping_what_is_gone_says_so(house):
    sandbox = await house.make()
    await sandbox.destroy()
    with pytest.raises(SandboxGone):
        await sandbox.keep()


async def test_a_discarded_one_is_gone_for_new_sandboxes(house, prepare):
    ref = await prepare()
    await house.backend.discard(ref)
    await house.backend.discard(ref)
    with pytest.raises(PreparedGone):
        await house.make(on(house, ref))
    assert house.keys[-1] not in [info.key for info in await house.backend.list()]


@pytest.mark.parametrize("ref", ["never-was", "../sandboxes", "0" * 32])
async def test_one_that_never_was_is_gone_too(house, ref):
    await house.backend.discard(ref)
    with pytest.raises(PreparedGone):
        await house.make(on(house, ref))


async def test_a_sandbox_that_stands_on_a_discarded_one_goes_on(house, prepare, records):
    ref = await prepare()
    sandbox = await house.make(on(house, ref))
    await house.backend.discard(ref)
    await sandbox.turn(house.turn("cat deps/deep/made README ~/tool"))
    assert lines(await records(sandbox)) == ["made", "hello", "tool"]


async def test_what_is_kept_is_listed_until_it_is_discarded(house, prepare):
    ref = await prepare("true")
    assert ref in await house.backend.kept(for_s=0)
    assert ref not in await house.backend.kept(for_s=3600)
    await house.backend.discard(ref)
    assert ref not in await house.backend.kept(for_s=0)
