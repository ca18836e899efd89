"""A patch on a checkout: all of it, or nothing and the reason."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from asynccode.client.checkout import Checkout, Conflict
from asynccode.client.failures import Failure
from tests.spine.product import GIT

BASE = {"a.txt": "".join(f"line {n}\n" for n in range(1, 31)), "b.txt": "b\n"}


def git(folder: Path, *words: str) -> str:
    return subprocess.run([*GIT, *words], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    for name, text in BASE.items():
        (folder / name).write_text(text)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "Begin")
    (folder / "deep").mkdir()
    monkeypatch.chdir(folder / "deep")  # commands are given anywhere in a checkout
    return folder


@pytest.fixture
def patch(repo: Path) -> bytes:
    """Changes a.txt at its end, deletes b.txt, makes new.bin."""
    (repo / "a.txt").write_text(BASE["a.txt"] + "of the agent\n")
    (repo / "b.txt").unlink()
    (repo / "new.bin").write_bytes(b"\0\1\2\xff")
    git(repo, "add", ".")
    made = subprocess.run([*GIT, "diff", "--cached", "--binary", "--full-index"], cwd=repo, capture_output=True, check=True).stdout
    git(repo, "reset", "-q", "--hard")
    return made


def here() -> Checkout:
    found = Checkout.here()
    assert found is not None
    return found


def commit(repo: Path, **files: str) -> None:
    for name, text in files.items():
        (repo / name.replace("_", ".")).write_text(text)
    git(repo, "commit", "-qam", "Ours")


def test_a_patch_of_the_same_commit_is_in_files_and_index(repo: Path, patch: bytes) -> None:
    here().apply(patch)
    assert git(repo, "status", "--porcelain") == "M  a.txt\nD  b.txt\nA  new.bin\n"
    assert (repo / "new.bin").read_bytes() == b"\0\1\2\xff"


def test_where_files_have_moved_on_it_is_merged(repo: Path, patch: bytes) -> None:
    commit(repo, a_txt="ours\n" * 40 + BASE["a.txt"])
    here().apply(patch)
    assert (repo / "a.txt").read_text() == "ours\n" * 40 + BASE["a.txt"] + "of the agent\n"
    assert git(repo, "status", "--porcelain") == "M  a.txt\nD  b.txt\nA  new.bin\n"


def test_a_conflict_is_named_and_nothing_is_touched(repo: Path, patch: bytes) -> None:
    commit(repo, a_txt=BASE["a.txt"] + "of ours\n")
    with pytest.raises(Conflict, match=r"conflict with yours in a\.txt\. Nothing was changed here"):
        here().apply(patch)
    assert git(repo, "status", "--porcelain") == ""


@pytest.mark.parametrize(("name", "text"), [("new.bin", "mine"), ("a.txt", "not committed")])
def test_work_that_is_in_no_commit_is_never_overwritten(repo: Path, patch: bytes, name: str, text: str) -> None:
    (repo / name).write_text(text)
    before = git(repo, "status", "--porcelain")
    with pytest.raises(Failure, match=name):
        here().apply(patch)
    assert (repo / name).read_text() == text
    assert git(repo, "status", "--porcelain") == before


def test_what_the_patch_does_not_touch_may_have_changes(repo: Path, patch: bytes) -> None:
    (repo / "c.txt").write_text("c")
    git(repo, "add", "c.txt")
    here().apply(patch)
    assert git(repo, "status", "--porcelain") == "M  a.txt\nD  b.txt\nA  c.txt\nA  new.bin\n"


def test_on_a_branch_at_the_base_commit_it_always_fits(repo: Path, patch: bytes) -> None:
    base = git(repo, "rev-parse", "HEAD").strip()
    commit(repo, a_txt="all of it is different\n")
    here().apply_on_branch(patch, "agents/one", base)
    assert git(repo, "rev-parse", "--abbrev-ref", "HEAD").strip() == "agents/one"
    assert git(repo, "rev-parse", "HEAD").strip() == base
    assert git(repo, "status", "--porcelain") == "M  a.txt\nD  b.txt\nA  new.bin\n"


def test_a_branch_that_cannot_be_made_leaves_all_as_it_was(repo: Path, patch: bytes) -> None:
    base = git(repo, "rev-parse", "HEAD").strip()
    for name, why in (
        ("main", "There is a branch main already"),
        ("a..b", "cannot be a branch's name"),
        ("-x", "cannot be a branch's name"),
    ):
        with pytest.raises(Failure, match=why):
            here().apply_on_branch(patch, name, base)
    with pytest.raises(Failure):
        here().apply_on_branch(b"diff --git a/nothing b/nothing\n--- a/nothing\n+++ b/nothing\n@@ -1 +1 @@\n-x\n+y\n", "next", base)
    assert git(repo, "branch", "--format=%(refname:short)").split() == ["main"]


@pytest.mark.parametrize("path", ["../outside", ".git/hooks/pre-commit"])
def test_a_patch_reaches_nothing_outside(repo: Path, path: str) -> None:
    hostile = f"diff --git a/{path} b/{path}\nnew file mode 100755\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n"
    with pytest.raises(Failure):
        here().apply(hostile.encode())
    assert not (repo / path).exists()


def test_a_folder_without_git_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Checkout.here() is None
