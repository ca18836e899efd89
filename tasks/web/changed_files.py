"""The files of a change as its page shows them: each with its mark, its table where that is there already, and all of them as a tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.raw import may_be_picture
from tasks.review.diffs import File
from tasks.review.render import Rendered
from tasks.web.commented import Commented, signed

_MOST_ROWS = 1_500  # of a file that is not there yet
_DEEPEST = 12  # folders within each other; what is deeper is in the names


@dataclass(frozen=True)
class Shown:
    """A file on the page; `rendered` is None while its lines are to come."""

    file: File
    rendered: Rendered | None
    is_viewed: bool
    comments: Sequence[Commented] = ()

    @property
    def base(self) -> str:
        return self.file.path.rpartition("/")[2]

    @property
    def folder(self) -> str:
        return self.file.path.removesuffix(self.base)

    @property
    def seen(self) -> str:
        """What is sent along with a comment on it; "" where there are no lines to comment on."""
        return signed(self.file) if self.file.has_rows else ""

    @property
    def is_closed(self) -> bool:
        """To begin with: there is nothing to see, or somebody has seen it."""
        return self.is_viewed

    @property
    def waits_because(self) -> str:
        """Why its lines come only when they are asked for; "" when they come by themselves."""
        changed = self.file.change.additions + self.file.change.deletions
        return {
            "lock file": "A lock file.",
            "generated": "A generated file.",
            "vendored": "Somebody else's code (vendored).",
        }.get(self.file.quiet, f"A large change of {changed:,} lines." if self.file.is_large else "")

    @property
    def rows(self) -> int:
        """How many lines it has on the page; about so many before they are there."""
        change = self.file.change
        if self.rendered is not None:
            return self.rendered.rows
        around = 7 if change.old_blob and change.new_blob else 0  # equal lines, and a gap
        return min(change.additions + change.deletions + around, _MOST_ROWS) if self.file.has_rows and not self.waits_because else 2

    @property
    def pictures(self) -> list[str]:
        """The sides ("old", "new") that are pictures to look at."""
        change = self.file.change
        if self.file.is_text or change.is_symlink or change.is_submodule:
            return []
        sides = (("old", change.old_path, self.file.old_size), ("new", change.path, self.file.new_size))
        return [side for side, path, size in sides if may_be_picture(path, size)]

    @property
    def has_blobs(self) -> bool:
        return not self.file.change.is_submodule


@dataclass
class Folder:
    """What is in a folder, in the order of the change. One that holds nothing but another folder is one with it: its name has both."""

    name: str
    entries: list[Folder | Shown] = field(default_factory=list)
    folders: dict[str, Folder] = field(default_factory=dict)

    @property
    def inner(self) -> list[tuple[Folder | None, Shown | None]]:
        """Each is a folder or a file."""
        return [(entry.joined, None) if isinstance(entry, Folder) else (None, entry) for entry in self.entries]

    @property
    def joined(self) -> Folder:
        folder = self
        while len(folder.entries) == 1 and isinstance(only := folder.entries[0], Folder):
            folder = Folder(f"{folder.name}/{only.name}", only.entries)
        return folder


def tree_of(files: Sequence[Shown]) -> Folder:
    root = Folder("")
    for shown in files:
        folder = root
        for part in shown.file.path.split("/")[:-1][:_DEEPEST]:
            if part not in folder.folders:
                folder.folders[part] = Folder(part)
                folder.entries.append(folder.folders[part])
            folder = folder.folders[part]
        folder.entries.append(shown)
    return root
