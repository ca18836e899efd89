"""Nested repositories become plain files; submodules of the base stay as they were."""

# ruff: noqa: E501 - scripts read better in one line

from __future__ import annotations

import pytest

from tests.sandboxes.inside._patch_lab import SUBMODULE_COMMIT, Bench, Lab, git, make

COMMIT = "git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x"

# what the agent does, and what in a plain clone gives the same files without any repository in them
NESTED = {
    "empty repository": ("git init -q n", ":"),
    "without commits": ("git init -q n; echo 1 > n/a", "mkdir n; echo 1 > n/a"),
    "with a commit": (f"git init -q n; cd n; echo 1 > a; git add a; {COMMIT}; echo 2 > b", "mkdir n; echo 1 > n/a; echo 2 > n/b"),
    "without files but a commit": (f"git init -q n; cd n; {COMMIT}", ":"),
    "cloned": (
        "git clone -q . n 2>/dev/null; cd n; echo more > more; rm -rf vendor",
        "mkdir n; git archive HEAD | tar x -C n; cd n; echo more > more; rm -rf vendor",
    ),
    "nested in nested": (
        f"git init -q n; cd n; echo 1 > a; git init -q m; echo 2 > m/b; git add -A 2>/dev/null; {COMMIT}; git init -q m/o; echo 3 > m/o/c",
        "mkdir -p n/m/o; echo 1 > n/a; echo 2 > n/m/b; echo 3 > n/m/o/c",
    ),
    "deep below": (
        "mkdir -p x/y/z; git init -q x/y/z/n; echo 1 > x/y/z/n/a; echo 2 > x/b",
        "mkdir -p x/y/z/n; echo 1 > x/y/z/n/a; echo 2 > x/b",
    ),
    "in an ignored folder": ("mkdir -p build/b; git init -q build/b/n; echo 1 > build/b/n/a", ":"),
    "ignored by name": ("echo /n/ >> .gitignore; git init -q n; echo 1 > n/a", "echo /n/ >> .gitignore"),
    "inner gitignore": (
        "git init -q n; echo '*.o' > n/.gitignore; echo 1 > n/a.o; echo 2 > n/b; echo 3 > n/c.log",
        "mkdir n; echo '*.o' > n/.gitignore; echo 2 > n/b",
    ),
    "inner exclude has no say": (
        "git init -q n; mkdir -p n/.git/info; echo '*' > n/.git/info/exclude; echo 1 > n/a",
        "mkdir n; echo 1 > n/a",
    ),
    "inner attributes": (
        "git init -q n; echo '* text' > n/.gitattributes; printf 'a\\r\\n' > n/a",
        "mkdir n; echo '* text' > n/.gitattributes; printf 'a\\r\\n' > n/a",
    ),
    "in a tracked folder": (
        "git init -q src; echo 1 > src/new; echo 2 >> src/app.py; rm src/long.txt",
        "echo 1 > src/new; echo 2 >> src/app.py; rm src/long.txt",
    ),
    "in a tracked folder, committed": (
        f"cd src; git init -q; git add -A; {COMMIT}; echo 1 > new; chmod +x app.py",
        "cd src; echo 1 > new; chmod +x app.py",
    ),
    "in place of a tracked file": (
        "rm README.md; git init -q README.md; echo 1 > README.md/a",
        "rm README.md; mkdir README.md; echo 1 > README.md/a",
    ),
    "of a worktree": (
        "git worktree add -q n; cd n; echo 1 > a; rm -rf vendor",
        "mkdir n; git archive HEAD | tar x -C n; cd n; echo 1 > a; rm -rf vendor",
    ),
    "git file that points nowhere": ("mkdir n; echo 'gitdir: /nonexistent' > n/.git; echo 1 > n/a", "mkdir n; echo 1 > n/a"),
    "git file that points at ours": ('mkdir n; echo "gitdir: $PWD/.git" > n/.git; echo 1 > n/a', "mkdir n; echo 1 > n/a"),
    "git is a link": ("git init -q n; mv n/.git ~/g; ln -s ~/g n/.git; echo 1 > n/a", "mkdir n; echo 1 > n/a"),
    "git is an empty folder": ("mkdir -p n/.git; echo 1 > n/a", "mkdir n; echo 1 > n/a"),
    "bare": (
        "git init -q --bare n; echo 1 > n/description; rm -rf n/hooks",
        "git init -q --bare n; echo 1 > n/description; rm -rf n/hooks",
    ),
    "named x.git": ("git init -q --bare x.git; rm -rf x.git/hooks", "git init -q --bare x.git; rm -rf x.git/hooks"),
    "odd name": (
        "git init -q $'n\\n\\xe9 \"x'; echo 1 > $'n\\n\\xe9 \"x'/a; git init -q ./-m; echo 1 > ./-m/:a",
        "mkdir $'n\\n\\xe9 \"x' ./-m; echo 1 > $'n\\n\\xe9 \"x'/a; echo 1 > ./-m/:a",
    ),
    "added by the agent": (
        f"git init -q n; cd n; echo 1 > a; git add a; {COMMIT}; cd ..; git add n 2>/dev/null; git commit -q -m sub",
        "mkdir n; echo 1 > n/a",
    ),
    "submodule of the agent": (
        f"git init -q ~/o; cd ~/o; echo 1 > a; git add a; {COMMIT}; cd -; git -c protocol.file.allow=always submodule --quiet add ~/o n; rm -f .gitmodules; git checkout -q $BASE -- .gitmodules",
        "mkdir n; echo 1 > n/a",
    ),
    "linked from outside": ("git init -q ~/n; echo 1 > ~/n/a; ln -s ~/n n", "ln -s ~/n n"),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def bench(lab: Lab) -> Bench:
    return lab.bench().checkout()


@pytest.mark.parametrize(("script", "plain"), NESTED.values(), ids=NESTED.keys())
def test_nested_repository_becomes_plain_files(bench: Bench, script: str, plain: str) -> None:
    maker = bench.maker()
    bench.run(script)
    told, patch = make(maker.final)
    assert told["left_out"] == []
    assert bench.applied(patch) == bench.plain(plain.replace("~/n", str(bench.home / "n"))) == told["tree"]


@pytest.mark.parametrize(
    "script",
    [
        ":",
        "rm -r vendor/sub",
        "rm -r vendor",
        "git rm -q --cached vendor/sub",
        "echo in > vendor/sub/in; mkdir vendor/sub/deep; echo d > vendor/sub/deep/d",
        f"git init -q vendor/sub; cd vendor/sub; echo a > a; git add a; {COMMIT}",
        "rmdir vendor/sub; echo file > vendor/sub",
        "rmdir vendor/sub; ln -s .. vendor/sub",
        "rmdir vendor/sub; mkfifo vendor/sub",
        "git update-index --add --cacheinfo 160000,$OTHER,vendor/sub; git commit -q -m bump",
        "mkdir -p vendor/sub/.git; echo rubbish > vendor/sub/.git/HEAD",
    ],
)
def test_submodule_stays_as_it_was(lab: Lab, bench: Bench, script: str) -> None:
    for is_trusting in (True, False):
        maker = bench.maker(is_trusting=is_trusting)
        if is_trusting:
            bench.run(script)
        assert make(maker.final)[0]["tree"] == lab.base_tree


def test_files_beside_a_submodule_are_ordinary(bench: Bench) -> None:
    maker = bench.maker()
    script = "echo b > vendor/beside; echo n >> .gitmodules"
    bench.run(script)
    told, patch = make(maker.final)
    assert told["tree"] == bench.plain(script) == bench.applied(patch)


@pytest.mark.parametrize("make_it", ["echo f > vendor", "ln -s src vendor"])
def test_file_where_the_submodules_folder_was_is_named(lab: Lab, bench: Bench, make_it: str) -> None:
    maker = bench.maker()
    bench.run(f"rm -r vendor; {make_it}")
    told, _ = make(maker.final)
    assert [(entry["path"], entry["reason"]) for entry in told["left_out"]] == [("vendor", "submodule")]
    assert told["tree"] == lab.base_tree


def test_patch_never_holds_a_gitlink(bench: Bench) -> None:
    maker = bench.maker()
    bench.run(
        f"git init -q n; cd n; echo 1 > a; git add a; {COMMIT}; cd ..; git add n 2>/dev/null; git commit -q -m sub; git init -q src; echo x > x"
    )
    _, patch = make(maker.final)
    assert b"160000" not in patch
    assert b"Subproject" not in patch
    assert SUBMODULE_COMMIT in git(bench.lab.source, "ls-tree", "-r", bench.lab.base)
