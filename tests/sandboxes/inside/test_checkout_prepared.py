"""A checkout around what a setup script left: the base's files win, all else stays, and no planted link leads anywhere."""

# ruff: noqa: E501 - scripts read better in one line

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sandboxes.inside.checkout import checkout
from sandboxes.inside.strip import strip
from tests.sandboxes.inside._houses import House
from tests.sandboxes.inside._patch_lab import Bench, Lab, bash, git, make


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def bench(lab: Lab) -> Bench:
    return lab.bench()


def prepared_checkout(bench: Bench, patch: Path | None = None, **changes: Any) -> Bench:
    spec = {"base": bench.lab.base, "branch": "work", "remote": "https://example.invalid/x", "patch": patch and str(patch), **changes}
    checkout(str(bench.workspace), str(bench.lab.mirror), spec, bench.said.append, is_prepared=True)
    return bench


SETUPS = {
    "nothing": ":",
    "ignored": "mkdir -p build/deep; echo made > build/deep/x; echo x > a.log",
    "new": "mkdir -p lib/deep; echo made > lib/deep/x; echo new > new; chmod +x new; ln -s /etc/hostname to-host",
    "added but not committed": "echo new > new; git add new",
    "nested": "git init -q vendored; echo 1 > vendored/a; git -C vendored add a",
    "in the submodule": "git init -q vendor/sub; echo 1 > vendor/sub/a",
    "attributes": "mkdir -p fresh; printf '* text eol=crlf\\n' > fresh/.gitattributes; printf 'a\\r\\n' > fresh/x",
    "names": "echo 1 > $'n\\nn'; echo 2 > $'\\xe9'; echo 4 > ':x'; echo 5 > ./--all",
    "other modes": "mkdir closed; echo x > closed/x; chmod 500 closed src; chmod 000 README.md",
}


@pytest.mark.parametrize("script", SETUPS.values(), ids=SETUPS.keys())
def test_the_patch_is_that_of_a_run_whose_setup_script_ran_itself(lab: Lab, bench: Bench, script: str) -> None:
    """Kept, stripped, checked out again: workspace and patch as if the script had just run."""
    itself = lab.bench().checkout()
    maker = itself.maker()
    itself.run(script)
    if "chmod 000" in script:
        itself.run("chmod 644 README.md")
    bench.checkout().run(script)
    strip(str(bench.workspace), str(bench.home))
    assert not (bench.workspace / ".git").exists()
    assert not (bench.workspace / "README.md").exists()
    prepared_checkout(bench)
    assert git(bench.workspace, "diff", lab.base, "--", ":!new") == ""
    ours = bench.maker()
    assert make(ours.final) == make(maker.final)
    for each in (bench, itself):
        each.run("echo later >> README.md; echo z > z; rm -f new")
    told, patch = make(ours.final)
    assert (told, patch) == make(maker.final)
    assert b"+later" in patch


def test_another_base_than_the_prepared_one(lab: Lab, bench: Bench) -> None:
    bench.checkout().run("mkdir -p build; echo made > build/made; echo new > other.txt; echo mine > mine")
    strip(str(bench.workspace), str(bench.home))
    other = lab.env["OTHER"]
    prepared_checkout(bench, base=other)
    assert (bench.workspace / "other.txt").read_text() == "other\n"
    assert git(bench.workspace, "rev-parse", "HEAD") == other
    assert git(bench.workspace, "diff", "--stat", other) == ""
    assert git(bench.workspace, "ls-files", "--others").split() == ["build/made", "mine"]


