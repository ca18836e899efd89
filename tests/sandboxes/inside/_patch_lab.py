"""A base repository with everything in it, workspaces of it as sandboxes have them, and plain clones to compare with."""

# ruff: noqa: E501 - scripts read better in one line

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from sandboxes.inside.checkout import checkout
from sandboxes.inside.patch import PatchMaker

MIB = 1024 * 1024
SUBMODULE_COMMIT = "1234567890123456789012345678901234567890"
BRANCH = "asynccode/7-claude-1"

BASE_SCRIPT = r"""
set -e
printf 'old\n' > README.md; mkdir -p src/util/deep; printf 'print(1)\n' > src/app.py
git add -A; git commit -q -m 'Begin'; git branch other
printf 'one\ntwo\nthree\nfour\nfive\nsix\nseven\n' > README.md
printf 'x\n' > src/util/deep/x.txt; seq 200 > src/long.txt
printf '#!/bin/sh\necho run\n' > run.sh; chmod 755 run.sh
mkdir bin; head -c 3000 /dev/zero | tr '\0' '\7' > bin/data.bin; printf 'a\0b\n' >> bin/data.bin
ln -s README.md link; ln -s nowhere dangling; ln -s /etc/hostname outside; ln -s src dirlink
for name in 'with space.txt' 'quo"te.txt' 'back\slash.txt' $'tab\tname.txt' $'new\nline.txt' 'umläut.txt' $'latin\xe9.txt' -dash ' b/' 'a b'; do
  case "$name" in */) mkdir -p "./$name"; printf 'in\n' > "./$name/x b";; *) printf 'named\n' > "./$name";; esac
done
printf 'one\r\ntwo\r\n' > crlf.txt; printf 'no newline' > nonl.txt; : > empty
printf 'diff --git a/README.md b/README.md\n--- a/README.md\n+++ b/README.md\n@@ -1 +1 @@\n-one\n+uno\n' > like.diff
mkdir auto eol; printf '* text=auto\n' > auto/.gitattributes; printf 'a\nb\n' > auto/lf.txt; printf 'a\r\nb\r\n' > auto/crlf.txt
printf '*.bat text eol=crlf\n*.sh text eol=lf\n' > eol/.gitattributes; printf 'a\r\nb\r\n' > eol/run.bat; printf 'a\nb\n' > eol/run.sh
printf '*.lfs filter=lfs diff=lfs merge=lfs -text\n*.id ident\n*.u16 text working-tree-encoding=UTF-16\n*.raw -text\n*.bin binary\n' > .gitattributes
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize 12345\n' 7 > pointer.lfs
printf '$Id$\nbody\n' > a.id; printf 'hello\n' | iconv -t UTF-16 > a.u16; printf 'a\r\nb\n' > a.raw
printf 'build/\n*.log\nignored.txt\n/only-root\n!keep.log\n' > .gitignore
mkdir build; printf 'kept\n' > build/kept.txt; git add -f build/kept.txt
printf '[submodule "sub"]\n\tpath = vendor/sub\n\turl = https://example.invalid/sub\n' > .gitmodules
git add -A
git update-index --add --cacheinfo 160000,1234567890123456789012345678901234567890,vendor/sub
git commit -q -m 'Everything'
git checkout -q other; printf 'other\n' > other.txt; git add -A; git commit -q -m 'Elsewhere'; git checkout -q main
"""


def git(cwd: Path, *args: str, stdin: bytes = b"", **env: str) -> str:
    """git as a careful person runs it: none of the agent's global configuration."""
    clean = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8", **env}
    done = subprocess.run(["git", *args], cwd=cwd, env=clean, input=stdin, capture_output=True)
    assert done.returncode == 0, f"git {args}: {done.stderr.decode(errors='replace')}"
    return done.stdout.decode(errors="replace").strip()


