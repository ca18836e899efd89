"""The changes of a run, file by file: their page, and what it fetches later.

What is shown of a run is named by `since`, in all these addresses alike: "" is its whole change, "turn" its last turn, N what came
after turn N, and "run-ID" how it differs from that other run of its task. A file is named by `file`, its anchor.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.db.models import F
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_safe

from tasks import accounts
from tasks.errors import AppError
from tasks.git.changes import contents, patch
from tasks.models import DiffWhitespace, Patch, PullRequest, PullRequestState, Run, User
from tasks.raw import LOCKED, raw
from tasks.review import diffs
from tasks.review.diffs import File
from tasks.review.render import Form, Options, Rendered, gap
from tasks.review.render import render as rendered_of
from tasks.review.search import search
from tasks.review.trees import Change
from tasks.review.viewed import mark, viewed
from tasks.web.access import Request, View, action
from tasks.web.changed_files import Shown, tree_of
from tasks.web.commented import Comments, standing
from tasks.web.forms import VerbForm, can_steer
from tasks.web.run import find_run
from tasks.web.run_choices import choices, comparable

MOST_FILES = 300  # on one page
MOST_AT_ONCE = 20  # files whose lines are fetched together
MOST_WORDS = 200  # characters that are searched for
MOST_RAW = 64 * 1024 * 1024  # bytes of a version of a file
PAGE_MS, LATER_MS, AGAIN_MS = 50, 400, 4_000  # for highlighting: with the page, as one scrolls, and when nothing else is to do


@dataclass(frozen=True)
class Asked:
    """What a request is about. `patches` are the run's, the newest first, one a turn; `other` is what the run that this one is held
    against has left, with its `run`."""

    run: Run
    patches: Sequence[Patch]
    since: str
    options: Options
    other: Patch | None = None

    @classmethod
    def of(cls, request: Request, pk: int) -> Asked:
        run = find_run(request, pk)
        newest = run.patches.annotate(turn_number=F("turn__number")).defer("content", "files", "left_out")
        patches = newest.order_by("-turn_number", "-kind").distinct("turn_number")
        user = request.user
        # A phone has no room for two sides, whatever its user chose elsewhere.
        form = Form.UNIFIED if "Mobi" in request.headers.get("User-Agent", "") else Form(user.diff_form)
        options = Options(form, user.diff_whitespace)
        since = _since((request.POST or request.GET).get("since", ""))
        return cls(run, list(patches), since, options, _other(run, since))

    @property
    def patch(self) -> Patch | None:
        return self.patches[0] if self.patches else None

    @property
    def before(self) -> Patch | None:
        """What the change begins at; None is the base commit."""
        if self.other is not None:
            return self.other
        earlier = self.patches[1:]
        if self.since.isdecimal():
            earlier = [each for each in earlier if self.number(each) <= int(self.since)]
        return earlier[0] if self.since and earlier else None

    @property
    def change(self) -> Change:
        if self.patch is None:
            raise Http404
        return Change(self.run.task, self.before, self.patch)

    @property
    def version(self) -> str:
        return "-".join(f"{patch.pk}-{patch.sha256[:16]}" for patch in (self.patch, self.other) if patch)

    @property
    def earlier_turns(self) -> list[int]:
        """Turns since which the change can be looked at, beside the last one."""
        return [self.number(each) for each in self.patches[2:]]

    def number(self, patch: Patch) -> int:
        return int(patch.turn_number)  # type: ignore[attr-defined]  # annotated

    def address(self, name: str = "run-changes", **more: str) -> str:
        """With a query, which "&" goes on with."""
        query = urlencode({key: value for key, value in {"since": self.since, **more}.items() if value})
        return f"{reverse(name, args=[self.run.pk])}?{query}"

    def files(self) -> list[File]:
        return self.change.ask(diffs.files)

    def file(self, anchor: str) -> File:
        """The changed file of this anchor, else 404."""
        for file in self.files():
            if file.anchor == anchor:
                return file
        raise Http404

    def comments(self, user: User, files: Sequence[File]) -> Comments:
        """What is said of these files, which are all of the change; nothing where the run is held against another."""
        return Comments.of(self.run, user, self.change, files, is_whole=not self.since) if self.other is None else Comments()

    def tables(self, files: Sequence[File], budget_ms: float) -> list[Rendered]:
        gap_href = f"{self.address('run-changes-gap')}&"

        def ask(mirror: Path, old: str, new: str) -> list[Rendered]:
            return rendered_of(mirror, files, self.options, budget_ms=budget_ms, gap_href=gap_href)

        return self.change.ask(ask)


_OTHER_RUN = re.compile(r"run-(\d{1,18})", re.ASCII)


def _since(asked: str) -> str:
    return asked if asked == "turn" or (asked.isdecimal() and len(asked) < 9) or _OTHER_RUN.fullmatch(asked) else ""


def _other(run: Run, since: str) -> Patch | None:
    """What the run that `since` names has left; 404 when that is none of the task's, or has left nothing."""
    named = _OTHER_RUN.fullmatch(since)
    if named is None:
        return None
    patches = Patch.objects.filter(run=int(named[1]), run__task=run.task_id).select_related("run").defer("content", "files", "left_out")
    if (patch := patches.order_by("-turn__number", "-kind").first()) is None:
        raise Http404
    return patch


