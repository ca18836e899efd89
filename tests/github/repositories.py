"""The git side: bare repositories, served by git's own `git http-backend`."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What a GitHub token without the scope `workflow` may not push.
_UPDATE = """#!/bin/sh
case "$STAND_IN_PROTECTED" in *" $1 "*)
    echo "error: GH006: Protected branch update failed for $1." >&2; exit 1;;
esac
[ -z "$STAND_IN_NO_WORKFLOWS" ] && exit 0
case "$3" in *[!0]*) ;; *) exit 0;; esac
found=$(git log --format= --name-only "$3" --not --all -- .github/workflows | head -n 1)
[ -z "$found" ] && exit 0
echo "refusing to allow an OAuth App to create or update workflow \\`$found\\` without \\`workflow\\` scope" >&2
exit 1
"""
_ENV = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "GitHub",
    "GIT_AUTHOR_EMAIL": "noreply@github.com",
    "GIT_COMMITTER_NAME": "GitHub",
    "GIT_COMMITTER_EMAIL": "noreply@github.com",
}


class Conflicts(Exception):
    """Two branches cannot be merged."""


@dataclass
class Repository:
    """`permissions`: login → admin, maintain, push, triage or pull; who is not named may read if it is public."""

    full_name: str
    path: Path
    is_private: bool
    is_archived: bool
    permissions: dict[str, str]
    allows_drafts: bool = True
    default_branch: str = "main"
    id: int = 0
    protected: set[str] = field(default_factory=set)
    statuses: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def git(self, *argv: str, stdin: bytes = b"", check: bool = True) -> bytes:
        done = subprocess.run(["git", "-C", self.path, *argv], input=stdin, env=_ENV, capture_output=True)
        assert done.returncode == 0 or not check, f"git {argv}: {done.stderr.decode(errors='replace')}"
        return done.stdout if done.returncode == 0 else b""

    def create(self) -> None:
        self.path.mkdir(parents=True)
        self.git("init", "--quiet", "--bare", "--template=", "--initial-branch", self.default_branch)
        packed = (("fastimport.unpackLimit", "1"), ("receive.unpackLimit", "1"))  # fewer folders to remove
        for name, value in (("http.receivepack", "true"), ("uploadpack.allowAnySHA1InWant", "true"), ("gc.auto", "0"), *packed):
            self.git("config", name, value)
        hook = self.path / "hooks" / "update"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(_UPDATE)
        hook.chmod(0o755)

    def branches(self) -> dict[str, str]:
        lines = self.git("for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads").decode().splitlines()
        return dict(line.rsplit(" ", 1) for line in lines)

    def commits(self) -> list[dict[str, Any]]:
        """The newest of all branches, as the emulator keeps them."""
        names = ("sha", "tree_sha", "parent_shas", "author_name", "author_email", "author_date")
        names += ("committer_name", "committer_email", "committer_date", "message")
        out = self.git(
            "log",
            "--branches",
            "--max-count=500",
            "--date=iso-strict",
            "-z",
            "--format=%H%x1f%T%x1f%P%x1f%an%x1f%ae%x1f%aI%x1f%cn%x1f%ce%x1f%cI%x1f%B",
        )
        found = [dict(zip(names, one.split("\x1f"), strict=True)) for one in out.decode(errors="replace").split("\0") if one]
        return [one | {"parent_shas": one["parent_shas"].split()} for one in found]

    def commit(self, branch: str, files: dict[str, str | bytes | None], message: str = "Change") -> str:
        """Put files (None removes one) on a branch, made from the default branch if it is not there. The commit."""
        ref, parent = f"refs/heads/{branch}", self.tip(branch) or self.tip(self.default_branch)
        stream = [f"commit {ref}\ncommitter GitHub <noreply@github.com> now\ndata {len(message.encode())}\n{message}\n".encode()]
        if parent:
            stream.append(f"from {parent}\n".encode())
        for path, content in files.items():
            if content is None:
                stream.append(f"D {path}\n".encode())
                continue
            raw = content.encode() if isinstance(content, str) else content
            stream.append(f"M 100644 inline {path}\ndata {len(raw)}\n".encode() + raw + b"\n")
        self.git("fast-import", "--quiet", "--date-format=now", "--force", stdin=b"".join(stream))
        return self.tip(branch)

    def tip(self, ref: str) -> str:
        """The commit of a branch or of a commit's name; "" if there is none."""
        for name in (f"refs/heads/{ref}", ref):
            if found := self.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", check=False):
                return found.decode().strip()
        return ""

    def ahead(self, base: str, head: str) -> int:
        return int(self.git("rev-list", "--count", f"{self.tip(base)}..{self.tip(head)}"))

    def merge(self, base: str, head: str, *, method: str, message: str, dry: bool = False) -> str:
        """Merge the branch `head` into `base` as GitHub would; the new commit. A rebase is made as a squash is."""
        ours, theirs = self.tip(base), self.tip(head)
        done = subprocess.run(["git", "-C", self.path, "merge-tree", "--write-tree", ours, theirs], env=_ENV, capture_output=True)
        if done.returncode:
            raise Conflicts
        if dry:
            return ""
        parents = ["-p", ours, "-p", theirs] if method == "merge" else ["-p", ours]
        tree = done.stdout.decode().splitlines()[0]
        commit = self.git("commit-tree", tree, *parents, "-m", message).decode().strip()
        self.git("update-ref", f"refs/heads/{base}", commit, ours)
        return commit

    def entry(self, ref: str, path: str) -> bytes | list[tuple[str, str, str]] | None:
        """A file's content, or a folder's (type, object, path), or None."""
        commit = self.tip(ref)
        if not commit:
            return None
        if not path:
            kind = "tree"
        else:
            line = self.git("ls-tree", commit, "--", path).decode()
            kind = line.split()[1] if line else ""
        if kind == "blob":
            return self.git("cat-file", "blob", f"{commit}:{path}")
        if kind != "tree":
            return None
        rows = self.git("ls-tree", "-z", f"{commit}:{path}").decode().split("\0")
        return [(row.split()[1], row.split()[2], row.split("\t", 1)[1]) for row in rows if row]

    def serve(self, environment: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """One CGI request of git's: status, headers, body."""
        env = _ENV | {"GIT_PROJECT_ROOT": str(self.path), "GIT_HTTP_EXPORT_ALL": "1", "CONTENT_LENGTH": str(len(body))} | environment
        env["STAND_IN_PROTECTED"] = "".join(f" refs/heads/{branch} " for branch in self.protected)
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in head.decode().split("\r\n")) if value]
        status = next((int(value.split()[0]) for name, value in headers if name == "Status"), 200)
        return status, [(name, value) for name, value in headers if name != "Status"], content
