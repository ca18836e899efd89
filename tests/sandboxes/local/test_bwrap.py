"""bwrap's copy and the programs a sandbox is made with can be used by an account that sees nothing else of ours."""

from __future__ import annotations

import os
import secrets
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandboxes.base import Limits
from sandboxes.local import bwrap
from sandboxes.local.accounts import SANDBOX_ACCOUNT, ensure, run_as


@pytest.fixture
def account():
    return ensure(SANDBOX_ACCOUNT) if os.geteuid() == 0 else None


def test_an_account_is_made_once_and_is_not_root(account):
    if account is None:
        pytest.skip("needs root")
    assert ensure(SANDBOX_ACCOUNT) == account
    assert account.uid != 0
    shown = subprocess.run(["id", "-u"], capture_output=True, text=True, check=True, **run_as(account))
    assert int(shown.stdout) == account.uid


def test_several_processes_may_install_at_once(data, account):
    runtime = data / f"runtime-{secrets.token_hex(4)}"
    runtime.mkdir()
    runtime.chmod(0o755)
    with ThreadPoolExecutor(8) as pool:
        programs = set(pool.map(lambda _: bwrap.install(runtime), range(8)))
    assert len(programs) == 1
    assert [path.name for path in runtime.iterdir()] == [f"bwrap-{bwrap.version()}"]
    shown = subprocess.run([programs.pop(), "--version"], capture_output=True, text=True, check=True, cwd="/", **run_as(account))
    assert bwrap.version() in shown.stdout


def test_the_python_inside_is_the_systems():
    assert bwrap.python().startswith("/usr/")


def test_of_the_hosts_etc_nothing_private_is_shown():
    folders = bwrap.Folders(*(Path("/x", name) for name in ("workspace", "home", "scratch", "gateway")))
    arguments = bwrap.arguments(folders, Limits(), etc={"passwd": 5}, seccomp=6)
    shown = {arguments[at + 1] for at, word in enumerate(arguments) if word in ("--ro-bind", "--bind")}
    assert not shown & {
        "/",
        "/etc",
        "/etc/shadow",
        "/etc/ssl",
        "/etc/ssl/private",
        "/etc/ssh",
        "/home",
        "/root",
        "/var",
        "/opt",
        "/run",
        "/sys",
        "/dev",
    }
    assert {path for path in shown if path.startswith("/proc")} == {"/proc/sys"}
