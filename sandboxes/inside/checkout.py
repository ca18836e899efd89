"""How a workspace comes to be: the base commit's files, a branch of its own, objects borrowed from the mirror."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import ExitStack

from ._checkout_way import attributes_aside, clear_the_way, delete
from ._patch_git import SHA256_DIGITS, Git, GitError, environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NO_BRANCH = re.compile(r"""^[-/]|[/.]$|//|\.\.|@\{|(^|/)\.|\.lock(/|$)|[\x00-\x20\x7f~^:?*\[\\]|^@?$|^HEAD$""")

_WORKERS = 2  # from a hundred files on git then writes in parallel, several times faster

_CONFIG = """\
[core]
\trepositoryformatversion = {version}
\tfileMode = true
\tbare = false
\tlogAllRefUpdates = true
{extensions}[gc]
\tauto = 0
[user]
\tname = asynccode agent
\temail = agent@asynccode.invalid
[remote "origin"]
\turl = {remote}
\tfetch = +refs/heads/*:refs/remotes/origin/*
"""
_SHA256 = "[extensions]\n\tobjectFormat = sha256\n"


def checkout(workspace: str, mirror: str, spec: Mapping[str, Any], say: Callable[[str], object], *, is_prepared: bool = False) -> None:
    """Check the commit `spec["base"]` out into `workspace`, an existing folder, on the new branch `spec["branch"]`.

    What an interrupted checkout left there is removed first. `origin` is `spec["remote"]`; no credential is stored
    and git is never run in the mirror. `spec["base_branch"]` (may be missing) becomes `origin`'s branch of that name.
    The patch in the file `spec["patch"]` (may be None) then goes onto the files, not into the index, which stays the
    base's. Submodules stay empty, LFS pointers pointers. `say` gets lines for people. RuntimeError with a sentence.

    A workspace that `is_prepared` keeps what lies in it, but for a `.git` and what stands where a file of the base or
    of the patch must be. Nobody vouches for it: no link in it is followed and none of its attributes heeded.
    """
    base, branch, patch = spec["base"], spec["branch"], spec.get("patch")
    if not _COMMIT.fullmatch(base):
        raise RuntimeError(f"{base!r} is not a full commit id.")
    for name in (branch, spec.get("base_branch") or branch):
        if _NO_BRANCH.search(name):
            raise RuntimeError(f"{name!r} is not a branch name.")
    git_dir = os.path.join(workspace, ".git")
    if is_prepared:
        delete(git_dir)
    else:
        _empty(workspace)
    _make_repository(git_dir, mirror, spec)
    git = Git(environment(git_dir, workspace, home=os.path.join(git_dir, "info")), workspace)
    say(f"Checking out {base[:12]} on {branch}.")
    with ExitStack() as stack:
        if is_prepared:
            entries = _entries(git, base)
            clear_the_way(os.fsencode(workspace), entries)
            stack.enter_context(attributes_aside(os.fsencode(workspace), {path for _, path in entries}))
        _read_tree(git, base)
        if patch is not None:
            say("Putting the changes so far back.")
            _restore(git, patch, is_prepared=is_prepared)


def _empty(workspace: str) -> None:
    if os.listdir(workspace):
        subprocess.run(["find", ".", "-mindepth", "1", "-delete"], cwd=workspace, check=False, stderr=subprocess.DEVNULL)
    if os.listdir(workspace):
        raise RuntimeError("The workspace holds files of an interrupted checkout that cannot be removed.")


def _make_repository(git_dir: str, mirror: str, spec: Mapping[str, Any]) -> None:
    """What `git init` and four more commands would make, without hooks or templates."""
    base, branch = spec["base"], spec["branch"]
    for folder in ("info", "objects/info", "objects/pack", "refs/heads", "refs/tags"):
        os.makedirs(os.path.join(git_dir, folder))
    is_sha256 = len(base) == SHA256_DIGITS
    files = {
        "HEAD": f"ref: refs/heads/{branch}\n",
        "config": _CONFIG.format(version=int(is_sha256), extensions=_SHA256 if is_sha256 else "", remote=_quoted(spec["remote"])),
        f"refs/heads/{branch}": base + "\n",
    }
    if spec.get("base_branch"):
        files[f"refs/remotes/origin/{spec['base_branch']}"] = base + "\n"
    if os.path.isdir(mirror):
        files["objects/info/alternates"] = os.path.join(mirror, "objects") + "\n"
    for name, content in files.items():
        path = os.path.join(git_dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
    shallow = os.path.join(mirror, "shallow")
    if os.path.exists(shallow):  # without it git takes the cut history for a broken one
        shutil.copyfile(shallow, os.path.join(git_dir, "shallow"))


def _quoted(value: str) -> str:
    """A value as git's configuration files have it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def _entries(git: Git, base: str) -> list[tuple[bytes, bytes]]:
    """Mode and path of each file, link and submodule of a commit."""
    try:
        listed = git.run("ls-tree", "-r", "-z", "--full-tree", base).split(b"\0")[:-1]
    except GitError as error:
        raise _refused(git, base, error) from error
    return [(line.split(b" ", 1)[0], line.partition(b"\t")[2]) for line in listed]


def _read_tree(git: Git, base: str) -> None:
    try:
        git.run("-c", f"checkout.workers={_WORKERS}", "read-tree", "-m", "-u", base)
    except GitError as error:
        raise _refused(git, base, error) from error


def _refused(git: Git, base: str, error: GitError) -> RuntimeError:
    if git.attempt("cat-file", "-e", base + "^{commit}").returncode != 0:
        return RuntimeError(f"The base commit {base} is not in the repository any more; its branch may have been rewritten.")
    return RuntimeError(f"The base commit could not be checked out: {error.words}.")


def _restore(git: Git, patch: str, *, is_prepared: bool) -> None:
    """Apply a patch to the files alone.

    It goes into an index of its own first, so that what is written are the files as that tree's attributes want them;
    applying it to the files directly would depend on the order in which attributes and files change.
    """
    index = os.path.join(git.cwd, ".git", "index")
    ours = git.with_env(GIT_INDEX_FILE=index + ".restore")
    try:
        with open(patch, "rb") as file:
            content = file.read()
        if not content:
            return
        shutil.copy2(index, index + ".restore")
        ours.run("apply", "--cached", "--binary", "--whitespace=nowarn", "-", stdin=content)
        tree = ours.run("write-tree").decode().strip()
        shutil.copy2(index, index + ".restore")
        if is_prepared:
            changed = ours.run("diff-index", "--cached", "--no-renames", "-z", "--name-only", tree).split(b"\0")[:-1]
            clear_the_way(os.fsencode(git.cwd), [(b"", path) for path in changed])
        ours.run("read-tree", "--reset", "-u", tree)
        os.unlink(index + ".restore")
    except OSError as error:
        raise RuntimeError(f"The changes so far could not be read: {error.strerror}.") from error
    except GitError as error:
        raise RuntimeError(f"The changes so far could not be put back: {error.words}.") from error
