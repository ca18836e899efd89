"""The files of a run: its workspace as it is while a turn is at work, or as it was after one of its turns.

`path` names a folder by a slash at its end ("" is the workspace) and a file without one; `%` and bytes that are no UTF-8 are written
as %XX in it. `at` is "now", the number of a turn (0: as the run began), or "" for what fits.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes, urlencode

from django.contrib.auth.decorators import login_required
from django.db.models import F
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_safe

from sandboxes.base import Entry, EntryKind
from tasks.errors import AppError
from tasks.git import listing
from tasks.git.changes import contents
from tasks.git.listing import Node
from tasks.models import Patch, Run, Sandbox, User
from tasks.raw import may_be_picture, raw
from tasks.review.trees import Change
from tasks.review.whole import is_text, whole
from tasks.running import browsing, patches
from tasks.web.access import Request
from tasks.web.artifacts import artifacts_of
from tasks.web.changes import says_why
from tasks.web.run import find_run

MOST_ENTRIES = 500  # of a folder on one page
MOST_TEXT = 1024 * 1024  # bytes of a file that is shown
MOST_RAW = 64 * 1024 * 1024
HIGHLIGHT_MS = 2_000
_LONGEST_PATH = 4096
_NOW = "now"
T = TypeVar("T")


@dataclass(frozen=True)
class Shown:
    """An entry of a folder on the page; `kind` is a Sandbox's, or "submodule"."""

    name: str
    kind: str
    size: int
    target: str
    path: str


@dataclass(frozen=True)
class Opened:
    """A file: at most MOST_RAW bytes of it, or as many as were asked for, and its whole size."""

    content: bytes
    size: int
    note: str = ""


@dataclass(frozen=True)
class Asked:
    """What a request is about. `states` are the newest patch of each turn, the newest first; `sandbox` is where a turn is at work."""

    by: User
    run: Run
    path: str
    at: str
    states: Sequence[Patch]
    sandbox: Sandbox | None

    @classmethod
    def of(cls, request: Request, pk: int) -> Asked:
        run = find_run(request, pk)
        newest = run.patches.annotate(turn_number=F("turn__number")).defer("content", "files", "left_out")
        states = list(newest.order_by("-turn_number", "-kind").distinct("turn_number"))
        at = request.GET.get("at", "")
        if at != _NOW and not (at.isdecimal() and len(at) < 9):
            at = ""
        return cls(request.user, run, _path(request.GET.get("path", "")), at, states, browsing.sandbox_of(run))

    @property
    def is_now(self) -> bool:
        """Whether it is about the workspace as it is."""
        return self.sandbox is not None and self.at in ("", _NOW)

    @cached_property
    def state(self) -> Patch | None:
        """What the workspace differs by from the base commit, after the turn that is asked for."""
        before = int(self.at) if self.at.isdecimal() else None
        for patch in self.states:
            if before is None or self.number(patch) <= before:
                return patch
        return patches.after(self.run, before or 0) if self.run.parent_id else None

    @property
    def is_of_turn(self) -> int:
        """The turn whose patch is shown; 0 for none of this run's."""
        state = self.state
        return self.number(state) if state and state.run_id == self.run.pk else 0

    @property
    def folder(self) -> str:
        return self.path if self.path.endswith("/") or not self.path else self.path[: self.path.rfind("/") + 1]

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def crumbs(self) -> list[tuple[str, str]]:
        """Each folder above, and the path itself: its name, its address."""
        ends = [match.end() for match in re.finditer("/", self.path)]
        places = [self.path[:end] for end in ends] + ([] if self.path.endswith("/") or not self.path else [self.path])
        return [(place.rstrip("/").rpartition("/")[2], self.address(place)) for place in places]

    @property
    def up(self) -> str:
        """The address of the folder above; "" at the top."""
        parts = self.path.rstrip("/").split("/")[:-1]
        return self.address("".join(f"{part}/" for part in parts)) if self.path else ""

    def number(self, patch: Patch) -> int:
        return int(patch.turn_number)  # type: ignore[attr-defined]  # annotated

    def address(self, path: str | None = None, name: str = "run-files", **more: Any) -> str:
        query = {"path": encoded(self.path if path is None else path), "at": self.at, **more}
        filled = urlencode({key: value for key, value in query.items() if value})
        return f"{reverse(name, args=[self.run.pk])}{f'?{filled}' if filled else ''}"

    @property
    def now(self) -> str:
        return self.address(at=_NOW)

    @property
    def raw(self) -> str:
        return self.address(name="run-files-raw")

    @property
    def raw_download(self) -> str:
        return self.address(name="run-files-raw", download=1)

    def times(self) -> list[tuple[str, str, bool]]:
        """What else can be looked at, beside now: the label, the address and whether it is shown."""
        shown = None if self.is_now else self.is_of_turn
        numbers = [*(self.number(patch) for patch in self.states[:50]), 0]
        if self.run.is_active and numbers[0] and self.states[0].kind == "checkpoint":
            labels = ["Last checkpoint", *(f"After turn {number}" for number in numbers[1:-1]), "Before the run"]
        else:
            labels = [*(f"After turn {number}" for number in numbers[:-1]), "Before the run"]
        return [(label, self.address(at=number if number else "0"), number == shown) for label, number in zip(labels, numbers, strict=True)]

    # --- asking ---

    def entries(self, first: int) -> tuple[list[Shown], int]:
        """The entries of the folder, and how many there are; else 404."""
        names = self.path.rstrip("/")
        if self.is_now and self.sandbox:
            found = browsing.entries(self.sandbox, names, by=self.by, first=first, most=MOST_ENTRIES)
            if found is None:
                raise Http404
            return [_of_entry(self.path, entry) for entry in found[0]], found[1]

        def ask(mirror: Path, tree: str) -> tuple[list[Node], int] | None:
            node = listing.node(mirror, tree, names)
            return listing.children(mirror, tree, names, first=first, most=MOST_ENTRIES) if node and node.is_folder else None

        nodes = self._of_tree(ask)
        if nodes is None:
            raise Http404
        return [_of_node(self.path, node) for node in nodes[0]], nodes[1]

    def file(self, most: int) -> Opened:
        """The file, without its content when it has more bytes than that; else 404."""
        if self.is_now and self.sandbox:
            found = browsing.content(self.sandbox, self.path, by=self.by, most=most)
            if found is None:
                raise Http404
            return Opened(found[0] if found[1] <= most else b"", found[1])

        def ask(mirror: Path, tree: str) -> Opened | None:
            node = listing.node(mirror, tree, self.path)
            if node is None or node.is_folder:
                return None
            if node.is_link or node.is_submodule:
                said = f"A link to {node.target}" if node.is_link else f"A submodule, at commit {node.object}"
                return Opened(os.fsencode(node.target), node.size, f"{said}. It is not followed.")
            return Opened(contents(mirror, {node.object: node.size}, most=most).get(node.object, b""), node.size)

        if (opened := self._of_tree(ask)) is None:
            raise Http404
        return opened

    def _of_tree(self, question: Callable[[Path, str], T]) -> T:
        return Change(self.run.task, None, self.state).ask(lambda mirror, old, new: question(mirror, new))


