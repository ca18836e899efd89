import fcntl
import multiprocessing
import os
import signal
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tasks.errors import BranchMissing, EmptyRepository, InvalidInput, RepoUnavailable
from tasks.git import mirrors
from tasks.git.commands import GitTimedOut, git
from tasks.git.remotes import default_branch
from tasks.git.sources import parse_source
from tasks.git.workspaces import borrow

TIMEOUT = 20


def has(mirror: Path, commit: str) -> bool:
    return subprocess.run(["git", "--git-dir", mirror, "cat-file", "-e", f"{commit}^{{tree}}"], capture_output=True).returncode == 0


def is_sound(mirror: Path) -> bool:
    return subprocess.run(["git", "--git-dir", mirror, "fsck", "--full", "--strict"], capture_output=True).returncode == 0


def test_a_mirror_has_all_branches_and_tags_and_the_remotes_default_branch(origin, mirror):
    origin.git("branch", "feature/größe/日本")
    origin.git("tag", "v1")
    origin.git("tag", "-a", "-m", "annotated", "v2")
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    assert mirrors.branches(mirror) == ["feature/größe/日本", "main"]
    assert mirrors.resolve(mirror, "feature/größe/日本") == origin.git("rev-parse", "HEAD")
    assert git(["tag", "--list"], git_dir=mirror, timeout=5).split() == [b"v1", b"v2"]
    assert git(["symbolic-ref", "HEAD"], git_dir=mirror, timeout=5).strip() == b"refs/heads/main"
    assert is_sound(mirror)


def test_one_branch_is_fetched_alone(origin, mirror):
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    first = origin.git("rev-parse", "HEAD")
    origin.git("branch", "other")
    second = origin.commit("second")
    mirrors.fetch(mirror, origin.source, branch="main", timeout=TIMEOUT)
    assert mirrors.resolve(mirror, "main") == second
    assert mirrors.branches(mirror) == ["main"]
    mirrors.fetch(mirror, origin.source, timeout=TIMEOUT)
    assert mirrors.resolve(mirror, "other") == first


def test_a_fetch_makes_a_missing_mirror(origin, mirror):
    mirrors.fetch(mirror, origin.source, branch="main", timeout=TIMEOUT)
    assert mirrors.resolve(mirror, "main") == origin.git("rev-parse", "HEAD")


def test_a_branch_gone_from_the_remote_goes_from_the_mirror(origin, mirror):
    origin.git("branch", "gone")
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    origin.git("branch", "-D", "gone")
    with pytest.raises(BranchMissing, match="no branch named gone"):
        mirrors.fetch(mirror, origin.source, branch="gone", timeout=TIMEOUT)
    assert mirrors.branches(mirror) == ["main"]


def test_a_missing_branch_names_those_spelled_alike(origin, mirror):
    origin.git("branch", "release-2.0")
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    for name, hint in (("mian", "main"), ("release-2", r"release-2\.0"), ("MAIN", "main")):
        with pytest.raises(BranchMissing, match=f"no branch named {name}. Did you mean {hint}") as missing:
            mirrors.resolve(mirror, name)
        assert missing.value.field == "base_branch"
    with pytest.raises(BranchMissing, match=r"no branch named zzz\.$"):
        mirrors.fetch(mirror, origin.source, branch="zzz", timeout=TIMEOUT)


def test_a_branch_that_becomes_a_folder_of_branches_is_followed(origin, mirror):
    origin.git("branch", "topic")
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    origin.git("branch", "-D", "topic")
    origin.git("branch", "topic/one")
    mirrors.fetch(mirror, origin.source, branch="topic/one", timeout=TIMEOUT)
    assert mirrors.branches(mirror) == ["main", "topic/one"]


def test_odd_branch_names_never_act_as_options(origin, mirror):
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    for name in ("--upload-pack=touch /tmp/x", "-u", "main:refs/heads/x", "refs/*", "+main", "^main"):
        with pytest.raises(InvalidInput):
            mirrors.fetch(mirror, origin.source, branch=name, timeout=TIMEOUT)


