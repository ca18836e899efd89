"""Runs of a task side by side, in trees of a real repository."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tasks.git.changes import Change, Status
from tasks.models import Patch, Task, Turn
from tasks.review import compare
from tasks.review.compare import MOST_ROWS, Order, matrix
from tasks.review.diffs import anchor
from tests.tasks.review.conftest import Workshop

pytestmark = pytest.mark.django_db
LONG = b"".join(b"line %d\n" % number for number in range(40))


@pytest.fixture
def patch_of(workshop: Workshop, first_turn: Callable[[Task], Turn]) -> Callable[[dict[str, bytes | None]], Patch]:
    """What a new run leaves when it makes these changes to the base commit."""

    def make(files: dict[str, bytes | None]) -> Patch:
        workshop.git("reset", "-q", "--hard")
        workshop.git("clean", "-qfd")
        return workshop.patch(first_turn(workshop.task), files)

    return make


def test_who_touched_what(workshop: Workshop, patch_of: Callable[[dict[str, bytes | None]], Patch]) -> None:
    task = workshop.base({"both": b"1\n", "same": b"1\n", "gone": b"1\n", "z": b"1\n"})
    first = patch_of({"both": b"2\n", "same": b"3\n", "gone": None, "only": b"x\n"})
    second = patch_of({"both": b"2\n2\n", "same": b"3\n", "gone": None, "z": b"\0"})
    found = matrix(task, [first, second])
    assert [row.path for row in found.rows] == ["both", "gone", "same", "only", "z"]
    both, gone, same, only, z = found.rows
    assert [cell and (cell.additions, cell.deletions, cell.letter) for cell in both.cells] == [(1, 1, ""), (2, 1, "")]
    assert [cell and (cell.status, cell.letter) for cell in gone.cells] == [(Status.DELETED, "A"), (Status.DELETED, "A")]
    assert same.is_agreed
    assert not both.is_agreed
    assert (only.only, z.only) == (0, 1)
    assert z.cells[1]
    assert z.cells[1].is_binary
    assert (found.total, found.only, found.agreed, found.shared) == (5, [1, 1], 2, 3)
    assert [row.path for row in matrix(task, [first, second], order=Order.PATH).rows] == ["both", "gone", "only", "same", "z"]
    assert [row.path for row in matrix(task, [first, second], only=1).rows] == ["z"]


def test_a_letter_for_each_content_that_several_have(workshop: Workshop, patch_of: Callable[[dict[str, bytes | None]], Patch]) -> None:
    task = workshop.base({"f": b"0\n"})
    found = matrix(task, [patch_of({"f": content}) for content in (b"1\n", b"2\n", b"1\n", b"3\n", b"2\n")])
    assert [cell and cell.letter for cell in found.rows[0].cells] == ["A", "B", "A", "", "B"]
    assert not found.rows[0].is_agreed
    assert not matrix(task, [patch_of({"f": content}) for content in (b"1\n", b"1\n", b"2\n")]).rows[0].is_agreed


def test_a_rename_and_an_edit_of_one_file_are_one_row(workshop: Workshop, patch_of: Callable[[dict[str, bytes | None]], Patch]) -> None:
    task = workshop.base({"old.py": LONG})
    renamed = patch_of({"old.py": None, "new.py": LONG + b"more\n"})
    edited = patch_of({"old.py": LONG + b"more\n"})
    rows = matrix(task, [renamed, edited]).rows
    assert [(row.path, [cell and (cell.status, cell.path) for cell in row.cells]) for row in rows] == [
        ("old.py", [(Status.RENAMED, "new.py"), (Status.MODIFIED, "old.py")])
    ]
    assert [cell and cell.letter for cell in rows[0].cells] == ["A", "A"]  # in different places, but the same content
    found = compare.row(task, [renamed, edited], rows[0].anchor)
    assert found
    assert found[0] == rows[0]
    assert compare.row(task, [renamed, edited], anchor("new.py")) == found
    assert compare.row(task, [renamed, edited], "f0") is None
    moved = compare.between(task, renamed, edited, "new.py", "old.py")
    assert moved
    assert (moved.change.status, moved.change.old_path, moved.path) == (Status.RENAMED, "new.py", "old.py")
    assert compare.between(task, edited, edited, "old.py", "old.py") is None


def test_which_conflict_with_what_the_branch_holds_now(workshop: Workshop, patch_of: Callable[[dict[str, bytes | None]], Patch]) -> None:
    task = workshop.base({"f": b"1\n", "g": b"1\n"})
    f, g, nothing = patch_of({"f": b"2\n"}), patch_of({"g": b"2\n"}), patch_of({})
    assert compare.conflicts(task, task.base_commit, [f, g]) == [[], []]
    workshop.git("reset", "-q", "--hard")
    workshop.base({"f": b"3\n"})
    head = workshop.task.base_commit
    assert compare.conflicts(task, head, [f, g, nothing]) == [["f"], [], []]
    assert compare.conflicts(task, head, [f, g, nothing]) == [["f"], [], []]  # as it was kept


def test_thousands_of_files_in_many_runs_are_bounded() -> None:
    one = [Change(Status.ADDED, f"{n:05}", f"{n:05}", "", "100644", "", f"{n:040x}", additions=1) for n in range(10_000)]
    began = time.process_time()
    found = compare._matrix([one] * 20, Order.TOUCHED, None)
    assert time.process_time() - began < 3
    assert (len(found.rows), found.total, found.agreed) == (MOST_ROWS, 10_000, 10_000)
