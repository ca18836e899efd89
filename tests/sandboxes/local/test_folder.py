"""A sandbox's folder: whole or not there, and deleted whatever an agent put into it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time

import pytest

from sandboxes.base import SandboxSpec
from sandboxes.errors import SandboxGone
from sandboxes.local.accounts import SANDBOX_ACCOUNT, ensure, run_as
from sandboxes.local.folder import Folder, moving, ref_of, sweep


@pytest.fixture
def account():
    return ensure(SANDBOX_ACCOUNT) if os.geteuid() == 0 else None


@pytest.fixture
def folder(data, account):
    root = data / f"folders-{secrets.token_hex(4)}"
    root.mkdir()
    root.chmod(0o711)
    made = Folder(root, "a.b.1")
    made.make("a:b:1", SandboxSpec(), account)
    return made


def as_agent(folder, account, script):
    subprocess.run(["bash", "-c", script], cwd=folder.path / "workspace", check=True, **run_as(account))


def test_references_are_safe_names_and_tell_keys_apart():
    keys = ["inst:1:2", "inst.1:2", "inst/1:2", "inst_1:2", "../x:1:1", "x" * 300 + ":1:1", "ü:1:1", ":1:1", ""]
    found = {ref_of(key) for key in keys}
    assert len(found) == len(keys)
    assert all("/" not in ref and not ref.startswith(".") and len(ref) < 150 for ref in found)
    assert ref_of("inst:1:2") == "inst.1.2"


def test_making_it_twice_keeps_the_first(folder, account):
    (folder.path / "state" / "journal.jsonl").write_text("kept")
    folder.make("a:b:1", SandboxSpec(), account)
    assert folder.journal.read_text() == "kept"
    assert list(moving(folder.root).iterdir()) == []


def test_our_state_is_closed_to_the_account(folder, account):
    if account is None:
        pytest.skip("needs root")
    for path in (folder.state, folder.journal, folder.path):
        denied = subprocess.run(["ls", str(path)], capture_output=True, **run_as(account))
        assert denied.returncode != 0


def test_modes_that_forbid_everything_do_not_stop_deletion(folder, account):
    as_agent(folder, account, "mkdir -p a/b/c && touch a/b/c/d a/b/e && chmod 000 a/b/c a/b a .")
    folder.delete(account)
    assert not folder.path.exists()
    assert list(moving(folder.root).iterdir()) == []


def test_deletion_follows_no_link(folder, account, data):
    outside = data / f"outside-{secrets.token_hex(4)}"
    outside.mkdir()
    (outside / "precious").write_text("x")
    outside.chmod(0o777)
    as_agent(
        folder, account, f"ln -s {outside} link; mkdir d; ln -s {outside}/precious d/link; chmod 000 d; rmdir ../home 2>/dev/null; true"
    )
    folder.delete(account)
    assert (outside / "precious").read_text() == "x"
    assert outside.stat().st_mode & 0o777 == 0o777


def test_very_deep_folders_are_deleted(folder, account):
    program = "import os\nfor _ in range(1000): os.mkdir('deeeeeeeeeeeeep'); os.chdir('deeeeeeeeeeeeep')"
    as_agent(folder, account, f'/usr/bin/python3 -c "{program}"')
    folder.delete(account)
    assert not folder.path.exists()


def test_strange_files_are_deleted(folder, account):
    as_agent(folder, account, "mkfifo pipe; touch -- -rf '*' $'new\\nline' $'\\xff'; ln -s missing dangling")
    folder.delete(account)
    assert not folder.path.exists()


def test_a_key_that_comes_again_finds_a_fresh_folder(folder, account):
    (folder.path / "state" / "journal.jsonl").write_text("old")
    folder.delete(account)
    folder.make("a:b:1", SandboxSpec(), account)
    assert folder.journal.read_text() == ""


async def test_who_waited_for_the_lock_of_a_deleted_folder_is_told(folder, account):
    async with folder.locked():
        folder.delete(account)
    with pytest.raises(SandboxGone):
        async with folder.locked():
            pass


def test_what_a_crash_left_is_swept_once_it_is_old(folder, account, monkeypatch):
    left = moving(folder.root) / "gone-x"
    folder.path.rename(left)
    sweep(folder.root, account)
    assert left.exists()
    later = time.time() + 7200
    monkeypatch.setattr(time, "time", lambda: later)
    sweep(folder.root, account)
    assert not left.exists()


def test_a_sandbox_of_an_older_version_of_ours_can_still_be_started(folder):
    spec = json.loads((folder.state / "spec.json").read_text())
    del spec["template"], spec["prepared"]
    (folder.state / "spec.json").write_text(json.dumps(spec))
    assert (folder.rootfs, folder.prepared, folder.folders(None).workspace) == (None, "", folder.path / "workspace")
