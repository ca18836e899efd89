"""The runs of a task side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from django.http import Http404
from ninja import Query, Router

from tasks.api import runs as run_views
from tasks.api import schemas
from tasks.api.auth import Request
from tasks.api.finding import find_task
from tasks.api.paging import Id, address
from tasks.errors import AppError
from tasks.git import mirrors
from tasks.models import Patch, Run, Task
from tasks.review import compare, times
from tasks.review.compare import MOST_ROWS, MOST_RUNS, Matrix, Order

router = Router(tags=["comparisons"])
_Runs = Annotated[list[int], Query(max_length=MOST_RUNS, description="Ids of the task's runs, repeated; all that have a patch, if none.")]


@router.get("/tasks/{int:task_id}/comparison", response=schemas.Comparison, operation_id="compare_runs", summary="Compare a task's runs")
def compare_runs(
    request: Request,
    task_id: Id,
    runs: _Runs = [],  # noqa: B006 (never changed)
    order: Annotated[Literal["touched", "path"], Query(description="touched: files that most runs touched first.")] = "touched",
    start: Annotated[int, Query(ge=0, le=MOST_ROWS)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 200,
) -> schemas.Comparison:
    """Which run did what to which file, with the figures of each; which conflict with the base branch as it is now."""
    task = find_task(request, task_id)
    compared, patches = _compared(task, runs)
    matrix = compare.matrix(task, patches, order=Order(order)) if patches else Matrix([], 0, [], 0, 0)
    end = start + limit
    return schemas.Comparison(
        runs=_figures(task, compared, patches, matrix),
        files=[_file(row) for row in matrix.rows[start:end]],
        total=matrix.total,
        agreed=matrix.agreed,
        shared=matrix.shared,
        next=address(request, start=end) if end < len(matrix.rows) else None,
    )


def _compared(task: Task, wanted: Sequence[int]) -> tuple[list[Run], list[Patch]]:
    """The runs to be compared, with the newest patch of each."""
    every = list(task.runs.order_by("pk"))
    if set(wanted) - {run.pk for run in every}:
        raise Http404
    patches = {patch.run_id: patch for patch in Patch.objects.newest_of(every).counted()}
    able = [run for run in every if run.pk in patches and (not wanted or run.pk in wanted)][:MOST_RUNS]
    for run in able:
        run.task = task
        patches[run.pk].run = run
    return able, [patches[run.pk] for run in able]


def _figures(task: Task, runs: Sequence[Run], patches: Sequence[Patch], matrix: Matrix) -> list[schemas.Compared]:
    took, conflicts = times.times_of(runs), _conflicts(task, patches)
    return [
        schemas.Compared(run=run, only=only, first_edit_s=took[run.id].first_edit, total_s=took[run.id].total, conflicts=its)
        for run, only, its in zip(run_views.shown(runs), matrix.only, conflicts, strict=True)
    ]


def _conflicts(task: Task, patches: Sequence[Patch]) -> Sequence[list[str] | None]:
    try:
        return compare.conflicts(task, mirrors.resolve(task.repo.mirror_path, task.base_branch), patches)
    except AppError:
        return [None] * len(patches)


def _file(row: compare.Row) -> schemas.ComparedFile:
    cells = [None if cell is None else schemas.Cell(**cell._asdict() | {"status": cell.status.value}) for cell in row.cells]
    return schemas.ComparedFile(path=row.path, is_agreed=row.is_agreed, cells=cells)
