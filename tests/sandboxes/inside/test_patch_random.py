"""Whatever is done to the files, the patch's tree is what `git add -A` gives."""

# ruff: noqa: E501 - scripts read better in one line

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sandboxes.inside._patch_lab import Lab, git, make

BASE = """
mkdir -p a/b c; echo 1 > a/b/f; echo 2 > a/g; seq 50 > c/long; printf 'x\\r\\ny\\r\\n' > crlf; ln -s a/g link; echo '*.o' > .gitignore; echo o > kept.o
printf 'c/* text=auto\\n' > .gitattributes; printf '\\0\\1' > bin; echo s > run; chmod +x run
git add -A; git add -f kept.o; git commit -q -m base
"""
NAMES = [
    "a",
    "a/b",
    "a/b/f",
    "a/g",
    "c",
    "c/long",
    "c/new",
    "crlf",
    "link",
    "kept.o",
    "x.o",
    "bin",
    "run",
    "new",
    "a b/c",
    "é\n",
    "a/.gitignore",
    ".gitignore",
]
CONTENTS = [
    b"",
    b"x",
    b"1\n",
    b"x\r\ny\r\n",
    b"x\ny\n",
    b"\0\1",
    b"*.o\nnew\n",
    b"/a\n!kept.o\n",
    b"b/\n",
    b"\xff\xfe",
    b"".join(b"%d\n" % n for n in range(1, 51)),
]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(NAMES), st.sampled_from(CONTENTS)),
        st.tuples(st.just("append"), st.sampled_from(NAMES), st.sampled_from(CONTENTS)),
        st.tuples(st.just("remove"), st.sampled_from(NAMES)),
        st.tuples(st.just("link"), st.sampled_from(NAMES), st.sampled_from([*NAMES, "/etc/hostname", "nowhere"])),
        st.tuples(st.just("folder"), st.sampled_from(NAMES)),
        st.tuples(st.just("mode"), st.sampled_from(NAMES), st.sampled_from([0o644, 0o755, 0o700])),
        st.tuples(st.just("move"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
        st.tuples(st.just("touch"), st.sampled_from(NAMES)),
    ),
    max_size=12,
)


def act(root: Path, steps: list[tuple[Any, ...]]) -> None:
    """Do the steps as far as they can be done; what cannot be done is the same everywhere."""
    for verb, name, *rest in steps:
        path = root / name
        try:
            if verb in ("write", "append", "link", "folder"):
                path.parent.mkdir(parents=True, exist_ok=True)
            if verb in ("write", "link", "folder") and path.is_symlink():
                path.unlink()
            if verb == "write":
                path.write_bytes(rest[0])
            elif verb == "append":
                with path.open("ab") as file:
                    file.write(rest[0])
            elif verb == "remove":
                path.unlink() if path.is_symlink() or path.is_file() else shutil.rmtree(path)
            elif verb == "link":
                path.symlink_to(rest[0])
            elif verb == "folder":
                path.mkdir()
            elif verb == "mode":
                path.chmod(rest[0]) if path.resolve().is_relative_to(root.resolve()) and path.is_file() else None
            elif verb == "move":
                path.rename(root / rest[0])
            else:
                os.utime(path, follow_symlinks=False)
        except OSError:
            continue


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"), BASE)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_any_changes_give_the_tree_of_git_add(lab: Lab, steps: list[tuple[Any, ...]]) -> None:
    bench = lab.bench().checkout()
    trusted, untrusted = bench.maker(), bench.maker(is_trusting=False)
    act(bench.workspace, steps)
    told, patch = make(trusted.final)
    clone = bench.root / "plain"
    git(bench.root, "clone", "-q", str(lab.source), str(clone))
    act(clone, steps)
    git(clone, "add", "-A")
    assert told["left_out"] == []
    assert told["tree"] == git(clone, "write-tree") == bench.applied(patch)
    assert make(untrusted.final) == make(untrusted.checkpoint) == (told, patch)
    shutil.rmtree(bench.root)
