"""A workspace as a sandbox finds it: the base's files, a branch, true remote, no credentials, nothing run."""

# ruff: noqa: E501 - scripts read better in one line

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from sandboxes.inside.checkout import checkout
from tests.sandboxes.inside._patch_lab import BRANCH, Bench, Lab, git, make


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def bench(lab: Lab) -> Bench:
    return lab.bench()


def test_files_branch_remote_and_identity(lab: Lab, bench: Bench) -> None:
    bench.checkout(base_branch="main")
    assert git(bench.workspace, "status", "--porcelain", "--ignored") == ""
    assert git(bench.workspace, "symbolic-ref", "HEAD") == f"refs/heads/{BRANCH}"
    assert git(bench.workspace, "rev-parse", "HEAD", "refs/remotes/origin/main").split() == [lab.base, lab.base]
    assert git(bench.workspace, "remote", "get-url", "origin") == "https://example.invalid/team/repo.git"
    assert git(bench.workspace, "log", "--format=%s") == "Everything\nBegin"
    assert git(bench.workspace, "diff", "--stat", lab.base) == ""
    assert os.listdir(bench.workspace / "vendor/sub") == []
    assert not (bench.workspace / ".git/hooks").exists()
    assert bench.said == [f"Checking out {lab.base[:12]} on {BRANCH}."]


def test_agent_commits_without_any_configuration(bench: Bench) -> None:
    bench.checkout()
    bench.run(
        "echo x > x; git add x; git commit -q -m mine; git fsck --connectivity-only 2>/dev/null; git reset -q --hard 'HEAD@{1}'; [ ! -e x ]; git log -1 ORIG_HEAD"
    )
    bench.run("git log -1 --format='%an %ae' ORIG_HEAD | grep -qx 'asynccode agent agent@asynccode.invalid'")


def test_mirror_is_only_read(lab: Lab, bench: Bench) -> None:
    def listing() -> list[tuple[str, int]]:
        return sorted((str(path), path.lstat().st_size) for path in lab.mirror.rglob("*"))

    before = listing()
    bench.checkout()
    bench.run("echo x > x; git add x; git commit -q -m mine; git gc -q")
    assert listing() == before


def test_lfs_pointers_stay_pointers_and_filters_are_not_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.home / ".gitconfig").write_text('[filter "lfs"]\n\tsmudge = touch ~/sprung\n\trequired = true\n')
    monkeypatch.setenv("HOME", str(bench.home))
    bench.checkout()
    assert (bench.workspace / "pointer.lfs").read_text().startswith("version https://git-lfs")
    assert not (bench.home / "sprung").exists()


@pytest.mark.parametrize(
    "leftover", ["echo x > x; ln -s / root; mkdir -p a/b", "git init -q; echo rubbish > .git/index", "mkdir .git", ": > .git"]
)
def test_leftovers_of_an_interrupted_checkout_are_removed(bench: Bench, leftover: str) -> None:
    bench.run(leftover)
    bench.checkout()
    assert git(bench.workspace, "status", "--porcelain", "--ignored") == ""


def test_deep_leftovers_are_removed(bench: Bench) -> None:
    bench.run("d=.; for i in $(seq 1900); do d=$d/d; done; mkdir -p $d")
    bench.checkout()
    assert not (bench.workspace / "d").exists()


