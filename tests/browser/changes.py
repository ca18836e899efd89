"""Runs with changes, made as rows: for `manage.py shell`, and for the shell of a `Product`. `make` gives a run, `again` changes it,
`beside` gives its task another one."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings

from tasks.models import EventKind, Run, Task, Turn, User
from tasks.running import events
from tasks.running.patches import changed_files
from tests.tasks.review.conftest import Workshop

Files = dict[str, bytes | None]
_workshops: dict[int, Workshop] = {}


def beside(pk: int, new: Files, **fields: Any) -> int:
    """The id of another run of the same task, that made `new` of the same commit."""
    task, workshop = Run.objects.get(pk=pk).task, _workshops[pk]
    attempt = task.runs.count() + 1
    made = {"agent": "shell", "attempt": attempt, "backend": "local", "branch": f"asynccode/{attempt}", "status": "succeeded"}
    run = Run.objects.create(task=task, **made | fields)
    turn = Turn.objects.create(run=run, number=1, prompt="x", author=task.owner, status=run.status)
    workshop.git("reset", "-q", "--hard")
    workshop.git("clean", "-qfd")
    _workshops[run.pk] = workshop
    _patch(run, turn, new)
    return run.pk


def make(old: Files, new: Files, *, status: str = "succeeded") -> int:
    """The id of a run that made `new` of a commit with `old`."""
    owner = User.objects.filter(is_staff=True).order_by("pk")[0]
    folder = Path(tempfile.mkdtemp(prefix="changes-", dir=settings.LOCAL_REPO_ROOTS[0])) / "shop"

    def make_task(**fields: Any) -> Task:
        return Task.objects.create(owner=owner, title="Retry uploads that fail", prompt="x", base_branch="main", **fields)

    workshop = Workshop(folder, owner, make_task)
    task = workshop.base(old)
    run = Run.objects.create(task=task, agent="shell", attempt=1, backend="local", branch="asynccode/1", status=status)
    turn = Turn.objects.create(run=run, number=1, prompt="x", author=owner, status=status)
    _workshops[run.pk] = workshop
    _patch(run, turn, new)
    return run.pk


def again(pk: int, new: Files) -> None:
    """The run's last turn changes these files, too."""
    run = Run.objects.get(pk=pk)
    _patch(run, run.turns.latest("number"), new)


def _patch(run: Run, turn: Turn, new: Files) -> None:
    patch = _workshops[run.pk].patch(turn, new)
    files = changed_files(bytes(patch.content))
    patch.files = [asdict(file) for file in files]
    patch.additions, patch.deletions = (sum(getattr(file, name) for file in files) for name in ("additions", "deletions"))
    patch.save(update_fields=["files", "additions", "deletions"])
    events.append(run.pk, EventKind.STATUS, {"notice": "The files have changed."}, turn_id=turn.pk)