def test_the_default_branch_is_what_head_names_or_the_likeliest(origin):
    assert default_branch(origin.source, timeout=TIMEOUT) == "main"
    origin.git("checkout", "-q", "-b", "trunk")
    assert default_branch(origin.source, timeout=TIMEOUT) == "trunk"
    origin.commit("ahead")
    origin.git("checkout", "-q", "--detach")
    assert default_branch(origin.source, timeout=TIMEOUT) == "trunk"
    origin.git("symbolic-ref", "HEAD", "refs/heads/none")
    assert default_branch(origin.source, timeout=TIMEOUT) == "main"


def test_an_empty_repository_is_said(make_origin, mirror):
    empty = make_origin("empty")
    for action in (default_branch, lambda source, timeout: mirrors.ensure(mirror, source, timeout=timeout)):
        with pytest.raises(EmptyRepository, match="empty is empty"):
            action(empty.source, timeout=TIMEOUT)
    assert not mirror.exists()


def test_a_sha256_repository_is_mirrored(make_origin, mirror):
    origin = make_origin("sha256", "--object-format=sha256")
    commit = origin.commit()
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    mirrors.fetch(mirror, origin.source, branch="main", timeout=TIMEOUT)
    assert mirrors.resolve(mirror, "main") == commit
    assert len(commit) == 64


def test_a_kept_commit_outlives_a_force_push(origin, mirror):
    old = origin.commit("about to be rewritten")
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    mirrors.keep(mirror, old, "task-1")
    mirrors.keep(mirror, old, "task-1")
    new = origin.commit("rewritten", amend=True)
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    assert mirrors.resolve(mirror, "main") == new
    assert git(["rev-parse", "refs/asynccode/task-1"], git_dir=mirror, timeout=5).decode().strip() == old
    subprocess.run(["git", "--git-dir", mirror, "gc", "-q", "--prune=now"], check=True)
    assert has(mirror, old)
    assert b"asynccode" not in git(["ls-remote", str(mirror)], env={"GIT_ALLOW_PROTOCOL": "file"}, timeout=5)
    mirrors.release(mirror, "task-1")
    mirrors.release(mirror, "task-1")
    assert not (mirror / "refs/asynccode/task-1").exists()


def test_many_kept_commits_are_packed_and_move_to_a_new_mirror(origin, mirror):
    commit = origin.git("rev-parse", "HEAD")
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    for n in range(205):
        mirrors.keep(mirror, commit, f"task-{n}")
    assert len(list((mirror / "refs/asynccode").iterdir())) < 10
    mirrors.release(mirror, "task-7")
    _truncate_pack(mirror)
    mirrors.fetch(mirror, origin.source, branch="main", timeout=TIMEOUT)
    kept = git(["for-each-ref", "--format=%(refname:lstrip=2)", "refs/asynccode"], git_dir=mirror, timeout=5).decode().split()
    assert sorted(kept) == sorted(f"task-{n}" for n in range(205) if n != 7)


def test_only_commits_that_are_there_can_be_kept(origin, mirror):
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    with pytest.raises(RepoUnavailable):
        mirrors.keep(mirror, "1" * 40, "task-1")
    with pytest.raises(InvalidInput):
        mirrors.keep(mirror, "main", "task-1")


def test_thousands_of_refs_are_fine(origin, mirror):
    commit = origin.git("rev-parse", "HEAD")
    (origin.folder / ".git/packed-refs").write_text("".join(f"{commit} refs/heads/many/b{n:04}\n" for n in range(2000)))
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    assert len(mirrors.branches(mirror)) == 2001
    assert not list((mirror / "refs/heads").rglob("b*"))
    with pytest.raises(BranchMissing, match="many/b0077"):
        mirrors.resolve(mirror, "many/b0077x")
    second = origin.commit("second")
    mirrors.fetch(mirror, origin.source, branch="main", timeout=TIMEOUT)
    assert mirrors.resolve(mirror, "main") == second


def test_progress_is_told_in_rising_percents(origin, mirror, server):
    for n in range(20):
        (origin.folder / f"{n}.bin").write_bytes(os.urandom(200_000))
    origin.commit("some megabytes")
    told: list[tuple[int, str]] = []
    mirrors.ensure(mirror, server.source("shop/.git"), timeout=TIMEOUT, progress=lambda percent, text: told.append((percent, text)))
    percents = [percent for percent, _ in told]
    assert percents == sorted(percents)
    assert told[-1] == (100, "Done")
    assert "Receiving objects" in {text for _, text in told}


