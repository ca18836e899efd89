"""Which trees a change lies between: made of patches when they are first asked for, and made again when they were lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tasks.errors import RepoUnavailable
from tasks.git import mirrors, trees
from tasks.models import Patch, Task
from tasks.running import operations

T = TypeVar("T")


def tree_of(patch: Patch) -> str:
    """The tree that a patch gives, ready to be asked about. Errors: AppError (it does not fit), RepoUnavailable."""
    task = Task.objects.select_related("repo").get(runs=patch.run_id)
    return _with_mirror(task, lambda: _tree(patch, task))


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
        return _with_mirror(self.task, lambda: self._ask(question))

    def _ask(self, question: Callable[[Path, str, str], T]) -> T:
        old, new = (self.task.base_commit if patch is None else _tree(patch, self.task) for patch in (self.old, self.new))
        return question(self.task.repo.mirror_path, old, new)


def _with_mirror(task: Task, ask: Callable[[], T]) -> T:
    """Ask again when trees were lost, and when the mirror on this host does not know the base commit (any more): then it is fetched."""
    try:
        return ask()
    except RepoUnavailable as error:
        if not isinstance(error, trees.TreesLost) and mirrors.has(task.repo.mirror_path, task.base_commit):
            raise
    operations.ensure_mirror(task.repo, task.base_commit)
    return ask()


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
