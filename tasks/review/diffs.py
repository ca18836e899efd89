"""The files of a change, and what is to be said of each before anybody has looked into it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.git.changes import Change, Status, attribute_files, attributes, blobs, changes
from tasks.review import kept

LARGE = 1_500  # changed lines of a file that are loaded only when they are asked for
_FIRST = 200  # changed lines that fill a first screen
_VERSION = 1
_ATTRIBUTES = ("linguist-generated", "linguist-vendored", "diff")
_LOCKS = {
    *("package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "deno.lock"),
    *("poetry.lock", "uv.lock", "pdm.lock", "pipfile.lock", "pixi.lock", "cargo.lock"),
    *("go.sum", "composer.lock", "gemfile.lock", "podfile.lock", "mix.lock", "pubspec.lock"),
    *("package.resolved", "packages.lock.json", "gradle.lockfile", "flake.lock", ".terraform.lock.hcl"),
}
_GENERATED = re.compile(
    r"\.min\.(js|css)$|\.(js|css)\.map$|\.pb\.(go|cc|h)$|_pb2(_grpc)?\.pyi?$|\.g\.dart$|\.snap$|\.designer\.cs$|(^|/)__generated__/",
    re.IGNORECASE,
)
_VENDORED = re.compile(r"(^|/)(node_modules|vendor|third_party|bower_components)/")


@dataclass(frozen=True)
class File:
    """One changed file; `number` is its place in the change, from 1. `quiet` says why it starts closed: "lock file", "generated",
    "vendored", or "" when it does not. Sizes are in bytes. `is_text` is False where a diff would show nothing that can be read."""

    number: int
    change: Change
    old_size: int = 0
    new_size: int = 0
    quiet: str = ""
    is_text: bool = True

    @property
    def path(self) -> str:
        return self.change.path

    @property
    def anchor(self) -> str:
        """Its name in addresses and in ids of HTML: the same for as long as its path is, whatever else changes."""
        return anchor(self.path)

    @property
    def is_large(self) -> bool:
        return self.change.additions + self.change.deletions > LARGE

    @property
    def digest(self) -> str:
        """Changes with the file's content, modes and names on either side: what was marked as viewed is no longer."""
        change = self.change
        sides = (change.old_path, change.path, change.old_mode, change.new_mode, change.old_blob, change.new_blob)
        return hashlib.sha256("\0".join(sides).encode(errors="surrogateescape")).hexdigest()[:16]

    @property
    def has_rows(self) -> bool:
        return self.is_text and self.change.old_blob != self.change.new_blob

    @property
    def note(self) -> str:
        """What is to be said besides, or instead of, its lines."""
        change = self.change
        if change.is_submodule:
            commits = [
                blob[:10] for mode, blob in ((change.old_mode, change.old_blob), (change.new_mode, change.new_blob)) if mode == "160000"
            ]
            return {2: "A submodule, which went from {} to {}.", 1: "A submodule at {}."}[len(commits)].format(*commits)
        said = []
        if change.status is Status.TYPE:
            said.append(f"{_kind(change.old_mode).capitalize()} became {_kind(change.new_mode)}.")
        elif change.old_mode and change.new_mode and change.old_mode != change.new_mode:
            said.append("Made executable." if change.new_mode == "100755" else "No longer executable.")
        elif change.is_symlink:
            said.append("A symbolic link; its line is where it leads.")
        if change.is_binary or not self.is_text:
            said.append("A binary file." if change.is_binary else "Its .gitattributes say that it is not to be shown as text.")
        elif change.status is Status.RENAMED and change.old_blob == change.new_blob:
            said.append("Moved without a change.")
        elif change.status in (Status.ADDED, Status.DELETED) and not change.additions + change.deletions:
            said.append("An empty file.")
        return " ".join(said)


def anchor(path: str) -> str:
    return f"f{hashlib.sha256(path.encode(errors='surrogateescape')).hexdigest()[:8]}"


def files(mirror: Path, old: str, new: str) -> list[File]:
    """All files that differ between two trees, in the order of their paths.

    Only what was there before the change says what is generated: a change cannot hide itself.
    """
    key = f"files:{_VERSION}:{old}:{new}"
    if (found := kept.recall([key]).get(key)) is not None:
        return list(found)
    changed = changes(mirror, old, new)
    paths = [change.path for change in changed]
    attribute_names = attribute_files(old, paths)
    known = blobs(mirror, [*attribute_names.values(), *(blob for change in changed for blob in (change.old_blob, change.new_blob))])
    attribute_blobs = {path: known[name] for path, name in attribute_names.items() if name in known}
    said = attributes(mirror, attribute_blobs, paths, _ATTRIBUTES)
    sizes = dict(known.values())
    found = [_file(number, change, sizes, said.get(change.path, {})) for number, change in enumerate(changed, 1)]
    kept.keep({key: found})
    return found


def first_screen(files: Sequence[File]) -> list[File]:
    """The files whose lines come with the page: those from the top on that start open, until there is enough to read."""
    found: list[File] = []
    lines = 0
    for file in files:
        if lines >= _FIRST:
            break
        if not file.quiet and not file.is_large:
            found.append(file)
            lines += file.change.additions + file.change.deletions + 1
    return found


def _file(number: int, change: Change, sizes: Mapping[str, int], said: Mapping[str, str]) -> File:
    is_text = not change.is_binary and not change.is_submodule and said.get("diff") != "unset"
    old_size, new_size = (sizes.get(blob, 0) for blob in (change.old_blob, change.new_blob))
    return File(number, change, old_size, new_size, _quiet(change.path, said), is_text)


def _quiet(path: str, said: Mapping[str, str]) -> str:
    for attribute, word in (("linguist-generated", "generated"), ("linguist-vendored", "vendored")):
        if (value := said.get(attribute, "")) in ("set", "true"):
            return word
        if value in ("unset", "false"):
            return ""
    if path.rpartition("/")[2].lower() in _LOCKS:
        return "lock file"
    if _GENERATED.search(path):
        return "generated"
    return "vendored" if _VENDORED.search(path) else ""


def _kind(mode: str) -> str:
    return {"120000": "a symbolic link", "160000": "a submodule"}.get(mode, "a file")
