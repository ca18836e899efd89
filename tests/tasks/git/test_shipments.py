"""`tasks.git.shipments`: a commit and its recent history, for sandboxes elsewhere."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from tasks.git import mirrors, shipments
from tests.tasks.git.conftest import Origin


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "origin")


@pytest.fixture
def mirror(tmp_path: Path, origin: Origin) -> Path:
    origin.commit("first")
    path = tmp_path / "mirrors" / "1.git"
    path.parent.mkdir()
    mirrors.ensure(path, origin.source, timeout=30)
    return path


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", "--git-dir", str(folder), *args], capture_output=True, check=True, text=True)
    return done.stdout.strip()


def test_the_commit_is_there_with_all_its_files(mirror: Path, origin: Origin) -> None:
    commit = git(mirror, "rev-parse", "main")
    folder = shipments.ship(mirror, commit)
    assert git(folder, "show", f"{commit}:file.txt") == "first"
    assert git(folder, "fsck", "--full", "--strict", "--no-dangling") == ""
    assert git(folder, "rev-parse", "base") == commit


def test_only_recent_history_comes_along_merges_included(mirror: Path, origin: Origin) -> None:
    for number in range(shipments.DEPTH):
        origin.commit(f"side {number}", name="side.txt")
        origin.git("checkout", "-q", "-b", f"b{number}")
        origin.commit(f"branch {number}", name=f"b{number}.txt")
        origin.git("checkout", "-q", "main")
        origin.git("merge", "-q", "--no-ff", "-m", "merge", f"b{number}")
    mirrors.fetch(mirror, origin.source, branch="main", timeout=30)
    folder = shipments.ship(mirror, git(mirror, "rev-parse", "main"))
    assert 1 < len(git(folder, "log", "--format=%H", "base").splitlines()) <= shipments.DEPTH
    assert git(folder, "fsck", "--full", "--strict", "--no-dangling") == ""


def test_a_source_that_is_shallow_itself_is_shipped_too(tmp_path: Path, origin: Origin) -> None:
    origin.commit("one")
    origin.commit("two")
    shallow = tmp_path / "shallow"
    subprocess.run(["git", "clone", "-q", "--bare", "--depth=1", f"file://{origin.folder}", str(shallow)], check=True)
    folder = shipments.ship(shallow, git(shallow, "rev-parse", "main"))
    assert git(folder, "log", "--format=%s", "base") == "two"
    assert git(folder, "fsck", "--full") == ""


def test_many_at_once_get_one_whole_folder(mirror: Path) -> None:
    commit, found = git(mirror, "rev-parse", "main"), []
    threads = [threading.Thread(target=lambda: found.append(shipments.ship(mirror, commit))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert {git(folder, "cat-file", "-t", commit) for folder in found} == {"commit"}
    assert [path.name for path in found[0].parent.iterdir()] == [f"{commit}.git"]


def test_what_was_not_used_for_a_day_is_deleted(mirror: Path, origin: Origin) -> None:
    old = shipments.ship(mirror, git(mirror, "rev-parse", "main"))
    os.utime(old, (1, 1))
    commit = origin.commit("second")
    mirrors.fetch(mirror, origin.source, branch="main", timeout=30)
    assert shipments.ship(mirror, commit).exists()
    assert not old.exists()


def test_it_goes_with_its_mirror(mirror: Path) -> None:
    folder = shipments.ship(mirror, git(mirror, "rev-parse", "main"))
    mirrors.remove(mirror)
    assert not folder.exists()
