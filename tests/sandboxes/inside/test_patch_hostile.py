"""What the agent does to git, to the workspace or to its home has no say in the patch, and starts nothing."""

# ruff: noqa: E501 - scripts read better in one line

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.sandboxes.inside._patch_lab import Bench, Lab, make

WORK = "echo x >> README.md; echo new > new; rm run.sh; "
TRAP = "printf '#!/bin/sh\\ntouch ~/sprung; cat\\n' > ~/trap; chmod 755 ~/trap; "

NO_SAY = {
    "index corrupt": "echo rubbish > .git/index",
    "index truncated": "truncate -s 100 .git/index",
    "index locked": "touch .git/index.lock",
    "index empty": ": > .git/index",
    "index removed": "rm .git/index",
    "index a pipe": "rm .git/index; mkfifo .git/index",
    "index older than everything": "touch -d 2001-01-01 .git/index",
    "assume unchanged": "git update-index --assume-unchanged README.md run.sh",
    "everything untracked": "git rm -rfq --cached .; git commit -q -m gone",
    "skip worktree": "git update-index --skip-worktree README.md run.sh",
    "sparse checkout": "git sparse-checkout set --no-cone src 2>/dev/null || :; git show $BASE:README.md > README.md; echo x >> README.md; "
    'git ls-tree -rz --name-only $BASE | while IFS= read -rd \'\' f; do [ "$f" = run.sh ] || [ -e "$f" ] || [ -L "$f" ] || [ "$f" = vendor/sub ] || '
    '{ mkdir -p "./$(dirname -- "$f")"; case $(git ls-tree $BASE -- ":(literal)$f") in 120000*) ln -s -- "$(git cat-file blob "$BASE:$f")" "./$f";; '
    '*) git cat-file --filters "$BASE:$f" > "./$f";; esac; }; done',
    "git removed": "rm -rf .git",
    "git a file": "rm -rf .git; echo 'gitdir: /nonexistent' > .git",
    "git a link": "mv .git ~/moved; ln -s ~/moved .git",
    "git a pipe": "rm -rf .git; mkfifo .git",
    "git of another repository": "rm -rf .git; git init -q; git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x",
    "head a pipe": "rm .git/HEAD; mkfifo .git/HEAD",
    "objects removed": "rm -rf .git/objects",
    "fsmonitor": TRAP + "git config core.fsmonitor ~/trap; git status >/dev/null 2>&1; rm -f ~/sprung",
    "hooks": TRAP
    + "git config core.hooksPath ~; cp ~/trap ~/post-index-change; mkdir -p .git/hooks; cp ~/trap .git/hooks/post-index-change",
    "work tree elsewhere": "git config core.worktree /tmp",
    "bare": "git config core.bare true",
    "filemode off": "git config core.fileMode false; git config core.symlinks false; git config core.ignoreCase true",
    "autocrlf": "git config core.autocrlf input; git config core.eol crlf",
    "excludes file": "printf 'new\\n*.md\\n' > ~/ex; git config core.excludesFile ~/ex",
    "attributes file": TRAP + "echo '* filter=trap ident' > ~/at; git config core.attributesFile ~/at; git config filter.trap.clean ~/trap",
    "config broken": "echo '[broken' > .git/config",
    "alternates broken": "echo /nonexistent > .git/objects/info/alternates",
    "info exclude": "mkdir -p .git/info; printf '*\\n' > .git/info/exclude",
    "info attributes": TRAP + "mkdir -p .git/info; echo '* filter=trap' > .git/info/attributes; git config filter.trap.clean ~/trap",
    "grafts": "mkdir -p .git/info; echo $BASE > .git/info/grafts; echo $BASE > .git/shallow",
    "home gitconfig": TRAP + "git config --global core.excludesFile ~/ex; echo '*' > ~/ex; git config --global core.fsmonitor ~/trap; "
    "git config --global diff.noprefix true; git config --global core.attributesFile ~/at; echo '* -text' > ~/at; rm -f ~/sprung",
    "home ignore": "mkdir -p ~/.config/git; echo '*' > ~/.config/git/ignore; echo '* ident' > ~/.config/git/attributes",
    "index version and split": "git update-index --index-version 4; git update-index --split-index; git update-index --untracked-cache 2>/dev/null || :",
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def bench(lab: Lab) -> Bench:
    return lab.bench().checkout()


@pytest.mark.parametrize("script", NO_SAY.values(), ids=NO_SAY.keys())
@pytest.mark.parametrize("is_trusting", [True, False], ids=["trusted", "untrusted"])
def test_git_of_the_agent_has_no_say(bench: Bench, monkeypatch: pytest.MonkeyPatch, script: str, is_trusting: bool) -> None:
    maker = bench.maker(is_trusting=is_trusting)
    bench.run(WORK + script)
    monkeypatch.setenv("HOME", str(bench.home))
    told, patch = make(maker.final)
    assert told["left_out"] == []
    assert bench.applied(patch) == bench.plain(WORK) == told["tree"]
    assert not (bench.home / "sprung").exists()


def test_variables_of_the_supervisor_have_no_say(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = bench.maker()
    bench.run(WORK)
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY", "GIT_CONFIG_GLOBAL", "GIT_EXTERNAL_DIFF"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.excludesFile")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(bench.workspace / "README.md"))
    told, _ = make(maker.final)
    monkeypatch.undo()
    assert told["tree"] == bench.plain(WORK)