IN_THE_WAY = {
    "a file": "echo x > README.md",
    "a folder for a file": "mkdir -p README.md/a/b; echo x > README.md/a/b/c; chmod 000 README.md/a",
    "a file for a folder": "echo x > src",
    "a link for a folder": "ln -s ../outside src",
    "a link above a folder": "mkdir src; ln -s ../../outside src/util",
    "a link for a file": "ln -s ../outside/precious README.md",
    "a hard link for a file": "ln ../outside/precious README.md",
    "a dangling link for a file": "ln -s ../outside/made README.md",
    "a pipe for a file": "mkfifo README.md",
    "a closed folder": "mkdir -p src/util; chmod 000 src/util src",
    "a file for a submodule": "mkdir vendor; echo x > vendor/sub",
    "a link for the repository": "ln -s ../outside .git",
    "a file for the repository": "echo 'gitdir: ../outside' > .git",
    "a repository of its own": "git init -q; git config core.hooksPath ../outside; echo rubbish > .git/index; touch .git/index.lock; chmod 555 .git/objects",
    "a link for the attributes": "ln -s ../outside/precious .gitattributes; mkdir src; ln -s ../../outside/precious src/.gitattributes",
    "attributes": "mkdir src; printf '* text eol=crlf ident working-tree-encoding=UTF-16\\n' | tee src/.gitattributes > src/.gitattributes.asynccode-aside",
    "a folder for attributes": "mkdir -p src/.gitattributes/x .gitattributes",
}


@pytest.mark.parametrize("script", IN_THE_WAY.values(), ids=IN_THE_WAY.keys())
def test_what_stands_in_the_way_gives_way_and_nothing_outside_is_touched(bench: Bench, script: str) -> None:
    outside = bench.root / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    bench.run(script)
    prepared_checkout(bench)
    assert os.listdir(outside) == ["precious"]
    assert (outside / "precious").read_text() == "precious"
    assert git(bench.workspace, "ls-files", "--modified", "--deleted") == ""
    assert (bench.workspace / "README.md").read_text().startswith("one\n")
    assert (bench.workspace / "src/app.py").read_bytes() == b"print(1)\n"
    assert os.listdir(bench.workspace / "vendor/sub") == []
    assert b"README.md" not in make(bench.maker().final)[1]


def test_attributes_that_were_hidden_come_back(bench: Bench) -> None:
    bench.run("mkdir src; printf '*.py text eol=crlf\\n' > src/.gitattributes")
    prepared_checkout(bench)
    assert (bench.workspace / "src/.gitattributes").read_text() == "*.py text eol=crlf\n"
    assert b"+*.py text eol=crlf" in make(bench.maker().final)[1]
    assert not list(bench.workspace.rglob("*aside"))


@pytest.mark.parametrize(
    "torn",
    [
        "mkdir .git; echo rubbish > .git/index.lock",
        "git init -q; echo 'ha' > README.md; mkdir -p src/util; echo half > src/util/.tmp",
        "mkdir src; echo '* text eol=crlf' > src/.gitattributes.asynccode-aside",
    ],
)
def test_a_torn_checkout_made_again_ends_right(bench: Bench, torn: str) -> None:
    bench.run("mkdir build; echo made > build/made")
    bench.run(torn)
    prepared_checkout(bench)
    prepared_checkout(bench)
    assert git(bench.workspace, "ls-files", "--modified", "--deleted") == ""
    assert (bench.workspace / "build/made").read_text() == "made\n"
    assert not list(bench.workspace.rglob("*aside"))


def test_changes_so_far_go_on_top_and_follow_no_link(lab: Lab, bench: Bench, tmp_path: Path) -> None:
    first = lab.bench().checkout()
    maker = first.maker()
    first.run("mkdir lib; echo x > lib/x; echo more >> README.md; rm run.sh; echo new > new; rm -r eol; echo f > eol")
    told, patch = make(maker.final)
    (tmp_path / "patch").write_bytes(patch)
    outside = bench.root / "outside"
    outside.mkdir()
    bench.run("ln -s ../outside lib; mkdir -p new/folder; echo made > a.log; echo x > run.sh; mkdir eol; echo extra > eol/extra")
    prepared_checkout(bench, tmp_path / "patch")
    assert os.listdir(outside) == []
    assert (bench.workspace / "a.log").exists()
    assert make(bench.maker().final) == (told, patch)


def test_missing_base_is_a_sentence(bench: Bench) -> None:
    bench.run("echo made > made")
    with pytest.raises(RuntimeError, match="is not in the repository any more"):
        prepared_checkout(bench, base="12" * 20)