def _path(asked: str) -> str:
    """The path that an address names, else 404."""
    path = os.fsdecode(unquote_to_bytes(asked))
    names = path.removesuffix("/").split("/") if path else []
    if len(path) > _LONGEST_PATH or "\0" in path or any(name in ("", ".", "..") for name in names):
        raise Http404
    return path


def encoded(path: str) -> str:
    return re.sub("[%\udc80-\udcff]", lambda match: "%%%02X" % (ord(match[0]) & 0xFF), path)


def _of_entry(folder: str, entry: Entry) -> Shown:
    path = folder + entry.name + ("/" if entry.kind == EntryKind.FOLDER else "")
    return Shown(entry.name, entry.kind.value, entry.size, entry.target, path)


def _of_node(folder: str, node: Node) -> Shown:
    kind = "folder" if node.is_folder else "link" if node.is_link else "submodule" if node.is_submodule else "file"
    return Shown(node.name, kind, node.size, node.target, folder + node.name + ("/" if node.is_folder else ""))


# --- the page -----------------------------------------------------------------------------------------------------------


@login_required
@require_GET
def page(request: Request, pk: int) -> HttpResponse:
    """A folder or a file. What cannot be seen as it is now is shown as of the last checkpoint, and the page says so."""
    asked = Asked.of(request, pk)
    notice = error = ""
    found: dict[str, Any] = {}
    try:
        try:
            found = _found(request, asked)
        except browsing.Unseen as unseen:
            notice = unseen.message
            asked = replace(asked, at=str(asked.number(asked.states[0]) if asked.states else 0))
            found = _found(request, asked)
    except AppError as failure:
        error = failure.message
    context = {"asked": asked, "run": asked.run, "task": asked.run.task, "notice": notice, "error": error, "sandbox": asked.sandbox}
    return render(request, "tasks/files.html", context | found)


def _found(request: Request, asked: Asked) -> dict[str, Any]:
    if asked.path and not asked.path.endswith("/"):
        return _file(asked)
    given = request.GET.get("first", "")
    first = int(given) if given.isdecimal() and len(given) < 9 else 0
    entries, count = asked.entries(first)
    end = first + len(entries)
    return {
        "entries": [(entry, asked.address(entry.path)) for entry in entries],
        "count": count,
        "first": first,
        "end": end,
        "before": asked.address(first=max(0, first - MOST_ENTRIES)) if first else "",
        "after": asked.address(first=end) if end < count else "",
        "left": count - end,
        "artifacts": artifacts_of(asked.run) if not asked.path and not first else [],
    }


def _file(asked: Asked) -> dict[str, Any]:
    opened = asked.file(MOST_TEXT)
    found: dict[str, Any] = {"file": opened}
    if opened.note:
        return found
    if may_be_picture(asked.name, opened.size):
        return found | {"is_picture": True}
    if opened.size > MOST_TEXT:
        return found | {"why": "It is too large to be shown here."}
    if not is_text(opened.content):
        return found | {"why": "It is no text."}
    return found | {"whole": whole(asked.path, opened.content, budget_ms=HIGHLIGHT_MS)}


@login_required
@require_safe
@says_why
def raw_file(request: Request, pk: int) -> HttpResponse:
    """A file's bytes."""
    asked = Asked.of(request, pk)
    if not asked.path or asked.path.endswith("/"):
        raise Http404
    opened = asked.file(MOST_RAW)
    if opened.size > MOST_RAW:
        raise AppError("This file is too large to be downloaded here. Fetch it from the branch, once it is pushed.")
    return raw(opened.content, asked.name, is_download="download" in request.GET)
