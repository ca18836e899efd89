"""The runs of a task compared: figures and files of all side by side, and one file in several of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_GET

from tasks.errors import AppError, RepoUnavailable
from tasks.git.changes import Status
from tasks.models import Patch, Run, Task
from tasks.repositories import mirror_operation
from tasks.review import compare as review
from tasks.review.compare import MOST_RUNS, Matrix, Order, Row
from tasks.review.diffs import File
from tasks.review.render import Form, Options
from tasks.review.render import render as render_files
from tasks.review.trees import Change
from tasks.web.access import Request
from tasks.web.cards import counted_patches, for_cards
from tasks.web.compared import Comparison, Head, add_fits, comparison
from tasks.web.run_choices import choices, comparable

MOST_SHOWN = 200  # files of the matrix on one page
MOST_SIDES = 4  # columns of one file
_HIGHLIGHT_MS = 400.0
_WHOLE = 100_000  # equal lines around a change: all of them
_AROUND = 12  # of a file that is too long to be shown whole
_WHOLE_BYTES = 256 * 1024


def find_task(request: Request, pk: int) -> Task:
    return get_object_or_404(Task.objects.visible_to(request.user).select_related("repo"), pk=pk)


def wanted(request: Request, name: str = "runs") -> list[int]:
    """The runs that the address names, as `1,2,3` or each by itself."""
    words = [word for value in request.GET.getlist(name) for word in value.split(",")]
    return [int(word) for word in words if word.isascii() and word.isdecimal() and len(word) <= 18]


def _runs(request: Request, every: Sequence[Run], task: Task, most: int) -> tuple[list[Run], list[Run], dict[int, Patch]]:
    """Of all runs of a task those with a patch, those that are asked for (else the first that changed something), and the patches."""
    patches = counted_patches([run.pk for run in every])
    able = [run for run in every if run.pk in patches]
    for run in able:
        run.task = task
        patches[run.pk].run = run
    asked = set(wanted(request))
    shown = [run for run in able if run.pk in asked]
    if not shown:
        shown = [run for run in able if patches[run.pk].file_count] or able
    return able, shown[:most], patches


@login_required
@require_GET
def compare(request: Request, pk: int) -> HttpResponse:
    task = find_task(request, pk)
    every = list(for_cards(task.runs.order_by("pk")))
    able, shown, patches = _runs(request, every, task, MOST_RUNS)
    found = comparison(task, shown, patches)
    order = Order.PATH if request.GET.get("order") == Order.PATH else Order.TOUCHED
    matrix, only = _matrix(found, order, wanted(request, "only"))
    start = next(iter(wanted(request, "from")), 0)
    runs = ",".join(str(head.run.pk) for head in found.heads)
    context: dict[str, Any] = {
        "task": task,
        "choices": choices(able, shown),
        "without": [run for run in every if run.pk not in patches],
        "compared": found,
        "rows": _shown_rows(task, found, matrix, start) if matrix else [],
        "matrix": matrix,
        "onlies": list(zip(found.heads, matrix.only, strict=True)) if matrix else [],
        "order": order,
        "only": only,
        "runs": runs,
        "address": f"{request.path}?runs={runs}",
        "next": start + MOST_SHOWN if matrix and start + MOST_SHOWN < len(matrix.rows) else None,
        "operation": mirror_operation(task.repo),
        "chosen": next((run for run in able if run.chosen_at), None),
    }
    return render(request, "tasks/compare.html#table" if request.htmx else "tasks/compare.html", context)


def _matrix(found: Comparison, order: Order, only: Sequence[int]) -> tuple[Matrix | None, Head | None]:
    """The matrix, and the run whose files alone are in it, if its id is asked for. None, and the reason on the comparison, when it
    cannot be made. Runs whose patch does not fit any more are left out."""
    if not found.heads:
        return None, None
    try:
        found.heads = [head for head in found.heads if _fits(found, head)]
        add_fits(found)
        place = next((place for place, head in enumerate(found.heads) if [head.run.pk] == only), None)
        matrix = review.matrix(found.task, found.patches, order=order, only=place)
    except AppError as error:
        found.trouble = error.message
        return None, None
    return matrix, None if place is None else found.heads[place]


def _fits(found: Comparison, head: Head) -> bool:
    try:
        Change(found.task, None, head.patch).ask(lambda *_: None)
    except RepoUnavailable:
        raise
    except AppError as error:
        found.trouble = f"{head.run.label} is left out: {error.message}"
        return False
    return True


@dataclass(frozen=True)
class ShownRow:
    row: Row
    href: str
    only: Run | None

    @property
    def base(self) -> str:
        return self.row.path.rpartition("/")[2]

    @property
    def folder(self) -> str:
        return self.row.path.removesuffix(self.base)


def _shown_rows(task: Task, found: Comparison, matrix: Matrix, start: int) -> list[ShownRow]:
    address = reverse("task-compare-file", args=[task.pk])
    shown = []
    for row in matrix.rows[start : start + MOST_SHOWN]:
        touched = [head.run for head, cell in zip(found.heads, row.cells, strict=True) if cell]
        beside = touched if len(touched) > 1 else [*touched, *(head.run for head in found.heads if head.run not in touched)][:2]
        query = urlencode({"runs": ",".join(str(run.pk) for run in beside[:MOST_SIDES]), "file": row.anchor})
        shown.append(ShownRow(row, f"{address}?{query}", touched[0] if len(touched) == 1 < len(found.heads) else None))
    return shown


# --- one file ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """A column: what a run made of the file. `same` are the other columns' runs that left the same content. `note` says what is to be
    said instead of, or besides, its lines; `gaps` is where those come from that are not shown."""

    number: int
    head: Head
    file: File | None
    letter: str
    same: Sequence[Run]
    html: SafeString
    note: str
    name: str
    gaps: str


@login_required
@require_GET
def compare_file(request: Request, pk: int) -> HttpResponse:
    task = find_task(request, pk)
    try:
        return render(request, "tasks/compare_file.html", _file_context(request, task))
    except AppError:
        return redirect("task-compare", pk)  # which says why


def _file_context(request: Request, task: Task) -> dict[str, Any]:
    able, shown, patches = _runs(request, list(for_cards(task.runs.order_by("pk"))), task, MOST_SIDES)
    if not shown:
        raise Http404
    against = next((run for run in able if [run.pk] == wanted(request, "against")), None)
    anchor = request.GET.get("file", "")
    columns = [run for run in shown if run != against]
    heads = comparison(task, columns, patches).heads
    base = [patches[against.pk]] if against else []
    found = review.row(task, [*(patches[run.pk] for run in columns), *base], anchor)
    if found is None:
        raise Http404
    row, touched = found
    is_whole = "whole" in request.GET
    runs = ",".join(str(run.pk) for run in shown)
    here = urlencode({"runs": runs, "file": anchor, **({"against": against.pk} if against else {})})
    sides = _sides(task, heads, row, touched, base, f"?{here}&whole=1&", is_whole=is_whole)
    every = review.matrix(task, [patches[run.pk] for run in able][:MOST_RUNS])
    anchors = [other.anchor for other in every.rows]
    place = anchors.index(row.anchor) if row.anchor in anchors else -1
    rest = urlencode({"runs": runs, **({"against": against.pk} if against else {})})
    return {
        "task": task,
        "row": row,
        "sides": sides,
        "choices": choices(able, shown),
        "against": against,
        "runs": runs,
        "anchor": anchor,
        "place": place + 1,
        "touched": every.rows[place].touched if place >= 0 else None,
        "total": every.total,
        "previous": f"?{rest}&file={anchors[place - 1]}" if place > 0 else "",
        "next": f"?{rest}&file={anchors[place + 1]}" if 0 <= place < len(anchors) - 1 else "",
    }


def _sides(
    task: Task, heads: Sequence[Head], row: Row, touched: Sequence[File | None], base: Sequence[Patch], gap_href: str, *, is_whole: bool
) -> list[Side]:
    shown: list[File | None] = list(touched[: len(heads)])
    if base:
        there = touched[-1].path if touched[-1] else row.path
        places = [file.path if file else row.path for file in shown]
        shown = [review.between(task, base[0], head.patch, there, place) for head, place in zip(heads, places, strict=True)]
    asked = [file for file in shown if file]
    is_small = all(max(file.old_size, file.new_size) <= _WHOLE_BYTES for file in asked)
    options = Options(Form.SPLIT if len(heads) == 1 else Form.UNIFIED, context=_WHOLE if is_whole or is_small else _AROUND)
    sides = []
    for number, (head, file, cell) in enumerate(zip(heads, shown, row.cells, strict=False), 1):
        html, note = SafeString(), _untouched(bool(base))
        if file:
            rendered = Change(task, base[0] if base else None, head.patch).ask(
                lambda mirror, old, new, file=file: render_files(mirror, [file], options, budget_ms=_HIGHLIGHT_MS, gap_href=gap_href)  # type: ignore[misc]
            )[0]
            note = " ".join(filter(None, [file.note, rendered.note]))
            # Columns may show the same path, and ids are there once.
            html = mark_safe(rendered.html.replace(f"<td id={file.anchor}-", f"<td id=s{number}-"))  # noqa: S308 (as it was)
        letter = cell.letter if cell and not base else ""
        same = [other.run for other, its in zip(heads, row.cells, strict=False) if letter and its and its.letter == letter]
        same = [run for run in same if run != head.run]
        gaps = urlencode({"since": f"run-{base[0].run_id}" if base else "", "form": options.form})
        gaps = f"{reverse('run-changes-gap', args=[head.run.pk])}?{gaps}"
        sides.append(Side(number, head, file, letter, same, html, note, _name(file), gaps))
    return sides


def _untouched(is_between: bool) -> str:
    return "Both have the same here." if is_between else "This run did not touch the file."


def _name(file: File | None) -> str:
    return file.path if file and file.change.status is Status.RENAMED else ""


# --- one run against another --------------------------------------------------------------------------------------------------


@login_required
@require_GET
def compare_trees(request: Request, pk: int) -> HttpResponse:
    """What lies between the states that two runs left, `old` and `new`: a way to look at the changes of the new one."""
    task = find_task(request, pk)
    able = {run.pk for run in comparable(task)}
    old, new = (next((pk for pk in wanted(request, name) if pk in able), None) for name in ("old", "new"))
    if old is None or new is None:
        raise Http404
    return redirect(f"{reverse('run-changes', args=[new])}?since=run-{old}")