def test_forced_ignored_files_stay_out(bench: Bench) -> None:
    maker = bench.maker()
    bench.run("echo x > x.log; echo y > build/y; git add -f x.log build/y; git commit -q -m forced; echo z > z")
    assert make(maker.final)[0]["tree"] == bench.plain("echo x > x.log; echo z > z")


def test_filter_driver_of_the_agent_is_not_run_and_bytes_stay_raw(bench: Bench) -> None:
    maker = bench.maker()
    bench.run(
        TRAP
        + "git config filter.lfs.clean ~/trap; git config filter.lfs.required true; git config filter.lfs.process ~/trap; echo raw > n.lfs"
    )
    assert make(maker.final)[0]["tree"] == bench.plain("echo raw > n.lfs")
    assert not (bench.home / "sprung").exists()


def test_pipe_in_place_of_a_tracked_file_is_a_deletion(bench: Bench) -> None:
    maker = bench.maker()
    bench.run(
        "rm README.md; mkfifo README.md; rm run.sh; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"run.sh\")'; echo x > x"
    )
    told, patch = make(maker.final)
    assert told["tree"] == bench.plain("rm README.md run.sh; echo x > x") == bench.applied(patch)


@pytest.mark.parametrize("name", [".gitignore", "src/.gitattributes", "new/.gitignore"])
def test_pipe_where_git_reads_rules_is_refused_instead_of_waited_for(bench: Bench, name: str) -> None:
    maker = bench.maker()
    bench.run(f"rm -f {name}; mkdir -p new; echo x > new/x; mkfifo {name}")
    with pytest.raises(RuntimeError, match=f"^'{name}' is a pipe, socket or device"):
        make(maker.final)


def test_pipe_in_an_ignored_folder_is_nobodys_business(bench: Bench) -> None:
    maker = bench.maker()
    bench.run("mkdir -p build/deep; mkfifo build/deep/.gitignore; echo x > x")
    assert make(maker.final)[0]["tree"] == bench.plain("echo x > x")


def test_pipe_as_head_of_a_nested_repository_is_not_opened(bench: Bench) -> None:
    maker = bench.maker()
    bench.run(
        "mkdir n; git init -q n; rm n/.git/HEAD; mkfifo n/.git/HEAD; echo x > n/x; rm README.md; cp -r n README.md; rm -r vendor/sub; cp -r n vendor/sub"
    )
    assert make(maker.final)[0]["tree"] == bench.plain("mkdir n; echo x > n/x; rm README.md; cp -r n README.md")


@pytest.mark.parametrize(
    ("script", "path"),
    [
        ("mkdir .GIT; echo x > .GIT/x", ".GIT"),
        ("mkdir -p a/.Git/b; echo x > a/.Git/b/x", "a/.Git"),
        ("echo x > .gIT", ".gIT"),
        ("mkdir git~1; echo x > git~1/x", "git~1/x"),
        ("rm .gitmodules; ln -s README.md .gitmodules", ".gitmodules"),
    ],
)
def test_names_git_refuses_are_named_and_the_rest_is_stored(bench: Bench, script: str, path: str) -> None:
    maker = bench.maker()
    bench.run(f"echo a > a.txt; {script}; echo z > z.txt; echo more >> README.md")
    told, patch = make(maker.final)
    assert [(entry["path"], entry["reason"]) for entry in told["left_out"]] == [(path, "git: invalid path")]
    assert bench.applied(patch) == told["tree"] == bench.plain("echo a > a.txt; echo z > z.txt; echo more >> README.md")


