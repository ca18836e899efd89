"""Sandboxes whose system is a folder: they see that and nothing of the host's, whatever links lie in it."""

from __future__ import annotations

import dataclasses
import os
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from sandboxes.errors import SandboxError, SandboxUnavailable
from sandboxes.local import selftest, system
from tests.sandboxes.conftest import account
from tests.sandboxes.local import _roots


@pytest.fixture(scope="session")
def plain(data):
    return _roots.make(data / "rootfs")


@pytest.fixture
def rootfs(plain):
    """A root file system of the test's own: the plain one's files, hard-linked."""
    mine = plain.with_name(f"rootfs-{secrets.token_hex(4)}")
    subprocess.run(["cp", "-al", str(plain), str(mine)], check=True)
    yield mine
    shutil.rmtree(mine)


@pytest.fixture
def debian(data):
    """A real distribution."""
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        pytest.skip("needs root and debootstrap")
    made = data / "debian"
    command = ["debootstrap", "--variant=minbase", "--include=python3-minimal,git,ca-certificates", "stable", str(made)]
    is_made = subprocess.run(command, capture_output=True).returncode == 0
    if is_made:
        yield made
    shutil.rmtree(made, ignore_errors=True)
    if not is_made:
        pytest.skip("no Debian can be fetched here")


def on(house, rootfs, **changes):
    return dataclasses.replace(house.spec, template=str(rootfs), **changes)


async def said(sandbox, script):
    done = await sandbox.run(["bash", "-c", script], timeout=30)
    return (done.stdout + done.stderr).decode()


def check(data, rootfs):
    return selftest.check(root=data / "sandboxes", runtime=data / "runtime", account=account(), rootfs=rootfs)


async def test_its_toolchain_is_there_and_the_hosts_is_not(house, plain):
    sandbox = await house.make(on(house, plain))
    assert await said(sandbox, "only-here; cat /opt/tool/version /etc/marker /etc/os-release") == "toolchain\n7\nof the root\nID=tiny\n"
    assert not (plain / "usr/bin/grep").exists()
    assert Path("/usr/bin/grep").exists()
    assert "No such file" in await said(sandbox, "ls /usr/bin/grep")
    assert (await said(sandbox, "echo $(ls /)")).split() == sorted(
        {entry.name for entry in os.scandir(plain)} | {"dev", "etc", "home", "opt", "proc", "run", "tmp", "usr", "var", "workspace"}
    )


async def test_a_turn_runs_on_it_with_its_patch(house, plain, records):
    sandbox = await house.make(on(house, plain))
    await sandbox.turn(house.turn("only-here > new; git status --porcelain; cat README"))
    end = (await records(sandbox))[-1]
    assert (end["code"], end["has_patch"]) == (0, True), end
    assert b"+toolchain" in (await sandbox.patch(1, "final")).content


async def test_the_sandboxs_own_places_and_names_stay_its_own(house, rootfs, data):
    (rootfs / "etc/passwd").write_text("root:x:0:0:theirs:/:/bin/sh\n")
    (rootfs / "etc/shadow").write_text("root:secret\n")
    for folder in ("opt/agents", "home/agent", "home/other", "workspace", "run", "tmp"):
        (rootfs / folder).mkdir(parents=True, exist_ok=True)
        (rootfs / folder / "theirs").write_text("theirs\n")
    agents = data / "rootfs-agents"
    agents.mkdir(exist_ok=True)
    (agents / "ours").write_text("ours\n")
    sandbox = await house.make(on(house, rootfs, agents=agents))
    assert "agent:x:1000" in await said(sandbox, "cat /etc/passwd")
    assert "theirs" not in await said(sandbox, "cat /etc/passwd; ls /opt/agents /home/agent /workspace /run /tmp /var/tmp/; ls /etc/shadow")
    assert await said(sandbox, "cat /opt/agents/ours /home/other/theirs /opt/tool/version") == "ours\ntheirs\n7\n"
    assert await said(sandbox, "echo w > /workspace/x; echo w > ~/x; echo w > /tmp/x; echo w > /var/tmp/y; cat /tmp/y") == "w\n"


@pytest.mark.parametrize("path", ["/usr/bin/x", "/etc/x", "/opt/x", "/opt/tool/x", "/var/lib/x", "/home/x", "/root/x", "/x", "/etc/marker"])
async def test_nothing_of_it_can_be_written(house, plain, path):
    sandbox = await house.make(on(house, plain))
    done = await sandbox.run(["bash", "-c", f"echo x > {path}"], timeout=10)
    assert done.code != 0
    assert (plain / "etc/marker").read_text() == "of the root\n"


async def test_links_lead_where_they_lead_in_the_sandbox(house, rootfs, data):
    """Never on the host, although its files bear the same names."""
    secret = data / f"secret-{secrets.token_hex(4)}"
    secret.mkdir()
    (secret / "file").write_text("the host's\n")
    for name, target in {
        "srv/link": secret,
        "media": secret,
        "etc/of-host": "/etc/hostname",
        "etc/folder": secret,
        "opt/of-host": secret,
        "var/lock": "/run/lock",
        "etc/up": "../../../../../../../../" + str(secret),
    }.items():
        (rootfs / name).symlink_to(target)
    sandbox = await house.make(on(house, rootfs))
    read = "for path in /srv/link /media /etc/folder /opt/of-host /etc/up; do ls $path/ && cat $path/file; done"
    assert "the host's" not in await said(sandbox, read)
    assert await said(sandbox, "cat /etc/of-host") == "sandbox\n"