def says_why(view: View) -> View:
    """A view that answers with one sentence when the change cannot be read."""

    @wraps(view)
    def wrapped(request: Request, pk: int) -> HttpResponse:
        try:
            return view(request, pk)
        except AppError as error:
            return HttpResponse(error.message, status=503, content_type="text/plain; charset=utf-8")

    return wrapped


# --- the page -----------------------------------------------------------------------------------------------------------


@login_required
@require_GET
def page(request: Request, pk: int) -> HttpResponse:
    """The page from `file` on, or from the top; or whether there is news ("news"), for its scripts."""
    asked = Asked.of(request, pk)
    if request.htmx and request.htmx.target == "news":
        return _news(request, asked)
    return show(request, asked)


def _news(request: Request, asked: Asked) -> HttpResponse:
    """Whether the change is another than the page has, or else a comment stands otherwise."""
    context: dict[str, Any] = {"asked": asked, "seen": request.GET.get("seen", ""), "said": request.GET.get("said")}
    if asked.patch is None:
        return HttpResponse(status=204)
    if context["seen"] != asked.version:
        files = Patch.objects.values_list("files", flat=True).get(pk=asked.patch.pk)
        return render(request, "tasks/changes.html#newer", context | {"patch": asked.patch, "file_count": len(files)})
    if context["said"] is None or context["said"] == standing(asked.run, request.user):
        return HttpResponse(status=204)
    return render(request, "tasks/changes.html#newer", context)


def show(request: Request, asked: Asked, *, send_form: VerbForm | None = None) -> HttpResponse:
    """The page; `send_form` is that of drafts that could not be sent."""
    context: dict[str, Any] = {"asked": asked, "run": asked.run, "task": asked.run.task, "patch": asked.patch}
    context |= {"last_seq": asked.run.next_seq - 1, "send_form": send_form, "whitespaces": DiffWhitespace.choices}
    if asked.other is not None:
        context["choices"] = choices(comparable(asked.run.task), ())
    if asked.patch is not None:
        try:
            context |= _page(request, asked)
        except AppError as error:
            context["error"] = error.message
    return render(request, "tasks/changes.html", context, status=422 if send_form else 200)


def drafts_context(asked: Asked, comments: Comments) -> dict[str, Any]:
    """What the list of drafts is made of; `pull` is a pull request that they could be posted to."""
    pulls = PullRequest.objects.filter(run=asked.run, state__in=(PullRequestState.DRAFT, PullRequestState.OPEN))
    return {"comments": comments, "pull": pulls.first() if comments.drafts else None, "can_steer": can_steer(asked.run)}


def _page(request: Request, asked: Asked) -> dict[str, Any]:
    files = asked.files()
    start = next((at for at, file in enumerate(files) if file.anchor == request.GET.get("file")), None)
    first = (start or 0) - (start or 0) % MOST_FILES
    here = files[first : first + MOST_FILES]
    later = files[start or 0 : first + MOST_FILES]
    seen = viewed(user=request.user, run=asked.run)
    # A file that was asked for comes whatever it is. Those that were viewed start closed, so they need not come.
    chosen = later[:1] if start is not None else []
    open_ones = [file for file in later[len(chosen) :] if file.digest not in seen]
    coming = chosen + ([] if chosen and chosen[0].is_large else diffs.first_screen(open_ones))
    tables = dict(zip((file.anchor for file in coming), asked.tables(coming, PAGE_MS), strict=True))
    comments = asked.comments(request.user, files)
    shown = [Shown(file, tables.get(file.anchor), file.digest in seen, comments.by_file.get(file.anchor, ())) for file in here]
    return {
        **drafts_context(asked, comments),
        "files": shown,
        "tree": tree_of(shown),
        "count": len(files),
        "viewed_count": sum(file.digest in seen for file in files),
        "additions": sum(file.change.additions for file in files),
        "deletions": sum(file.change.deletions for file in files),
        "chosen": chosen[0].anchor if chosen else "",
        "first": first + 1,
        "last": first + len(here),
        "previous": files[first - MOST_FILES] if first else None,
        "next": files[first + MOST_FILES] if first + MOST_FILES < len(files) else None,
    }