def test_encodings_that_do_not_fit_are_named_and_the_rest_is_stored(bench: Bench) -> None:
    maker = bench.maker()
    names = [f"n{number}.u16" for number in range(130)]
    bench.run(
        "for i in $(seq 0 129); do printf 'plain!' > n$i.u16; done; printf 'bad!' > a.u16; echo x > aa; echo z > z; iconv -t UTF-16 README.md > good.u16"
    )
    told, patch = make(maker.final)
    named = {entry["path"]: entry["reason"] for entry in told["left_out"]}
    assert sorted(named) == sorted([*names, "a.u16", *({"good.u16"} & named.keys())])
    assert "UTF-16" in named["a.u16"]
    assert named["a.u16"].startswith("git: ")
    assert set(named.values()) > {"git: not tried, as 100 others could not be stored"}
    good = "" if "good.u16" in named else "iconv -t UTF-16 README.md > good.u16"
    assert bench.applied(patch) == told["tree"] == bench.plain(f"echo x > aa; echo z > z; {good}")


def test_attributes_cannot_hide_text_from_the_reviewer(bench: Bench) -> None:
    maker = bench.maker()
    bench.run("echo '* -diff binary' > .gitattributes; echo 'password = 1' >> src/app.py")
    _, patch = make(maker.final)
    assert b"+password = 1" in patch


def test_bytes_of_the_base_are_unchanged_whatever_the_attributes_say_of_them(tmp_path) -> None:
    lab = Lab(
        tmp_path, "printf 'a\\r\\n' > a.bat; echo x > x; git add -A; echo '*.bat text' > .gitattributes; git add -A; git commit -q -m b"
    )
    bench = lab.bench().checkout()
    for is_trusting in (True, False):
        assert make(bench.maker(is_trusting=is_trusting).final)[1] == b""
    maker = bench.maker()
    bench.run("touch a.bat; echo y > y")
    told, patch = make(maker.final)
    assert b"diff --git a/y b/y" in patch
    assert b"a.bat" not in patch
    assert bench.applied(patch) == told["tree"]


def test_changed_attributes_are_honoured_for_every_file(bench: Bench) -> None:
    for is_trusting in (True, False):
        maker = bench.maker(is_trusting=is_trusting)
        bench.run("echo 'crlf.txt text' > .gitattributes")
        told, patch = make(maker.final)
        assert bench.applied(patch) == told["tree"]
        assert b"diff --git a/crlf.txt b/crlf.txt" in patch


def test_scratch_spoiled_by_the_agent_does_no_harm(bench: Bench) -> None:
    maker = bench.maker()
    bench.run(WORK)
    spoiled: dict[str, Any] = {
        "folder": bench.scratch / "patch-left",
        "file": bench.scratch / "patch-file",
        "link": bench.scratch / "patch-link",
    }
    deep = spoiled["folder"]
    deep.mkdir()
    bench.run("d=.; for i in $(seq 1500); do d=$d/d; done; mkdir -p $d", cwd=deep)
    spoiled["file"].write_text("x")
    spoiled["link"].symlink_to(bench.workspace)
    (bench.scratch / f"hint-{bench.lab.base}").symlink_to(bench.workspace / "README.md")
    told, _ = make(maker.final)
    assert told["tree"] == bench.plain(WORK)
    make(bench.maker(is_trusting=False).checkpoint)
    assert make(maker.final)[0]["tree"] == told["tree"]
    assert not spoiled["folder"].exists()


def test_hint_of_a_checkpoint_is_not_believed_by_a_final_patch(bench: Bench) -> None:
    maker = bench.maker(is_trusting=False)
    bench.run(WORK)
    assert make(maker.checkpoint)[0]["tree"] == make(maker.checkpoint)[0]["tree"] == bench.plain(WORK)
    hint = bench.scratch / f"hint-{bench.lab.base}"
    assert hint.exists()
    hint.write_bytes(b"forged")
    assert make(maker.final)[0]["left_out"] == []
    os.unlink(hint)