def test_checkout_twice_gives_the_same(bench: Bench) -> None:
    bench.checkout()
    bench.run("rm -rf src; echo x >> README.md")
    bench.checkout()
    assert make(bench.maker().final)[1] == b""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base": "12" * 20}, r"^The base commit (12){20} is not in the repository any more; its branch may have been rewritten\.$"),
        ({"base": "main"}, r"^'main' is not a full commit id\.$"),
        ({"branch": "../../config"}, "is not a branch name"),
        ({"branch": "a/../b"}, "is not a branch name"),
        ({"branch": "a\nb"}, "is not a branch name"),
        ({"branch": "-b"}, "is not a branch name"),
        ({"branch": ""}, "is not a branch name"),
        ({"branch": "x.lock"}, "is not a branch name"),
        ({"base_branch": "../x"}, "is not a branch name"),
        ({"patch": "/nonexistent"}, "^The changes so far could not be read: No such file"),
    ],
)
def test_what_cannot_be_checked_out_is_a_sentence(bench: Bench, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        bench.checkout(**changes)


def test_missing_mirror_is_a_sentence(bench: Bench) -> None:
    spec = {"base": bench.lab.base, "branch": "b", "remote": "https://example.invalid/x", "patch": None}
    with pytest.raises(RuntimeError, match="is not in the repository any more"):
        checkout(str(bench.workspace), "/nonexistent", spec, bench.said.append)


def test_odd_remotes_are_kept_literally(bench: Bench) -> None:
    remote = 'https://example.invalid/a"b\\c;d#e\t f.git'
    bench.checkout(remote=remote)
    assert git(bench.workspace, "config", "remote.origin.url") == remote


def test_shallow_mirror_works_and_says_so(lab: Lab, bench: Bench, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow.git"
    git(tmp_path, "clone", "-q", "--bare", "--depth=1", f"file://{lab.source}", str(shallow))
    spec = {"base": lab.base, "branch": "b", "remote": "https://example.invalid/x", "patch": None}
    checkout(str(bench.workspace), str(shallow), spec, bench.said.append)
    assert git(bench.workspace, "log", "--format=%s") == "Everything"
    assert git(bench.workspace, "status", "--porcelain") == ""


RESTORED = {
    "ordinary": "echo x >> README.md; echo new > new; rm run.sh; mv src/long.txt moved; chmod +x crlf.txt; printf '\\0\\1' > bin/data.bin",
    "kinds": "rm README.md; mkdir README.md; echo in > README.md/in; rm link; echo f > link; rm -r src; ln -s bin src; ln -s gone more",
    "line ends": "printf 'a\\r\\nc\\r\\n' > eol/run.bat; printf 'x\\r\\n' > auto/new; printf 'q\\r\\n' > crlf.txt; printf 'w\\n' > eol/new.bat",
    "attributes": "printf '*.md text eol=crlf\\n*.u16 -text\\n' > .gitattributes; printf 'a\\r\\nb\\r\\n' > README.md; printf 'n\\r\\n' > n.md; rm a.u16",
    "attributes gone": "rm .gitattributes auto/.gitattributes; printf 'm\\r\\n' > auto/mixed; echo z > a.id",
    "encoding": "printf 'changed\\n' | iconv -t UTF-16 > a.u16; printf '$Id$ more\\n' > a.id",
    "names": "echo 1 > $'n\\nn'; echo 2 > $'\\xe9'; echo 3 > ' '; rm ./-dash; mv 'a b' $'a\\tb'; echo 4 > ':x'",
    "nested": "git init -q n; echo 1 > n/a",
    "nothing": ":",
}


@pytest.mark.parametrize("script", RESTORED.values(), ids=RESTORED.keys())
def test_changes_so_far_are_put_back_and_the_next_patch_is_the_same(lab: Lab, bench: Bench, tmp_path: Path, script: str) -> None:
    bench.checkout()
    maker = bench.maker()
    bench.run(script)
    told, patch = make(maker.final)
    (tmp_path / "patch").write_bytes(patch)
    second = lab.bench().checkout(patch=tmp_path / "patch")
    index = (second.workspace / ".git/index").read_bytes()
    for is_trusting in (True, False):
        again = second.maker(is_trusting=is_trusting)
        assert make(again.final) == (told, patch)
    assert (second.workspace / ".git/index").read_bytes() == index
    assert sorted(os.listdir(second.workspace / ".git")) == sorted(
        ["HEAD", "config", "index", "info", "objects", "refs"] + ["ORIG_HEAD"] * (second.workspace / ".git/ORIG_HEAD").exists()
    )
    assert git(second.workspace, "diff", "--cached", "--stat") == ""
    for each in (bench, second):
        each.run("echo later > later; rm empty")
    assert make(again.final) == make(maker.final)


def test_patch_that_does_not_fit_is_a_sentence(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "patch").write_text("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n")
    with pytest.raises(RuntimeError, match=r"^The changes so far could not be put back: x: does not exist in index\.$"):
        bench.checkout(patch=tmp_path / "patch")


def test_hostile_names_in_the_base_stay_inside(tmp_path: Path) -> None:
    lab = Lab(tmp_path, "ln -s /tmp out; echo x > x; git add -A; git commit -q -m b")
    bench = lab.bench().checkout()
    assert os.readlink(bench.workspace / "out") == "/tmp"
    shutil.rmtree(bench.workspace)