def test_an_exception_in_the_progress_callback_ends_the_fetch(origin, mirror):
    def cancel(percent: int, text: str) -> None:
        raise KeyError("canceled")

    with pytest.raises(KeyError):
        mirrors.ensure(mirror, origin.source, timeout=TIMEOUT, progress=cancel)
    assert not mirror.exists()
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)


def test_size_and_remove(origin, mirror):
    assert mirrors.size(mirror) == 0
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    assert mirrors.size(mirror) > 300
    mirrors.remove(mirror)
    mirrors.remove(mirror)
    assert not mirror.exists()


# --- who may read it


@pytest.mark.parametrize("gid", [None, 54321])
def test_only_the_sandboxes_group_may_read_a_mirror(origin, mirror, gid):
    if gid is not None and os.geteuid() != 0:
        pytest.skip("only root can give files to another group")
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT, gid=gid)
    for n in range(150):
        origin.commit(f"pack {n}") if n % 30 == 0 else (origin.folder / f"{n}").write_text(str(n))
    mirrors.fetch(mirror, origin.source, branch="main", timeout=TIMEOUT, gid=gid)  # enough for a pack
    origin.commit("loose objects")
    mirrors.fetch(mirror, origin.source, branch="main", timeout=TIMEOUT, gid=gid)
    mirrors.keep(mirror, mirrors.resolve(mirror, "main"), "task/1")
    assert len(list(mirror.glob("objects/pack/*.pack"))) >= 1
    assert list(mirror.glob("objects/??/*"))
    for path in [mirror, *mirror.rglob("*")]:
        found = path.stat()
        assert not found.st_mode & stat.S_IRWXO, path
        assert not found.st_mode & stat.S_IWGRP, path
        if gid is None:
            assert not found.st_mode & stat.S_IRWXG, path
        else:
            assert found.st_gid == gid, path
            assert found.st_mode & stat.S_IRGRP, path
            if path.is_dir():
                assert found.st_mode & stat.S_IXGRP, path


# --- crashes and damage


def test_four_processes_fetch_one_mirror_at_once(origin, mirror):
    expected = {}
    for n in range(4):
        origin.git("checkout", "-q", "-B", f"b{n}", "main")
        expected[f"b{n}"] = origin.commit(f"work {n}")
    source = origin.source
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_fetch_and_resolve, args=(mirror, source, f"b{n}", expected[f"b{n}"])) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT)
    assert [process.exitcode for process in processes] == [0] * 4
    assert is_sound(mirror)


def _fetch_and_resolve(mirror, source, branch, commit):
    for _ in range(3):
        mirrors.fetch(mirror, source, branch=branch, timeout=TIMEOUT)
        assert mirrors.resolve(mirror, branch) == commit