def bash(script: str, cwd: Path, home: Path, **env: str) -> None:
    variables = {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8", "GIT_CONFIG_NOSYSTEM": "1", **env}
    done = subprocess.run(["bash", "-c", script], cwd=cwd, env=variables, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")


class Lab:
    """One base commit, its mirror, and a folder for what a test makes of them."""

    def __init__(self, root: Path, script: str = BASE_SCRIPT, *git_init: str) -> None:
        self.root = root
        self.source, self.mirror = root / "source", root / "mirror.git"
        self.source.mkdir()
        git(self.source, "init", "-q", "-b", "main", *git_init)
        git(self.source, "config", "user.name", "Ann")
        git(self.source, "config", "user.email", "ann@example.invalid")
        bash(script, self.source, root)
        git(root, "clone", "-q", "--mirror", str(self.source), str(self.mirror))
        self.base = git(self.source, "rev-parse", "HEAD")
        self.base_tree = git(self.source, "rev-parse", "HEAD^{tree}")
        self.has_submodule = SUBMODULE_COMMIT in script
        self.env = {"BASE": self.base, "OTHER": git(self.source, "rev-parse", "other") if self.has_submodule else ""}

    def bench(self) -> Bench:
        return Bench(self, Path(tempfile.mkdtemp(dir=self.root)))


class Bench:
    """One workspace, checked out and trusted, and its patches."""

    def __init__(self, lab: Lab, root: Path) -> None:
        self.lab, self.root = lab, root
        self.workspace, self.home, self.scratch = root / "workspace", root / "home", root / "scratch"
        for folder in (self.workspace, self.home, self.scratch):
            folder.mkdir()
        self.said: list[str] = []

    def checkout(self, patch: Path | None = None, **changes: Any) -> Bench:
        spec = {
            "base": self.lab.base,
            "branch": BRANCH,
            "remote": "https://example.invalid/team/repo.git",
            "patch": None if patch is None else str(patch),
            **changes,
        }
        checkout(str(self.workspace), str(self.lab.mirror), spec, self.said.append)
        return self

    def maker(self, *, is_trusting: bool = True, max_file_bytes: int = 10 * MIB, max_patch_bytes: int = 200 * MIB) -> PatchMaker:
        objects = [str(self.lab.mirror / "objects")]
        maker = PatchMaker(str(self.workspace), str(self.scratch), objects, self.lab.base, max_file_bytes, max_patch_bytes)
        if is_trusting:
            maker.trust()
        return maker

    def run(self, script: str, cwd: Path | None = None) -> None:
        bash(script, cwd or self.workspace, self.home, **self.lab.env)

    def plain(self, script: str) -> str:
        """The tree that `git add -A` gives in a plain clone after the script, but with the base's submodule in it."""
        clone = self.root / "plain"
        git(self.root, "clone", "-q", str(self.lab.source), str(clone))
        for key, value in (("user.name", "Ann"), ("user.email", "ann@example.invalid"), ("advice.addEmbeddedRepo", "false")):
            git(clone, "config", key, value)
        home = self.root / "plain-home"
        home.mkdir()
        bash(script, clone, home, **self.lab.env)
        git(clone, "add", "-A")
        if self.lab.has_submodule:
            git(clone, "update-index", "--add", "--cacheinfo", f"160000,{SUBMODULE_COMMIT},vendor/sub")
        return git(clone, "write-tree")

    def applied(self, patch: bytes) -> str:
        """The tree that the patch makes of the base in a clean clone, by the way everybody has."""
        clone = self.root / "clean"
        shutil.rmtree(clone, ignore_errors=True)
        git(self.root, "clone", "-q", str(self.lab.source), str(clone))
        git(clone, "apply", "--index", "--allow-empty", "-", stdin=patch)
        return git(clone, "write-tree")


def make(method: Any) -> tuple[dict[str, Any], bytes]:
    """Call `final` or `checkpoint` with a file that has no name; the result and the patch."""
    with tempfile.TemporaryFile() as file:
        told = method(file.fileno())
        file.seek(0)
        return told, file.read()
