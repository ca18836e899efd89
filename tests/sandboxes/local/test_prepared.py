"""Prepared environments on this machine: as overlays and as copies, whole or not there, deleted whatever lies in them."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import time
from pathlib import Path

import pytest

from sandboxes.errors import PreparedGone, SandboxError
from sandboxes.local import prepared
from sandboxes.local.backend import LocalBackend
from sandboxes.local.folder import moving, sweep

HOSTILE = (
    r"mkdir -p a/b/c && touch a/b/c/d && mkfifo pipe && touch -- -rf '*' $'new\nline' $'\xff' && ln -s / root && "
    "chmod 000 a/b/c/d a/b/c a/b a && python3 -c '"
    'import os\nfor _ in range(300): os.mkdir("deeeeeeeeeeeeep"); os.chdir("deeeeeeeeeeeeep")\''
)


@pytest.fixture
async def lab(data, house):
    """A backend whose folder nobody else uses, and the words for it."""
    root = data / f"prepared-{secrets.token_hex(4)}"
    house.backend = LocalBackend(root=root, runtime=house.backend.runtime, account=house.backend.account)
    yield house
    await house.destroy_all()


@pytest.fixture(params=["overlay", "copy"])
def each_way(request, lab):
    """Both ways in which a sandbox can begin with it."""
    if request.param == "overlay" and not lab.backend.can_overlay:
        pytest.skip("no overlay can be had here")
    lab.backend.can_overlay = request.param == "overlay"
    lab.how = request.param
    return lab


async def prepare(lab, script="echo made > made; echo tool > ~/tool"):
    sandbox = await lab.make()
    done = await sandbox.run(["bash", "-c", f"cd /workspace && {script}"], timeout=60)
    assert done.code == 0, done.stderr
    ref = await sandbox.keep()
    await sandbox.destroy()
    return ref


def on(lab, ref, **changes):
    return dataclasses.replace(lab.spec, prepared=ref, **changes)


def kept(lab):
    return sorted(path.name for path in (lab.backend.root / ".prepared").iterdir())


async def said(sandbox, script):
    done = await sandbox.run(["bash", "-c", script], timeout=60)
    return (done.stdout + done.stderr).decode()


async def test_the_record_says_how_and_what_is_changed_stays_apart(each_way):
    lab = each_way
    ref = await prepare(lab)
    sandbox = await lab.make(on(lab, ref))
    assert sandbox.record["prepared"] == lab.how
    assert (
        await said(sandbox, "cat made ~/tool; echo mine > made; rm ~/tool; echo new > new; cat made new; ls ~") == "made\ntool\nmine\nnew\n"
    )
    assert await said(await lab.make(on(lab, ref)), "cat made ~/tool; ls") == "made\ntool\nmade\n"


async def test_a_pause_and_a_new_process_of_ours_change_nothing(each_way):
    lab = each_way
    sandbox = await lab.make(on(lab, await prepare(lab)))
    await said(sandbox, "echo mine >> made; rm ~/tool")
    await sandbox.pause()
    other = LocalBackend(root=lab.backend.root, runtime=lab.backend.runtime, account=lab.backend.account)
    again = await other.connect(sandbox.ref)
    await again.resume()
    assert await said(again, "cat made; ls ~") == "made\nmine\n"
    assert again.record["prepared"] == lab.how


async def test_only_what_the_sandbox_adds_counts_as_disk(each_way, records, monkeypatch):
    lab = each_way
    ref = await prepare(lab, "head -c 30000000 /dev/urandom > big")
    spec = on(lab, ref, limits=dataclasses.replace(lab.spec.limits, disk_mb=16))
    sandbox = await lab.make(spec)
    roots = "/run/changes/workspace:/run/changes/home"
    words = (await said(sandbox, "tr '\\0' '\\n' < /proc/1/cmdline")).splitlines()
    limits = words[words.index("--limits") + 1]
    if lab.how == "overlay":
        assert words[words.index("--disk-roots") + 1] == roots
        assert '"disk_mb": 16' in limits
        await said(sandbox, "head -c 2000000 /dev/urandom > more; rm big")
        assert int(await said(sandbox, "du -sm --total /run/changes/workspace | tail -1 | cut -f1")) <= 3
    else:
        assert "--disk-roots" not in words
        assert any(f'"disk_mb": {16 + size}' in limits for size in range(28, 32)), limits


async def test_what_is_prepared_cannot_be_written_through_the_list_of_changes(lab):
    if not lab.backend.can_overlay:
        pytest.skip("no overlay can be had here")
    sandbox = await lab.make(on(lab, await prepare(lab)))
    assert "Read-only" in await said(sandbox, "touch mine; touch /run/changes/workspace/mine")
    assert "made" not in await said(sandbox, "ls /run/changes/workspace")


async def test_a_hostile_environment_is_given_kept_and_deleted(lab):
    ref = await prepare(lab, HOSTILE)
    for _ in range(2):
        sandbox = await lab.make(on(lab, ref))
        assert "deeeeeeeeeeeeep" in await said(sandbox, "ls -d de*")
        await sandbox.destroy()
    await lab.backend.discard(ref)
    assert kept(lab) == []
    assert list(moving(lab.backend.root).iterdir()) == []


async def test_what_forbids_all_to_its_owner_can_be_copied(lab):
    lab.backend.can_overlay = False
    ref = await prepare(lab, "mkdir -p a/b && echo x > a/b/c && mkfifo pipe && ln -s / root && chmod 000 a/b/c a/b a")
    assert await said(await lab.make(on(lab, ref)), "cat a/b/c; readlink root; touch y ~/y") == "x\n/\n"


async def test_what_cannot_be_copied_says_so_and_leaves_no_sandbox(lab):
    lab.backend.can_overlay = False
    ref = await prepare(lab, HOSTILE)  # too deep for cp
    with pytest.raises(SandboxError, match=r"could not be copied: .*File name too long"):
        await lab.make(on(lab, ref))
    assert await lab.backend.list() == []
    await lab.backend.discard(ref)
    assert kept(lab) == []


async def test_a_copy_that_was_cut_short_is_made_again(lab):
    lab.backend.can_overlay = False
    ref = await prepare(lab)
    sandbox = await lab.make(on(lab, ref))
    await said(sandbox, "rm made; mkdir -p half/done; chmod 000 half")
    await sandbox.pause()
    record = sandbox.record
    del record["prepared"]
    sandbox.folder.write_record(record)  # as a crash before the copy's end left it
    await sandbox.resume()
    assert await said(sandbox, "ls; cat made") == "made\nmade\n"


async def test_a_discarded_one_stays_for_those_that_stand_on_it_and_then_goes(lab, records):
    ref = await prepare(lab)
    first, second = await lab.make(on(lab, ref)), await lab.make(on(lab, ref))
    await lab.backend.discard(ref)
    assert kept(lab) == [ref + ".discarded"]
    with pytest.raises(PreparedGone):
        await lab.make(on(lab, ref))
    await first.pause()
    await first.resume()
    assert await said(first, "cat made; cat ~/tool") == "made\ntool\n"
    await first.destroy()
    assert kept(lab) == [ref + ".discarded"]
    assert await said(second, "cat made") == "made\n"
    await second.destroy()
    assert kept(lab) == []


async def test_a_second_create_finds_the_sandbox_although_its_environment_is_discarded(lab):
    sandbox = await lab.make(on(lab, await prepare(lab)))
    spec = on(lab, sandbox.folder.prepared)
    await lab.backend.discard(spec.prepared)
    assert await said(await lab.backend.create(lab.keys[-1], spec), "cat made") == "made\n"


async def test_sandboxes_made_while_it_is_discarded_are_whole_or_refused(lab):
    ref = await prepare(lab)
    making = [asyncio.create_task(lab.make(on(lab, ref))) for _ in range(4)]
    await asyncio.sleep(0)
    await lab.backend.discard(ref)
    for made in await asyncio.gather(*making, return_exceptions=True):
        if not isinstance(made, PreparedGone):
            assert await said(made, "cat made ~/tool") == "made\ntool\n"


async def test_what_a_crash_left_of_keeping_is_no_environment_and_no_sandbox(lab, monkeypatch):
    sandbox = await lab.make()
    await said(sandbox, "echo x > x")

    def crash(self, made):
        (self.path / "workspace").rename(made / "workspace")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("sandboxes.local.folder.Folder.take_out", crash)
        lab.backend.store.keep(sandbox.folder, "")
    assert not (lab.backend.root / ".prepared").exists() or kept(lab) == []
    assert [info.ref for info in await lab.backend.list()] == [sandbox.ref]
    await sandbox.destroy()
    later = time.time() + 7200
    monkeypatch.setattr(time, "time", lambda: later)
    sweep(lab.backend.root, lab.backend.account)
    assert list(moving(lab.backend.root).iterdir()) == []


async def test_no_environment_is_taken_for_a_sandbox(lab):
    await prepare(lab)
    assert await lab.backend.list() == []


async def test_the_host_opens_nothing_below_what_is_kept(lab):
    if lab.backend.account is None:
        pytest.skip("needs root")
    ref = await prepare(lab)
    (place,) = (lab.backend.root / ".prepared").iterdir()
    assert place.name == ref
    assert place.stat().st_uid == os.geteuid()
    assert {(place / name).stat().st_uid for name in ("workspace", "home")} == {lab.backend.account.uid}


async def test_a_repository_that_cannot_be_read_any_more_is_not_kept(lab, records):
    sandbox = await lab.make()
    await sandbox.turn(lab.turn("rm .git/HEAD"))
    await records(sandbox)
    with pytest.raises(SandboxError, match=r"cannot be kept: The repository in the workspace cannot be read any more"):
        await sandbox.keep()
    await sandbox.destroy()
    assert list(moving(lab.backend.root).iterdir()) == []


async def test_a_paused_sandbox_can_be_kept(lab):
    sandbox = await lab.make()
    await said(sandbox, "echo made > made")
    await sandbox.pause()
    ref = await sandbox.keep()
    assert not await sandbox.alive()
    await sandbox.destroy()
    assert await said(await lab.make(on(lab, ref)), "cat made") == "made\n"


def test_where_overlays_cannot_be_had_is_found_out_by_trying(lab, monkeypatch):
    assert lab.backend.store.can_overlay() in (True, False)
    monkeypatch.setattr(prepared, "_overlay", lambda lower, upper, work, where: ["--ro-bind", str(lower), where])
    assert lab.backend.store.can_overlay() is False
    assert list(moving(lab.backend.root).iterdir()) == []


def test_references_lead_nowhere_else(lab):
    outside = Path(lab.backend.root, "precious")
    outside.mkdir()
    for ref in ("../precious", "..", ".", "", "x/../../precious", "a" * 32 + ".discarded"):
        lab.backend.store.discard(ref)
        with pytest.raises(PreparedGone):
            lab.backend.store.lower(ref)
    assert outside.is_dir()
    outside.rmdir()


async def test_what_is_kept_for_long_is_listed_until_it_is_discarded(lab):
    assert await lab.backend.kept(for_s=0) == []
    ref = await prepare(lab)
    sandbox = await lab.make(on(lab, ref))  # so that it stays where it is
    assert await lab.backend.kept(for_s=0) == [ref]
    assert await lab.backend.kept(for_s=60) == []
    await lab.backend.discard(ref)
    assert await lab.backend.kept(for_s=0) == []
    await sandbox.destroy()