@pytest.mark.parametrize("name", ["etc", "opt", "var", "home"])
def test_a_link_in_place_of_a_shared_folder_is_refused(data, rootfs, name):
    shutil.rmtree(rootfs / name, ignore_errors=True)
    (rootfs / name).symlink_to(f"/{name}")
    with pytest.raises(SandboxUnavailable, match=f"{name} is a link"):
        check(data, rootfs)


@pytest.mark.parametrize("name", ["usr", "bin"])
def test_a_link_to_the_hosts_programs_does_not_bring_them_in(data, rootfs, name):
    (rootfs / name).rename(rootfs / "elsewhere")
    (rootfs / name).symlink_to(f"/{name}")
    with pytest.raises(SandboxUnavailable, match="not a root file system that runs here"):
        check(data, rootfs)


def test_the_host_binds_no_link_and_opens_no_pipe(rootfs):
    (rootfs / "etc/ssl").symlink_to("/etc/ssl")
    (rootfs / "data").symlink_to("/var")
    os.mkfifo(rootfs / "pipe")
    os.mkfifo(rootfs / "etc/pipe")
    words = list(system.arguments(rootfs, {"passwd": 5}))
    bound = [Path(words[at + 1]) for at, word in enumerate(words) if word == "--ro-bind"]
    assert bound
    assert all(path.is_relative_to(rootfs) and not path.is_symlink() and not path.is_fifo() for path in bound)


def test_one_that_can_is_reported(data, plain):
    report = check(data, plain)
    assert report.python.startswith("/usr/bin/python3 3.")
    assert report.git.startswith("git version")


def spoil_python(rootfs):
    for program in (rootfs / "usr/bin").glob("python3*"):
        program.unlink()


SPOILED = {
    "no python3": (spoil_python, "no python3 of version 3.8 or newer"),
    "no git": (lambda rootfs: (rootfs / "usr/bin/git").unlink(), "no /usr/bin/git that works"),
    "no shell": (lambda rootfs: (rootfs / "usr/bin/sh").unlink(), "not a root file system that runs here"),
    "a file in place of etc": (lambda rootfs: (shutil.rmtree(rootfs / "etc"), (rootfs / "etc").write_text("")), "etc is a link or a file"),
}


@pytest.mark.parametrize(("spoil", "words"), SPOILED.values(), ids=SPOILED.keys())
async def test_what_is_missing_is_named_and_leaves_nothing_behind(house, data, rootfs, spoil, words):
    spoil(rootfs)
    with pytest.raises(SandboxUnavailable, match=words):
        check(data, rootfs)
    with pytest.raises(SandboxError, match=words):
        await house.make(on(house, rootfs))
    assert house.keys[-1] not in [info.key for info in await house.backend.list()]


@pytest.mark.parametrize("path", ["/nonexistent/rootfs", "relative", "/etc/hostname"])
async def test_what_is_no_folder_is_named(house, path):
    with pytest.raises(SandboxUnavailable, match="is no folder of this machine"):
        await house.make(on(house, path))


def test_an_empty_folder_is_no_root_file_system(data):
    empty = data / f"empty-{secrets.token_hex(4)}"
    empty.mkdir(mode=0o755)
    with pytest.raises(SandboxUnavailable, match="not a root file system that runs here"):
        check(data, empty)


def test_one_that_is_closed_to_the_account_is_named(data, rootfs):
    if account() is None:
        pytest.skip("needs root")
    rootfs.chmod(0o700)
    with pytest.raises(SandboxUnavailable, match=f"{rootfs.name} is closed to it"):
        check(data, rootfs)


@pytest.mark.parametrize("name", [".", "usr", "etc", "usr/bin"])
def test_one_that_the_account_could_write_is_refused(data, rootfs, name):
    if account() is None:
        pytest.skip("needs root")
    os.chown(rootfs / name, account().uid, -1)
    with pytest.raises(SandboxUnavailable, match=r"can write .*no sandbox could trust its system"):
        check(data, rootfs)


async def test_a_prepared_environment_works_on_it(house, plain, records):
    sandbox = await house.make(on(house, plain))
    await sandbox.turn(house.turn("only-here > made"))
    await records(sandbox)
    ref = await sandbox.keep()
    try:
        await sandbox.destroy()
        other = await house.make(on(house, plain, prepared=ref))
        assert await said(other, "cat made") == "toolchain\n"
    finally:
        await house.destroy_all()
        await house.backend.discard(ref)


@pytest.mark.long  # it is fetched
async def test_a_debian_works(house, debian, records):
    sandbox = await house.make(on(house, debian))
    await sandbox.turn(house.turn("cat /etc/debian_version; echo x > new"))
    assert (await records(sandbox))[-1]["code"] == 0