class TestStrip:
    def test_tracked_files_go_and_everything_else_stays(self, bench: Bench) -> None:
        bench.checkout()
        (bench.home / ".asynccode").mkdir()
        (bench.home / ".asynccode" / "setup.sh").write_text("x")
        (bench.home / ".cache").mkdir()
        bench.run("mkdir -p build/out src/util/made; echo x > build/out/x; echo x > src/util/made/x")
        strip(str(bench.workspace), str(bench.home))
        found = sorted(str(path.relative_to(bench.workspace)) for path in bench.workspace.rglob("*") if not path.is_dir())
        assert found == ["build/out/x", "src/util/made/x"]
        assert sorted(os.listdir(bench.workspace)) == ["build", "src"]
        assert os.listdir(bench.home) == [".cache"]

    def test_it_follows_no_link(self, bench: Bench) -> None:
        bench.checkout()
        bench.run("mkdir ../outside; mv src/app.py ../outside; rm -r src; ln -s ../outside src; ln -s ../outside ~/.asynccode")
        strip(str(bench.workspace), str(bench.home))
        assert os.listdir(bench.root / "outside") == ["app.py"]
        assert os.listdir(bench.workspace) == ["src"]

    def test_what_the_owner_may_not_read_is_opened(self, bench: Bench) -> None:
        bench.run("mkdir -p a/b; echo x > a/b/c; chmod 000 a/b/c a/b a .")
        strip(str(bench.workspace), str(bench.home))
        bash("test -r a/b/c", bench.workspace, bench.home)

    def test_without_a_repository_all_stays(self, bench: Bench) -> None:
        bench.run("echo x > x")
        strip(str(bench.workspace), str(bench.home))
        assert os.listdir(bench.workspace) == ["x"]

    def test_a_broken_repository_is_a_sentence(self, bench: Bench) -> None:
        bench.checkout().run("rm .git/HEAD")
        with pytest.raises(SystemExit, match="cannot be read any more"):
            strip(str(bench.workspace), str(bench.home))

    def test_a_submodule_that_was_fetched_keeps_its_files_and_breaks_no_git(self, bench: Bench) -> None:
        bench.checkout().run("echo 'gitdir: ../../.git/modules/sub' > vendor/sub/.git; echo x > vendor/sub/x")
        strip(str(bench.workspace), str(bench.home))
        prepared_checkout(bench)
        assert git(bench.workspace, "status", "--porcelain") == ""
        assert (bench.workspace / "vendor/sub/x").exists()


class TestSupervisor:
    def test_what_was_left_is_not_taken_for_a_checkout(self, make_house: Any) -> None:
        house: House = make_house()
        (house.workspace / "made").write_text("made\n")
        (house.workspace / "README").write_text("other\n")
        house.start(prepared="yes")
        end = house.run("cat README made; echo more >> README")
        assert (end["reason"], end["has_patch"]) == ("exit", True)
        assert house.lines() == ["Hello", "made"]
        assert b"+more" in house.patch()
        assert b"+made" in house.patch()
        assert house.run("git status --porcelain", turn=2)["code"] == 0
        assert [record["turn"] for record in house.records("step", step="checkout", state="started")] == [1]

    def test_one_that_died_within_the_checkout_is_followed_by_one_that_makes_it_again(self, make_house: Any) -> None:
        house: House = make_house()
        (house.workspace / "made").write_text("made\n")
        house.start(prepared="yes")
        house.run("true")
        house.kill()
        journal = house.journal.read_bytes().split(b"\n")
        cut = next(n for n, line in enumerate(journal) if b'"checkout","state":"started"' in line)
        house.journal.write_bytes(b"\n".join(journal[: cut + 1]) + b"\n")  # as if it had died right there
        (house.workspace / "README").unlink()
        (house.state / "turn-1-1.lock").unlink()
        house.start(prepared="yes")
        assert house.run("cat README made", turn=2)["code"] == 0
        assert house.lines() == ["Hello", "made"]

    def test_disk_is_counted_where_it_is_told_to(self, make_house: Any) -> None:
        house: House = make_house()
        (house.workspace / "made").write_bytes(os.urandom(3 << 20))
        added = house.folder / "added"
        added.mkdir()
        house.start(prepared="yes", disk_roots=added, limits='{"disk_mb": 2}', disk_seconds="0.05")
        assert house.run("sleep 0.4")["reason"] == "exit"
        script = f"head -c 3000000 /dev/urandom > {added}/x; sleep 30"
        assert house.run(script, turn=2)["reason"] == "disk"