def test_a_taken_lock_is_waited_for_only_so_long(origin, mirror):
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    with open(f"{mirror}.lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RepoUnavailable, match="fetched by others"):
            mirrors.fetch(mirror, origin.source, branch="main", timeout=0.1)
    mirrors.fetch(mirror, origin.source, branch="main", timeout=TIMEOUT)


@pytest.mark.parametrize("is_first", [True, False])
def test_kill_9_in_the_middle_of_a_fetch_then_fetch_again(origin, mirror, server, is_first):
    source = server.source("shop/.git")
    if not is_first:
        mirrors.ensure(mirror, source, timeout=TIMEOUT)
    commit = origin.commit("more")
    context = multiprocessing.get_context("fork")
    hanging, released = threading.Event(), threading.Event()

    def hang(_, body):
        if b"command=fetch" in body:
            hanging.set()
            released.wait(60)
        return False

    server.rules["/shop/.git/git-upload-pack"] = hang
    process = context.Process(target=mirrors.ensure, args=(mirror, source), kwargs={"timeout": 60})
    process.start()
    assert hanging.wait(10)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with pytest.raises(RepoUnavailable, match="fetched by others"):  # git itself lives on, and holds the lock
        mirrors.ensure(mirror, source, timeout=0.1)
    server.rules.clear()
    released.set()
    mirrors.ensure(mirror, source, timeout=TIMEOUT)
    assert mirrors.resolve(mirror, "main") == commit
    assert is_sound(mirror)


def test_what_a_killed_git_leaves_behind_is_cleared(origin, mirror):
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    (mirror / "objects/pack/tmp_pack_abc").write_bytes(b"half")
    for name in ("refs/heads/main.lock", "packed-refs.lock", "HEAD.lock", "config.lock"):
        (mirror / name).touch()
    origin.git("branch", "gone-soon")
    commit = origin.commit("second")
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    assert mirrors.resolve(mirror, "main") == commit
    assert not list(mirror.rglob("*.lock"))
    assert not list(mirror.rglob("tmp_pack*"))


def _truncate_pack(mirror: Path) -> None:
    for pack in mirror.glob("objects/pack/*.pack"):
        pack.chmod(0o600)
        os.truncate(pack, pack.stat().st_size - 30)


def _lose_pack(mirror: Path) -> None:
    for pack in mirror.glob("objects/pack/*.pack"):
        pack.unlink()


def _lose_objects(mirror: Path) -> None:
    for file in (p for p in mirror.glob("objects/*/*") if p.is_file()):
        file.unlink()


def _empty_loose_objects(mirror: Path) -> None:
    for file in mirror.glob("objects/??/*"):
        file.chmod(0o600)
        os.truncate(file, 0)


def _lose_head(mirror: Path) -> None:
    (mirror / "HEAD").unlink()


def _spoil_config(mirror: Path) -> None:
    (mirror / "config").write_text("[core\n")


def _spoil_packed_refs(mirror: Path) -> None:
    (mirror / "packed-refs").write_text("nonsense\n")


@pytest.mark.parametrize(
    "damage", [_truncate_pack, _lose_pack, _lose_objects, _empty_loose_objects, _lose_head, _spoil_config, _spoil_packed_refs]
)
def test_a_damaged_mirror_is_made_anew(origin, mirror, damage):
    for n in range(120):
        (origin.folder / f"{n}").write_text(str(n))
    origin.commit("a pack's worth")
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    origin.commit("second")
    mirrors.fetch(mirror, origin.source, branch="main", timeout=TIMEOUT)
    damage(mirror)
    commit = origin.commit("third")
    mirrors.fetch(mirror, origin.source, branch="main", timeout=TIMEOUT)
    assert mirrors.resolve(mirror, "main") == commit
    assert is_sound(mirror)


def test_kept_commits_move_to_the_new_mirror_as_far_as_they_are_whole(origin, mirror):
    still_there = origin.git("rev-parse", "HEAD")
    forced_away = origin.commit("to be rewritten")
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    origin.commit("rewritten", amend=True)
    mirrors.keep(mirror, still_there, "task-1")
    mirrors.keep(mirror, forced_away, "task-2")
    mirrors.keep(mirror, forced_away, "task-3")
    (mirror / "refs/asynccode/task-3").write_text("nonsense\n")
    folder = os.open(mirror, os.O_PATH)  # as a sandbox's mount would
    _spoil_packed_refs(mirror)
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    assert has(mirror, still_there)
    assert has(mirror, forced_away)
    assert is_sound(mirror)
    assert sorted(p.name for p in (mirror / "refs/asynccode").iterdir()) == ["task-1", "task-2"]
    assert os.path.samefile(f"/proc/self/fd/{folder}", f"{mirror}.old")
    os.close(folder)


def test_a_damaged_source_is_said_and_leaves_the_mirror_alone(origin, mirror):
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    first = mirrors.resolve(mirror, "main")
    origin.commit("second")
    for file in origin.folder.glob(".git/objects/??/*"):
        file.chmod(0o600)
        os.truncate(file, 0)
    with pytest.raises(RepoUnavailable):
        mirrors.fetch(mirror, origin.source, branch="main", timeout=TIMEOUT)
    assert mirrors.resolve(mirror, "main") == first
    assert not Path(f"{mirror}.new").exists()


# --- hostile local repositories


def test_a_hostile_local_repository_runs_nothing(origin, mirror, tmp_path):
    witness = tmp_path / "witness"
    command = f"touch {witness}"
    for hook in ("post-checkout", "reference-transaction", "pre-receive", "post-update", "pre-auto-gc"):
        path = origin.folder / ".git/hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{command}\n")
        path.chmod(0o755)
    settings = ("core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "uploadpack.packObjectsHook", "core.alternateRefsCommand",
                "credential.helper", "core.gitProxy", "filter.evil.smudge", "remote.origin.uploadpack", "core.askPass")  # fmt: skip
    for name in settings:
        origin.git("config", name, f"!{command}" if name == "credential.helper" else command)
    origin.git("config", "alias.upload-pack", f"!{command}")
    (origin.folder / ".gitattributes").write_text("* filter=evil\n")
    commit = origin.commit("hostile")
    witness.unlink(missing_ok=True)  # alice's own git ran them
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    borrow(mirror, commit, tmp_path / "clone")
    assert not witness.exists()
    assert git(["show", ":file.txt"], git_dir=tmp_path / "clone", timeout=5) == b"hostile"


