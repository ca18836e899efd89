"""What several runs of a task did to which file, side by side."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from tasks.git import changes, fitting
from tasks.git.changes import Status
from tasks.models import Patch, Task
from tasks.review import kept
from tasks.review.diffs import File, files
from tasks.review.diffs import anchor as anchor_of
from tasks.review.trees import Change

MOST_RUNS = 20
MOST_ROWS = 1_000
_VERSION = 1


class Order(StrEnum):
    TOUCHED = "touched"  # what most runs touched first
    PATH = "path"


class Cell(NamedTuple):
    """What one run did to a file. `path` is where the run has it. Runs whose cells of a row have the same `letter` left the same
    content; it is "" where no other run did. Counts are 0 for what is binary."""

    status: Status
    path: str
    additions: int
    deletions: int
    is_binary: bool = False
    letter: str = ""


class Row(NamedTuple):
    """A file by the `path` it has in the base commit, or was added at, and a cell for each run, None where it did not touch it.
    `anchor` names the row in addresses: a path need not be text."""

    anchor: str
    path: str
    cells: tuple[Cell | None, ...]

    @property
    def touched(self) -> int:
        return sum(cell is not None for cell in self.cells)

    @property
    def only(self) -> int | None:
        """The place of the only run that touched it; None when several did."""
        return next(place for place, cell in enumerate(self.cells) if cell) if self.touched == 1 else None

    @property
    def is_agreed(self) -> bool:
        """Whether all runs left the same content."""
        letters = {cell.letter if cell else "" for cell in self.cells}
        return len(letters) == 1 and "" not in letters


@dataclass(frozen=True)
class Matrix:
    """The first MOST_ROWS of the `total` files. `only` counts, of each run, the files that no other run touched, `agreed` those that
    all left with the same content, `shared` those that several touched."""

    rows: Sequence[Row]
    total: int
    only: Sequence[int]
    agreed: int
    shared: int


def matrix(task: Task, patches: Sequence[Patch], *, order: Order = Order.TOUCHED, only: int | None = None) -> Matrix:
    """These patches of a task's runs, side by side; with `only`, the files that no run but that one touched.

    A rename in one run and an edit of the same file in another are one row. It is kept by the trees that are compared.
    Errors: AppError (a patch does not fit), RepoUnavailable.
    """
    sides = [Change(task, None, patch).ask(lambda mirror, old, new: (mirror, old, new)) for patch in patches]
    key = _key("matrix", order, str(only), *(word for _, old, new in sides for word in (old, new)))
    found = kept.recall([key]).get(key)
    if found is None:
        touched = [Change(task, None, patch).ask(_changes) for patch in patches]
        found = _matrix(touched, order, only)
        kept.keep({key: found})
    assert isinstance(found, Matrix)
    return found


def row(task: Task, patches: Sequence[Patch], anchor: str) -> tuple[Row, list[File | None]] | None:
    """A file by its anchor, of where the base commit or one of the runs has it: its row, and what each run did to it; None when no
    run touched such a file."""
    touched = [Change(task, None, patch).ask(files) for patch in patches]
    known = {file.anchor: file.change.old_path for its in touched for file in its}
    known |= {anchor_of(path): path for path in known.values()}
    if (path := known.get(anchor)) is None:
        return None
    cells = [next((file for file in its if file.change.old_path == path), None) for its in touched]
    return _row(path, [file.change if file else None for file in cells]), cells


def between(task: Task, old: Patch, new: Patch, path: str, other: str) -> File | None:
    """How a file that is at `path` in one run's tree and at `other` in another's differs between them; None when it does not."""
    its = Change(task, old, new).ask(files)
    same = (file for file in its if file.change.old_path == path and file.path == other)
    return next(same, None) or next((file for file in its if path == file.change.old_path or other == file.path), None)


def conflicts(task: Task, head: str, patches: Sequence[Patch]) -> list[list[str]]:
    """Of each patch, the paths in which it conflicts with what the commit `head` holds. Errors as `matrix`."""
    if head == task.base_commit:
        return [[] for _ in patches]
    trees = [Change(task, None, patch).ask(lambda mirror, old, new: new) for patch in patches]
    keys = [_key("fits", task.base_commit, head, tree) for tree in trees]
    found = kept.recall(keys)
    if asked := [tree for tree, key in zip(trees, keys, strict=True) if key not in found]:
        mirror = task.repo.mirror_path
        told = fitting.conflicts(mirror, base_commit=task.base_commit, head=head, trees=asked)
        fresh = {_key("fits", task.base_commit, head, tree): paths for tree, paths in zip(asked, told, strict=True)}
        kept.keep(fresh)
        found = {**found, **fresh}
    return [list(found[key]) for key in keys]


def _key(*parts: str) -> str:
    return f"compare:{hashlib.sha256(chr(0).join((str(_VERSION), *parts)).encode()).hexdigest()}"


def _changes(mirror: Path, old: str, new: str) -> list[changes.Change]:
    key = _key("changes", old, new)
    if (found := kept.recall([key]).get(key)) is None:
        found = changes.changes(mirror, old, new)
        kept.keep({key: found})
    return list(found)


def _matrix(touched: Sequence[Iterable[changes.Change]], order: Order, only: int | None) -> Matrix:
    by_path: dict[str, list[changes.Change | None]] = {}
    for place, its in enumerate(touched):
        for change in its:
            by_path.setdefault(change.old_path, [None] * len(touched))[place] = change
    counts = {path: len(cells) - cells.count(None) for path, cells in by_path.items()}
    alone = Counter(_first(cells) for path, cells in by_path.items() if counts[path] == 1)
    agreed = sum(_is_agreed(cells) for cells in by_path.values())
    wanted = [path for path in by_path if only is None or (counts[path] == 1 and by_path[path][only])]
    wanted.sort(key=lambda path: (-counts[path] if order is Order.TOUCHED else 0, path))
    rows = [_row(path, by_path[path]) for path in wanted[:MOST_ROWS]]
    shared = sum(count > 1 for count in counts.values())
    return Matrix(rows, len(wanted), [alone[place] for place in range(len(touched))], agreed, shared)


def _row(path: str, cells: Sequence[changes.Change | None]) -> Row:
    letters = _letters(cells)
    return Row(anchor_of(path), path, tuple(None if change is None else _cell(change, letters) for change in cells))


def _cell(change: changes.Change, letters: Mapping[tuple[str, str], str]) -> Cell:
    letter = letters.get(_content(change), "")
    return Cell(change.status, change.path, change.additions, change.deletions, change.is_binary, letter)


def _letters(cells: Iterable[changes.Change | None]) -> dict[tuple[str, str], str]:
    """A letter for each content that several runs have, in the order of the runs."""
    counted = Counter(_content(change) for change in cells if change)
    shared = [content for content, count in counted.items() if count > 1]
    return {content: chr(ord("A") + number) for number, content in enumerate(shared)}


def _content(change: changes.Change) -> tuple[str, str]:
    return change.new_mode, change.new_blob


def _is_agreed(cells: Sequence[changes.Change | None]) -> bool:
    return len(cells) > 1 and None not in cells and len({_content(change) for change in cells if change}) == 1


def _first(cells: Sequence[object]) -> int:
    return next(place for place, cell in enumerate(cells) if cell is not None)
