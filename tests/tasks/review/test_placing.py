"""Where commented lines are in a change as it is now."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.comments import Lines
from tasks.git import trees
from tasks.git.changes import Hunk
from tasks.models import Comment, Task, Turn, User
from tasks.review.diffs import anchor, files
from tasks.review.placing import Place, moved, places
from tasks.review.trees import Change
from tests.tasks.review.conftest import Workshop

pytestmark = pytest.mark.django_db
FirstTurn = Callable[[Task], Turn]


@pytest.mark.parametrize(
    ("hunk", "now"),
    [
        (Hunk(0, 0, 0, 2), Lines(12, 14)),  # two lines above
        (Hunk(0, 4, 0, 1), Lines(7, 9)),
        (Hunk(9, 9, 9, 10), Lines(11, 13)),  # right above
        (Hunk(8, 9, 8, 9), Lines(10, 12)),
        (Hunk(9, 10, 9, 10), None),  # the first of them
        (Hunk(11, 12, 11, 11), None),  # the last
        (Hunk(0, 20, 0, 1), None),
        (Hunk(10, 10, 10, 13), Lines(10, 15)),  # new ones among them
        (Hunk(12, 12, 12, 13), Lines(10, 12)),  # right below
        (Hunk(12, 15, 12, 12), Lines(10, 12)),
    ],
)
def test_lines_move_with_what_is_above_them(hunk: Hunk, now: Lines | None) -> None:
    assert moved([hunk], Lines(10, 12)) == now


class Scene:
    """A run's change, turn by turn, and comments on it."""

    def __init__(self, workshop: Workshop, turn: Turn, by: User) -> None:
        self.workshop, self.turn, self.by = workshop, turn, by

    def change(self, new: dict[str, bytes | None]) -> None:
        self.patch = self.workshop.patch(self.turn, new)

    @property
    def whole(self) -> Change:
        return Change(self.workshop.task, None, self.patch)

    def comment(self, path: str, side: str, start: int, end: int) -> Comment:
        file = next(file for file in self.whole.ask(files) if file.path == path)
        blob = file.change.new_blob if side == "new" else file.change.old_blob
        made = {"side": side, "start_line": start, "end_line": end, "blob": blob, "body": "x"}
        return Comment.objects.create(run=self.turn.run, author=self.by, file=file.anchor, path=path, **made)

    def places(self, *comments: Comment) -> list[Place]:
        return self.whole.ask(lambda mirror, old, new: places(mirror, files(mirror, old, new), comments))

    def said(self, *comments: Comment) -> list[tuple[str, Lines | None]]:
        return [(place.file.path if place.file else "", place.lines) for place in self.places(*comments)]


@pytest.fixture
def scene(workshop: Workshop, first_turn: FirstTurn, alice: User) -> Scene:
    task = workshop.base({"a.txt": b"1\n2\n3\n4\n5\n", "old.txt": b"x\n" * 30})
    return Scene(workshop, first_turn(task), alice)


def test_lines_that_changed_are_not_there_any_more_and_others_are_where_they_went(scene: Scene) -> None:
    scene.change({"a.txt": b"1\n2\nthree\n4\n5\n"})
    stays, changes, old = scene.comment("a.txt", "new", 4, 5), scene.comment("a.txt", "new", 2, 3), scene.comment("a.txt", "old", 3, 3)
    assert scene.said(stays, changes, old) == [("a.txt", Lines(4, 5)), ("a.txt", Lines(2, 3)), ("a.txt", Lines(3, 3))]
    scene.change({"a.txt": b"0\n1\n2\nTHREE\n4\n5\n"})
    assert scene.said(stays, changes, old) == [("a.txt", Lines(5, 6)), ("a.txt", None), ("a.txt", Lines(3, 3))]
    assert scene.said(stays, changes, old) == [("a.txt", Lines(5, 6)), ("a.txt", None), ("a.txt", Lines(3, 3))]  # as it was kept


def test_a_file_is_followed_where_it_went_until_it_is_gone(scene: Scene) -> None:
    scene.change({"old.txt": b"x\n" * 29 + b"y\n", "new.txt": b"n\n"})
    old, new = scene.comment("old.txt", "new", 30, 30), scene.comment("new.txt", "new", 1, 1)
    scene.change({"old.txt": None, "moved.txt": b"x\n" * 29 + b"y\n", "new.txt": None, "other.txt": b"n\n"})
    assert scene.said(old, new) == [("moved.txt", Lines(30, 30)), ("other.txt", Lines(1, 1))]
    scene.change({"moved.txt": None, "old.txt": b"x\n" * 30, "other.txt": b"m\n"})
    assert scene.said(old, new) == [("", None), ("", None)]


def test_what_a_checkpoint_had_may_be_lost(scene: Scene) -> None:
    scene.change({"a.txt": b"1\ntwo\n3\n4\n5\n"})
    comment = scene.comment("a.txt", "new", 5, 5)
    scene.change({"a.txt": b"1\nTWO\n3\n4\n5\n"})
    trees.forget(scene.workshop.mirror)
    before = scene.whole.ask(lambda mirror, old, new: trees.place_of(mirror).stat().st_ino)
    assert scene.said(comment) == [("a.txt", None)]
    assert trees.place_of(scene.workshop.mirror).stat().st_ino == before  # nothing else was given up for it
    assert anchor("a.txt") == comment.file
