"""What is found out about a repository's files, whatever its tree looks like."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import BranchMissing
from tasks.git import features, mirrors
from tasks.git.commands import GitTimedOut
from tasks.git.features import Features

TIMEOUT = 20
LFS = "*.psd filter=lfs diff=lfs merge=lfs -text\n"


def found(origin: Any, mirror: Path, branch: str = "main") -> Features:
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    return features.features(mirror, branch)


def write(origin: Any, name: str, text: str | bytes) -> None:
    path = origin.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def test_a_plain_repository_has_neither(origin: Any, mirror: Path) -> None:
    assert found(origin, mirror) == Features()


@pytest.mark.parametrize("name", [".gitattributes", "deep/er/.gitattributes", "größe \t x/.gitattributes"])
def test_lfs_is_found_at_any_depth(origin: Any, mirror: Path, name: str) -> None:
    write(origin, name, f"# attributes\r\n*.txt text\r\n{LFS}")
    origin.commit()
    assert found(origin, mirror) == Features(has_lfs=True)


@pytest.mark.parametrize(
    "text", ["# *.psd filter=lfs\n", "*.psd filter=lfsx\n", "*.psd -filter\n", "filter=lfs\n", "*.psd xfilter=lfs\n", b"\xff\xfe\0" * 9]
)
def test_what_only_looks_like_lfs_is_not(origin: Any, mirror: Path, text: str | bytes) -> None:
    write(origin, ".gitattributes", text)
    origin.commit()
    assert found(origin, mirror) == Features()


def test_attributes_in_another_file_or_behind_a_link_do_not_count(origin: Any, mirror: Path) -> None:
    write(origin, "x.gitattributes", LFS)
    write(origin, "docs/attributes", LFS)
    (origin.folder / ".gitattributes").symlink_to("docs/attributes")
    origin.commit()
    assert found(origin, mirror) == Features()


def test_submodules_are_found(origin: Any, mirror: Path) -> None:
    write(origin, ".gitmodules", '[submodule "x"]\n\tpath = x\n\turl = https://example.org/x\n')
    origin.commit()
    assert found(origin, mirror) == Features(has_submodules=True)


def test_it_is_the_named_branch_that_counts(origin: Any, mirror: Path) -> None:
    origin.git("checkout", "-q", "-b", "media")
    write(origin, ".gitattributes", LFS)
    origin.commit()
    assert found(origin, mirror) == Features()
    assert found(origin, mirror, "media") == Features(has_lfs=True)
    with pytest.raises(BranchMissing):
        features.features(mirror, "none")


def test_a_sha256_repository_is_looked_at(make_origin: Callable[..., Any], mirror: Path) -> None:
    origin = make_origin("sha256", "--object-format=sha256")
    write(origin, "art/.gitattributes", LFS)
    write(origin, ".gitmodules", "")
    origin.commit()
    assert found(origin, mirror) == Features(has_lfs=True, has_submodules=True)


def test_thousands_of_files_and_huge_ones_are_bounded(origin: Any, mirror: Path) -> None:
    write(origin, ".gitattributes", "*.x text\n" * features.MOST_BYTES + LFS)
    for number in range(3000):
        write(origin, f"many/{number}/.gitattributes", f"*.{number} text\n")
    origin.commit()
    began = time.monotonic()
    assert found(origin, mirror) == Features()
    assert time.monotonic() - began < 10


def test_a_tree_without_end_is_given_up(origin: Any, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten folders that each hold the same ten, and so on: ten objects, 10¹² paths."""
    monkeypatch.setattr(features, "_TIMEOUT_S", 1.0)
    tree = origin.git("write-tree")
    for _ in range(12):
        tree = origin.git("mktree", input="".join(f"040000 tree {tree}\t{name}\n" for name in "abcdefghij").encode())
    origin.git("branch", "bomb", origin.git("commit-tree", tree, "-m", "bomb"))
    mirrors.ensure(mirror, origin.source, timeout=TIMEOUT)
    with pytest.raises(GitTimedOut):
        features.features(mirror, "bomb")