@login_required
@require_GET
@says_why
def files(request: Request, pk: int) -> HttpResponse:
    """The lines of the files that are asked for; with `again`, there is time to highlight all."""
    asked = Asked.of(request, pk)
    wanted = set(request.GET.getlist("file")[:MOST_AT_ONCE])
    found = [file for file in asked.files() if file.anchor in wanted]
    tables = asked.tables(found, AGAIN_MS if "again" in request.GET else LATER_MS)
    shown = [Shown(file, table, is_viewed=False) for file, table in zip(found, tables, strict=True)]
    return render(request, "tasks/changed_bodies.html", {"asked": asked, "run": asked.run, "files": shown})


@login_required
@require_GET
@says_why
def gap_lines(request: Request, pk: int) -> HttpResponse:
    """Equal lines between changes: rows for scripts, else a page. `form` is that of the table they belong to, where it is not the
    user's."""
    asked = Asked.of(request, pk)
    places = [request.GET.get(name, "") for name in ("old", "new", "lines")]
    if not all(place.isdecimal() and len(place) < 9 for place in places):
        raise Http404
    file = asked.file(request.GET.get("file", ""))
    old, new, lines = map(int, places)
    form = request.GET.get("form", "")
    options = replace(asked.options, form=Form(form)) if form in list(Form) else asked.options
    rows = asked.change.ask(lambda mirror, *_: gap(mirror, file, old, new, lines, options, budget_ms=LATER_MS))
    if request.htmx:
        return HttpResponse(f"<table>{rows.html}</table>")
    context = {
        "asked": asked,
        "run": asked.run,
        "task": asked.run.task,
        "file": file,
        "rows": rows.html,
        "start": new,
        "end": new + lines - 1,
    }
    return render(request, "tasks/changes_gap.html", context)


@login_required
@require_GET
def found(request: Request, pk: int) -> HttpResponse:
    """Where in the whole change the words `q` are."""
    asked = Asked.of(request, pk)
    words = request.GET.get("q", "").strip()[:MOST_WORDS]
    context = {"asked": asked, "run": asked.run, "task": asked.run.task, "words": words}
    if words and asked.patch:
        try:
            files = asked.files()
            context["found"] = asked.change.ask(lambda mirror, *_: list(search(mirror, files, words)))
        except AppError as error:
            context["error"] = error.message
    return render(request, "tasks/changes_found.html#found" if request.htmx else "tasks/changes_found.html", context)


# --- bytes --------------------------------------------------------------------------------------------------------------


@login_required
@require_safe
@says_why
def blob(request: Request, pk: int) -> HttpResponse:
    """A file as it was (`side=old`) or is. Only what is a picture for sure is shown as one; all else is plain text."""
    asked = Asked.of(request, pk)
    file = asked.file(request.GET.get("file", ""))
    is_old = request.GET.get("side") == "old"
    change = file.change
    name, size, path = (change.old_blob, file.old_size, change.old_path) if is_old else (change.new_blob, file.new_size, change.path)
    content = asked.change.ask(lambda mirror, *_: contents(mirror, {name: size}, most=MOST_RAW)).get(name) if name else None
    if content is None or change.is_submodule:
        raise Http404
    return raw(content, path.rpartition("/")[2], is_download="download" in request.GET)


@login_required
@require_safe
@says_why
def download(request: Request, pk: int) -> HttpResponse:
    """What is shown as a patch. Its bytes are the agent's: plain text, never sniffed."""
    asked = Asked.of(request, pk)
    content = asked.change.ask(patch)
    name = f"run-{pk}{f'-since-{asked.since}' if asked.since else ''}.patch"
    headers = LOCKED | ({"Content-Disposition": f'attachment; filename="{name}"'} if "download" in request.GET else {})
    return HttpResponse(content, content_type="text/plain; charset=utf-8", headers=headers)


# --- what is remembered -------------------------------------------------------------------------------------------------


@action("run-changes")
def view_file(request: Request, pk: int) -> HttpResponse:
    """Mark a file as viewed, or with an empty `viewed` as not. 409: it has changed since the page was made."""
    asked = Asked.of(request, pk)
    file = asked.file(request.POST.get("file", ""))
    if file.digest != request.POST.get("digest"):
        return HttpResponse("This file has changed since. Look at it again.", status=409, content_type="text/plain; charset=utf-8")
    mark(user=request.user, run=asked.run, file=file, is_viewed=bool(request.POST.get("viewed")))
    return HttpResponse(status=204) if request.htmx else redirect(f"{asked.address(file=file.anchor)}#{file.anchor}")


@action("run-changes")
def look(request: Request, pk: int) -> HttpResponse:
    """How differences are shown from now on: `form`, and the `whitespace` that is hidden. What is not sent stays as it is."""
    asked = Asked.of(request, pk)
    sent: QueryDict = request.POST
    user = request.user
    accounts.set_diff(user=user, form=sent.get("form", user.diff_form), whitespace=sent.get("whitespace", user.diff_whitespace))
    at = sent.get("at", "")
    return redirect(f"{asked.address(file=at)}#{at}" if at.isalnum() else asked.address())
