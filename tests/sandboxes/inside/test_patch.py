"""The patch's tree is what `git add -A` gives in a plain clone after the same script."""

# ruff: noqa: E501 - scripts read better in one line

from __future__ import annotations

import hashlib

import pytest

from tests.sandboxes.inside._patch_lab import Bench, Lab, git, make

SAME_AS_GIT_ADD = {
    "nothing": ":",
    "edit": "printf 'one\\ntwo\\nthree!\\n' > README.md",
    "edit and undo": "cp README.md keep; echo more >> README.md; mv keep README.md",
    "touch everything": "git ls-files -z | xargs -0 touch -h 2>/dev/null || :",
    "same size in the same second, times restored": "touch -r README.md t; printf 'ONE' | dd of=README.md conv=notrunc 2>/dev/null; "
    "touch -r t README.md; rm t",
    "new file": "echo new > new.txt; mkdir -p a/b/c; echo deep > a/b/c/d.txt",
    "deleted file": "rm README.md src/app.py",
    "deleted folder": "rm -r src",
    "everything deleted": "git ls-files -z | xargs -0 rm -rf -- 2>/dev/null; rm -rf vendor; echo left > left",
    "renamed": "mv src/long.txt src/longer.txt; mv bin data; git mv run.sh start.sh",
    "renamed and edited": "mv src/long.txt l.txt; sed -i 5d l.txt",
    "renamed both ways": "mv src/long.txt t; mv README.md src/long.txt; mv t README.md",
    "copied": "cp src/long.txt src/copy.txt",
    "mode on": "chmod +x README.md src/app.py",
    "mode off": "chmod -x run.sh",
    "odd modes": "chmod 604 README.md; chmod 711 src/app.py; echo s > s; chmod 4755 s; echo g > g; chmod 2640 g; chmod o+x crlf.txt",
    "mode and content": "chmod +x README.md; echo more >> README.md",
    "new executable": "printf '#!/bin/sh\\n' > tool; chmod 755 tool",
    "binary": "head -c 5000 /dev/urandom > /dev/null; printf '\\0\\1\\2\\377' > new.bin; printf 'c' >> bin/data.bin",
    "binary to text": "printf 'text\\n' > bin/data.bin",
    "text to binary": "printf '\\0\\0' > README.md",
    "binary deleted": "rm bin/data.bin",
    "symlink": "ln -s README.md new-link; ln -s missing new-dangling; ln -s /etc/passwd new-outside; ln -s src new-dir; ln -s .. src/up",
    "symlink retargeted": "ln -sfn run.sh link; ln -sfn elsewhere dangling; ln -sfn /etc/shadow outside; ln -sfn bin dirlink",
    "symlink with odd target": "ln -s $'a\\nb' one; ln -s $'caf\\xe9' two; ln -s ' ' three",
    "file to symlink": "rm README.md; ln -s run.sh README.md",
    "symlink to file": "rm link; echo file > link; rm dangling; printf nowhere > dangling",
    "symlink loop": "ln -s loop loop; ln -s two one; ln -s one two",
    "file to folder": "rm README.md; mkdir README.md; echo in > README.md/inside; echo two > README.md/two",
    "folder to file": "rm -r src; echo flat > src",
    "folder to symlink": "mv src elsewhere; ln -s elsewhere src",
    "symlink to folder": "rm dirlink; mkdir dirlink; echo in > dirlink/app.py",
    "file into a folder of its name": "mv README.md t; mkdir README.md; mv t README.md/README.md",
    "folder swapped with its file": "mv src/long.txt t; rm -r src; mv t src",
    "empty folder": "mkdir nothing; mkdir -p deep/er/nothing",
    "odd names": "printf 1 > 'new space'; printf 2 > 'q\"q'; printf 3 > 'b\\b'; printf 4 > $'t\\tt'; printf 5 > $'n\\nn'; printf 6 > ünï; "
    "printf 7 > $'l\\xe9\\xff'; printf 8 > -new; printf 9 > ./--; printf 10 > ' '; printf 11 > 'trail '; printf 12 > $'\\x01\\x7f'; printf 13 > \"'\"",
    "odd names edited": "for f in 'with space.txt' 'quo\"te.txt' 'back\\slash.txt' $'tab\\tname.txt' $'new\\nline.txt' umläut.txt "
    "$'latin\\xe9.txt' ./-dash 'a b' ' b/x b'; do echo more >> \"$f\"; done",
    "odd names deleted": "rm -- 'with space.txt' 'quo\"te.txt' $'new\\nline.txt' $'latin\\xe9.txt' -dash ' b/x b'",
    "odd names made executable": "chmod +x -- *.txt -dash 'a b' ' b/x b'",
    "odd names moved": "mv -- -dash 'dash b/dash'  2>/dev/null || { mkdir 'dash b'; mv -- -dash 'dash b/a b'; }; mv $'new\\nline.txt' $'newer\\n\\n'",
    "names that mean something to git": "printf 1 > ':x'; printf 2 > ':(top)x'; printf 3 > '*.txt'; printf 4 > '!n'; printf 5 > '#c'; printf 6 > HEAD; "
    "printf 7 > @; printf 8 > '[a]'; printf 9 > 'a b b/a'; : > 'e b/e'; printf 10 > .gitkeep; printf 11 > .gitx; printf 12 > x.git",
    "folders that mean something to git": "mkdir -p 'x b' ':dir' a.git/refs .gitted; echo 1 > 'x b/y'; echo 2 > ':dir/z'; echo 3 > a.git/refs/r; echo 4 > .gitted/f",
    "upper and lower case": "echo lower > readme.md; echo upper > SRC; echo mixed > Run.sh",
    "crlf without attributes": "printf 'a\\r\\nb\\r\\n' > new.txt; printf 'one\\r\\ntwo!\\r\\n' > crlf.txt; printf 'one\\r\\n' > README.md",
    "crlf with text=auto": "printf 'a\\r\\nb\\r\\n' > auto/new.txt; printf 'a\\r\\nb\\r\\n' > auto/lf.txt; printf 'a\\r\\nb\\r\\nc\\r\\n' > auto/crlf.txt",
    "crlf with eol": "printf 'a\\nb\\n' > eol/run.bat; printf 'x\\r\\n' > eol/new.bat; printf 'x\\r\\n' > eol/new.sh; printf 'y\\r\\nz\\n' > eol/run.sh",
    "only line ends edited": "sed -i 's/$/\\r/' README.md src/app.py; sed -i 's/\\r$//' crlf.txt",
    "no newline at the end": "printf 'no newline, still' > nonl.txt; printf 'one' > README.md; printf 'x' > x",
    "newline at the end added": "echo >> nonl.txt",
    "empty files": ": > new-empty; : > README.md; echo full > empty",
    "only empty files": ": > e1; mkdir e; : > e/e2; rm empty",
    "like a patch": "printf -- '--- a/x\\n+++ b/x\\n@@ -0,0 +1 @@\\n+evil\\n' > p.diff; cat like.diff >> README.md; "
    "printf 'diff --git a/a b/b\\nGIT binary patch\\nliteral 0\\n' > like.diff; printf -- '-- \\n2.39.5\\n' > sig",
    "control bytes": "printf 'a\\rb\\fc\\vd\\be\\n' > ctl; printf '\\xef\\xbb\\xbfbom\\n' > bom; printf '\\xff\\xfe' > fe; printf 'x\\n\\r\\n\\r' >> README.md",
    "long lines": "head -c 300000 /dev/zero | tr '\\0' a > long; head -c 70000 /dev/zero | tr '\\0' b >> README.md",
    "long names": "n=$(printf 'x%.0s' $(seq 250)); echo 1 > $n; mkdir -p d/$n/$n/$n; echo 2 > d/$n/$n/$n/$n",
    "deep paths": "d=.; for i in $(seq 400); do d=$d/d; done; mkdir -p $d; echo deep > $d/file",
    "many files": "mkdir many; for i in $(seq 600); do echo $i > many/$i; done",
    # the agent's own git
    "commit": "echo c > c; git add -A; git commit -q -m mine; echo d > d",
    "commits and a clean tree": "echo c > c; git add -A; git commit -q -m mine; git rm -q README.md; git commit -q -m more",
    "reset back": "git reset -q --hard HEAD~1; rm -rf build",
    "soft reset": "echo x >> README.md; git reset -q --soft HEAD~1",
    "mixed reset": "echo x >> README.md; git add -A; git reset -q",
    "stash": "echo x >> README.md; git stash -q; echo y > y",
    "stash and pop": "echo x >> README.md; echo u > u; git stash -q -u; git stash pop -q",
    "branch switch": "git checkout -q $OTHER; echo mine > mine",
    "new branch with commits": "git checkout -q -b topic; echo t > t; git add t; git commit -q -m t; git checkout -q -; echo after > after",
    "merge": "git merge -q $OTHER -m merged",
    "rebase": "echo r > r; git add r; git commit -q -m r; git rebase -q $OTHER 2>/dev/null",
    "conflict left behind": "echo conflict > other.txt; git add -A; git commit -q -m c; git merge -q $OTHER >/dev/null 2>&1 || :",
    "orphan": "git checkout -q --orphan fresh; git commit -q -m root; echo o > o",
    "staged then deleted": "echo s > s; git add s; rm s",
    "removed from the index only": "git rm -q --cached README.md; echo x >> run.sh",
    "tags and notes": "git tag -a -m t t; git notes add -m n; echo x > x",
    "replaced objects": "git replace HEAD $OTHER; echo x > x",
    "gc": "echo x > x; git add x; git gc -q --prune=now",
    # ignoring
    "ignored": "echo x > debug.log; mkdir -p build/sub; echo x > build/sub/out; echo x > ignored.txt; echo k > keep.log; echo r > only-root; mkdir s; echo r > s/only-root",
    "tracked but ignored edited": "echo more >> build/kept.txt; echo new > build/new.txt",
    "tracked but ignored deleted": "rm build/kept.txt",
    "ignored folder became a file": "rm -r build; echo f > build",
    "gitignore emptied": ": > .gitignore; echo x > debug.log; echo n > build/new",
    "gitignore deleted": "rm .gitignore; echo x > debug.log",
    "gitignore extended": "echo 'new*' >> .gitignore; echo x > new.txt; echo 'README.md' >> .gitignore; echo y >> README.md",
    "gitignore ignores everything": "echo '*' > .gitignore; echo x > new; echo y >> README.md; rm run.sh",
    "gitignore in a folder": "mkdir -p a/b; printf '*\\n!.gitignore\\n!yes\\n' > a/.gitignore; echo 1 > a/yes; echo 2 > a/no; echo 3 > a/b/yes",
    "gitignore odd patterns": "printf '/x y\\n\\\\!bang\\n\\\\#hash\\ntrail\\\\ \\n**/deep/*.o\\nd/\\n\\n# comment\\n[ab].c\\n' > .gitignore; mkdir -p p/deep d e; "
    "for f in 'x y' '!bang' '#hash' 'trail ' trail p/deep/o.o p/o.o d/f e/d a.c c.c; do echo 1 > \"$f\"; done",
    "gitignore is a symlink": "rm .gitignore; ln -s README.md .gitignore; echo x > x.log",
    "gitignore is a folder": "mkdir f; mkdir f/.gitignore; echo x > f/.gitignore/y; echo z > f/z",
    "gitignore excludes a folder again": "printf 'dir/*\\n!dir/keep/\\n' >> .gitignore; mkdir -p dir/keep dir/drop; echo 1 > dir/keep/a; echo 2 > dir/drop/a; echo 3 > dir/a",
    # attributes
    "filter without a driver": "echo raw > new.lfs; printf 'a\\r\\n' > crlf.lfs; sed -i s/12345/999/ pointer.lfs",
    "ident": "printf '$Id: abc $\\nnew\\n' > a.id; printf '$Id$\\n' > b.id",
    "working-tree-encoding": "printf 'changed\\n' | iconv -t UTF-16 > a.u16; printf 'new\\n' | iconv -t UTF-16 > b.u16",
    "raw and binary": "printf 'x\\r\\ny\\n' > a.raw; printf 'text\\r\\n' > t.bin",
    "new attributes": "printf '*.md text\\n*.c text eol=crlf\\n' >> .gitattributes; printf 'a\\r\\n' > new.md; printf 'b\\r\\n' > n.c",
    "attributes in a new folder": "mkdir w; printf '* text=auto\\n' > w/.gitattributes; printf 'a\\r\\n' > w/a; printf 'a\\0\\r\\n' > w/b",
    "attributes is a symlink": "rm .gitattributes; ln -s README.md .gitattributes; printf 'a\\r\\n' > x.id",
    "diff attributes": "printf '* -diff\\n*.bin diff\\n' > .gitattributes; echo x >> README.md; printf 'a\\0b\\nc\\n' > n.bin; echo more >> bin/data.bin",
    # kinds that git does not store
    "fifo and socket": "mkfifo pipe; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'; echo x > x",
    "hard link": "ln README.md hard; echo both >> hard",
    "sparse file": "truncate -s 2M holes",
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def bench(lab: Lab) -> Bench:
    return lab.bench().checkout()


@pytest.mark.parametrize("script", SAME_AS_GIT_ADD.values(), ids=SAME_AS_GIT_ADD.keys())
def test_tree_is_what_git_add_gives(bench: Bench, script: str) -> None:
    maker = bench.maker()
    bench.run(script)
    told, patch = make(maker.final)
    assert told["left_out"] == []
    assert bench.applied(patch) == bench.plain(script) == told["tree"]
    assert (told["sha256"], told["bytes"]) == (hashlib.sha256(patch).hexdigest(), len(patch))
    assert list(bench.scratch.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["edit", "file to folder", "odd names", "crlf with eol", "ignored", "mode on", "symlink retargeted", "nothing"]
)
def test_without_trust_the_patch_is_the_same(bench: Bench, name: str) -> None:
    maker = bench.maker()
    bench.run(SAME_AS_GIT_ADD[name])
    assert make(bench.maker(is_trusting=False).final) == make(maker.final)


def test_nothing_changed_is_an_empty_patch(lab: Lab, bench: Bench) -> None:
    told, patch = make(bench.maker().final)
    assert patch == b""
    assert told == {"sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0, "left_out": [], "tree": lab.base_tree}


def test_patch_starts_at_the_files_offset(bench: Bench, tmp_path) -> None:
    bench.run("echo x > x")
    with open(tmp_path / "out", "w+b") as file:
        file.write(b"before")
        file.flush()
        told = bench.maker().final(file.fileno())
        file.seek(0)
        content = file.read()
    assert content[:6] == b"before"
    assert hashlib.sha256(content[6:]).hexdigest() == told["sha256"]


def test_second_patch_is_the_same_and_a_later_one_knows_the_later_changes(bench: Bench) -> None:
    maker = bench.maker()
    bench.run("echo x > x; echo y > y.txt; rm README.md")
    first = make(maker.final)
    assert make(maker.final) == first
    bench.run("echo more >> x; rm y.txt; git checkout -q README.md")
    told, patch = make(maker.final)
    assert told["tree"] == bench.plain("echo x > x; echo more >> x") == bench.applied(patch)


def test_what_becomes_ignored_later_leaves_the_patch(bench: Bench) -> None:
    maker = bench.maker()
    bench.run("echo x > x.tmp")
    make(maker.final)
    make(maker.checkpoint)
    bench.run("echo '*.tmp' >> .gitignore")
    assert make(maker.final)[0]["tree"] == make(maker.checkpoint)[0]["tree"] == bench.plain("echo x > x.tmp; echo '*.tmp' >> .gitignore")


def test_deleted_tracked_file_that_comes_back_ignored_is_still_tracked(bench: Bench) -> None:
    maker = bench.maker()
    bench.run("rm build/kept.txt")
    make(maker.final)
    bench.run("echo again > build/kept.txt")
    assert make(maker.final)[0]["tree"] == bench.plain("echo again > build/kept.txt")


def test_workspace_stays_as_it_is(bench: Bench) -> None:
    bench.run("echo x > x; rm README.md; mkdir n; git init -q n; echo y > n/y; mkdir empty-folder")
    listing = "find . -printf '%p %y %m %s %T@ %C@ %i %l\\n' | sort"
    bench.run(f"{listing} > ~/before")
    make(bench.maker().final)
    make(bench.maker(is_trusting=False).checkpoint)
    bench.run(f"{listing} | diff ~/before -")


def test_missing_base_is_a_sentence(bench: Bench) -> None:
    maker = bench.maker()
    bad = type(maker)(str(bench.workspace), str(bench.scratch), [], "ab" * 20, 1, 1)
    with pytest.raises(RuntimeError, match=r"^The base commit (ab){20} is not among the repository's objects\.$"):
        make(bad.final)


def test_full_disk_is_a_sentence(bench: Bench) -> None:
    bench.run("echo x > x")
    with open("/dev/full", "wb") as full, pytest.raises(RuntimeError, match=r"^The patch could not be written: .* \(its file\)\.$"):
        bench.maker().final(full.fileno())
    assert list(bench.scratch.iterdir()) == []


def test_sha256_repositories_work(tmp_path) -> None:
    lab = Lab(tmp_path, "echo a > a; printf 'x\\r\\n' > b; git add -A; git commit -q -m b", "--object-format=sha256")
    bench = lab.bench().checkout()
    maker = bench.maker()
    script = "echo c > c; rm a; touch b"
    bench.run(script)
    told, patch = make(maker.final)
    assert len(told["tree"]) == 64
    assert bench.applied(patch) == bench.plain(script) == told["tree"]
    assert git(bench.workspace, "rev-parse", "HEAD") == lab.base
