"""A patch's tree is made when it is asked for, remembered, and made again when it was lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_django import Settings

from tasks.errors import RepoUnavailable
from tasks.git import changes, mirrors, trees
from tasks.models import Patch, PatchKind, Task, Turn, User
from tasks.review.trees import Change, tree_of
from tests.tasks.review.conftest import Workshop

FirstTurn = Callable[[Task], Turn]


def paths(change: Change) -> list[str]:
    return [found.path for found in change.ask(changes.changes)]


def test_whole_change_last_turn_and_run_against_run_are_one_question(workshop: Workshop, first_turn: FirstTurn) -> None:
    task = workshop.base({"a": b"1\n", "b": b"1\n", "c": b"1\n"})
    one = first_turn(task)
    first = workshop.patch(one, {"a": b"2\n"})
    second = workshop.patch(Turn.objects.create(run=one.run, number=2, prompt="more", author=task.owner), {"b": b"2\n"})
    other = workshop.patch(first_turn(task), {"a": b"1\n", "c": b"2\n"})
    assert paths(Change(task, None, second)) == ["a", "b"]
    assert paths(Change(task, first, second)) == ["b"]
    assert paths(Change(task, second, other)) == ["a", "c"]
    assert paths(Change(task, None, None)) == []


def test_a_tree_is_remembered_and_made_again_when_it_was_lost(workshop: Workshop, first_turn: FirstTurn) -> None:
    task = workshop.base({"a": b"1\n"})
    patch = workshop.patch(first_turn(task), {"a": b"2\n"})
    assert tree_of(patch) == workshop.tree()
    patch.refresh_from_db()
    assert patch.tree == workshop.tree()
    shutil.rmtree(trees.place_of(workshop.mirror))
    assert paths(Change(task, None, patch)) == ["a"]
    torn = trees.place_of(workshop.mirror) / "objects" / patch.tree[:2] / patch.tree[2:]
    torn.chmod(0o600)
    torn.write_bytes(b"")
    assert paths(Change(task, None, patch)) == ["a"]


def test_a_mirror_that_this_host_does_not_have_is_fetched(
    workshop: Workshop, first_turn: FirstTurn, alice: User, settings: Settings, tmp_path: Path
) -> None:
    alice.is_staff, settings.LOCAL_REPO_ROOTS = True, [tmp_path]
    alice.save()
    task = workshop.base({"a": b"1\n"})
    patch = workshop.patch(first_turn(task), {"a": b"2\n"})
    mirrors.remove(workshop.mirror)
    assert paths(Change(task, None, patch)) == ["a"]
    mirrors.remove(workshop.mirror)
    assert paths(Change(task, None, None)) == []
    mirrors.remove(workshop.mirror)
    assert tree_of(patch) == workshop.tree()
    mirrors.remove(workshop.mirror)
    task.base_commit = "a" * 40  # which the source has no more
    with pytest.raises(RepoUnavailable, match="no longer has the commit"):
        paths(Change(task, None, patch))


def test_what_replaced_a_checkpoint_is_what_is_remembered(workshop: Workshop, first_turn: FirstTurn) -> None:
    turn = first_turn(workshop.base({"a": b"1\n"}))
    old = workshop.patch(turn, {"a": b"2\n"}, PatchKind.CHECKPOINT)
    read, before = Patch.objects.get(), tree_of(old)
    workshop.patch(turn, {"a": b"3\n"}, PatchKind.CHECKPOINT)
    assert Patch.objects.get().tree == ""
    assert tree_of(read) == workshop.tree()  # its content is no longer to be had
    assert Patch.objects.get().tree == workshop.tree()
    assert tree_of(old) == before
