"""Which trees a change lies between: made of patches when they are first asked for, and made again when they were lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tasks.git import trees
from tasks.models import Patch, Task

T = TypeVar("T")


def tree_of(patch: Patch) -> str:
    """The tree that a patch gives, ready to be asked about. Errors: AppError (it does not fit), RepoUnavailable."""
    return _tree(patch, Task.objects.select_related("repo").get(runs=patch.run_id))


@dataclass(frozen=True)
class Change:
    """From one state of a task's repository to another, each a patch or None, which is the base commit as it is.

    The whole change of a run is None → its patch, its last turn the patch of the turn before → its patch, and one run against
    another is patch → patch.
    """

    task: Task
    old: Patch | None
    new: Patch | None

    def ask(self, question: Callable[[Path, str, str], T]) -> T:
        """The answer to a question about mirror, old tree and new tree; it is asked again when these turned out to be lost."""
        try:
            return self._ask(question)
        except trees.TreesLost:
            return self._ask(question)

    def _ask(self, question: Callable[[Path, str, str], T]) -> T:
        old, new = (self.task.base_commit if patch is None else _tree(patch, self.task) for patch in (self.old, self.new))
        return question(self.task.repo.mirror_path, old, new)


def _tree(patch: Patch, task: Task) -> str:
    mirror = task.repo.mirror_path
    if trees.has(mirror, patch.tree):
        return patch.tree
    # Together, and not from the caller's row: a later checkpoint may have taken its place.
    content, sha256 = Patch.objects.values_list("content", "sha256").get(pk=patch.pk)
    tree = trees.tree_of(mirror, base_commit=task.base_commit, patch=bytes(content))
    Patch.objects.filter(pk=patch.pk, sha256=sha256).exclude(tree=tree).update(tree=tree)
    if patch.sha256 == sha256:
        patch.tree = tree
    return tree
