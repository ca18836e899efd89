"""What is in the folders of a tree of `trees.py`. Paths are text in which bytes that are no UTF-8 are surrogates (`os.fsdecode`).

Errors: RepoUnavailable, of which TreesLost is mended by making the trees again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.git.changes import blobs, contents
from tasks.git.trees import ask

_LONGEST_TARGET = 4096
_LITERALLY: Mapping[str, str] = {"GIT_LITERAL_PATHSPECS": "1"}


@dataclass(frozen=True)
class Node:
    """One entry of a folder: `object` is git's id (of a submodule its commit), `size` bytes of a file, `target` where a link points."""

    name: str
    mode: str
    object: str
    size: int = 0
    target: str = ""

    @property
    def is_folder(self) -> bool:
        return self.mode == "040000"

    @property
    def is_link(self) -> bool:
        return self.mode == "120000"

    @property
    def is_submodule(self) -> bool:
        return self.mode == "160000"

    @property
    def is_file(self) -> bool:
        return self.mode.startswith("100")


def node(mirror: Path, tree: str, path: str) -> Node | None:
    """What lies at a path ("" is the tree itself); None when nothing does. A commit may stand for its tree."""
    if not path:
        return Node("", "040000", tree)
    found = _listed(mirror, "-z", "--full-tree", tree, "--", path)
    return _told(mirror, found)[0] if found and found[0].name == path else None


def children(mirror: Path, tree: str, path: str, *, first: int, most: int) -> tuple[list[Node], int]:
    """At most `most` entries of a folder from number `first` (0 is the first) on, folders first and by name; and how many there are."""
    found = sorted(_listed(mirror, "-z", f"{tree}:{path}"), key=lambda each: (not each.is_folder, os.fsencode(each.name)))
    return _told(mirror, found[first : first + most]), len(found)


def _listed(mirror: Path, *args: str) -> list[Node]:
    lines = os.fsdecode(ask(mirror, ["ls-tree", *args], env=_LITERALLY)).split("\0")[:-1]
    return [
        Node(name, mode, name_of) for line in lines for meta, _, name in [line.partition("\t")] for mode, _, name_of in [meta.split(" ")]
    ]


def _told(mirror: Path, nodes: list[Node]) -> list[Node]:
    """The same with sizes and targets."""
    sizes = blobs(mirror, [each.object for each in nodes if each.is_file or each.is_link])
    short = {sizes[each.object][0]: sizes[each.object][1] for each in nodes if each.is_link and each.object in sizes}
    targets = contents(mirror, short, most=_LONGEST_TARGET)
    told = []
    for each in nodes:
        target = os.fsdecode(targets.get(each.object, b"")) if each.is_link else ""
        told.append(replace(each, size=sizes.get(each.object, ("", 0))[1], target=target))
    return told