@pytest.mark.parametrize("way", ["remote.origin.url", "remote.origin.uploadpack"])
def test_a_partial_clone_does_not_fetch_what_it_lacks(origin, mirror, tmp_path, way):
    witness = tmp_path / "witness"
    settings = {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "protocol.ext.allow": "always",
        "remote.origin.promisor": "true",
        "remote.origin.url": str(origin.folder),
        way: f"ext::sh -c touch% {witness}" if way.endswith("url") else f"touch {witness};",
    }
    for name, value in settings.items():
        origin.git("config", name, value)
    blob = origin.git("rev-parse", "HEAD:file.txt")
    (origin.folder / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(RepoUnavailable):
        mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    assert not witness.exists()
    with pytest.raises(subprocess.CalledProcessError):
        origin.git("cat-file", "-p", blob)
    assert witness.exists()  # alice's own git is caught


def test_a_local_repository_of_another_user_can_be_read(origin, mirror):
    if os.geteuid() != 0:
        pytest.skip("only root can give files to another user")
    odd = origin.folder.parent / 'odd "name" \\ here'
    origin.folder.rename(odd)
    for path in [odd, *odd.rglob("*")]:
        os.chown(path, 54321, 54321)
    mirrors.ensure(mirror, parse_source(str(odd), allow_local=True, roots=[odd.parent]), timeout=TIMEOUT)
    assert mirrors.branches(mirror) == ["main"]


def test_the_servers_own_git_configuration_takes_no_part(origin, mirror, server, monkeypatch, tmp_path):
    source = server.source("shop/.git")
    witness = tmp_path / "witness"
    settings = f'[url "ext::touch {witness} "]\n\tinsteadOf = {source.url}\n[core]\n\thooksPath = {tmp_path}\n'
    (tmp_path / ".gitconfig").write_text(settings + "[protocol]\n\tallow = always\n")
    (tmp_path / "reference-transaction").write_text(f"#!/bin/sh\ntouch {witness}\n")
    (tmp_path / "reference-transaction").chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / ".gitconfig"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    mirrors.ensure(mirror, source, timeout=TIMEOUT)
    assert mirrors.branches(mirror) == ["main"]
    assert not witness.exists()


# --- clean clones


def test_a_clean_clone_stands_at_the_commit_and_borrows_objects(origin, mirror, tmp_path):
    commit = origin.git("rev-parse", "HEAD")
    origin.commit("second")
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    borrow(mirror, commit, tmp_path / "clone")
    assert git(["show", ":file.txt"], git_dir=tmp_path / "clone", timeout=5) == b"first"
    assert git(["write-tree"], git_dir=tmp_path / "clone", timeout=5).decode().strip() == origin.git("rev-parse", f"{commit}^{{tree}}")
    assert not list((tmp_path / "clone").glob("hooks/*"))


def test_a_slow_git_is_killed_with_all_it_started(tmp_path, wait_for):
    pid_file = tmp_path / "pid"
    started = time.monotonic()
    with pytest.raises(GitTimedOut, match="took too long"):
        git(["-c", f"alias.x=!sleep 60 & echo $! > {pid_file}; wait", "x"], timeout=0.5, where="example.org")
    assert time.monotonic() - started < 5
    pid = int(pid_file.read_text())
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or "State:\tZ" in Path(f"/proc/{pid}/status").read_text())
