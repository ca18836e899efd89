"""Comments on a run's changes: written, edited, deleted, and sent together. Each answers scripts with what it has changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from tasks import comments
from tasks.comments import MOST_BODY, Lines
from tasks.errors import AppError
from tasks.models import Comment, CommentSide, Run, Turn, User
from tasks.web.access import Request, action
from tasks.web.changes import Asked, drafts_context, show
from tasks.web.commented import Commented, Comments, sides_of, signed
from tasks.web.forms import ScriptField, VerbForm

_EMPTY = {"required": "The comment is empty."}


class CommentForm(VerbForm):
    """`seen` is `commented.signed` of the file as the user saw it."""

    seen = forms.CharField(widget=forms.HiddenInput)
    side = forms.ChoiceField(choices=[(CommentSide.NEW, "as it is now"), (CommentSide.OLD, "as it was before")], label="Side")
    start = forms.IntegerField(min_value=1, max_value=2**31 - 1, label="First line")
    end = forms.IntegerField(min_value=1, max_value=2**31 - 1, label="Last line")
    body = ScriptField(rows=3, label="Comment", max_length=MOST_BODY, error_messages=_EMPTY)

    def submit(self, *, run: Run, by: User) -> Comment | None:
        return self.attempt(lambda: self._draft(run, by))

    def _draft(self, run: Run, by: User) -> Comment:
        said = self.cleaned_data
        lines = Lines(said["start"], said["end"])
        return comments.draft(run=run, by=by, sides=sides_of(said["seen"]), side=said["side"], lines=lines, body=said["body"])


class EditForm(VerbForm):
    body = ScriptField(rows=3, label="Comment", max_length=MOST_BODY, error_messages=_EMPTY)

    def submit(self, *, comment: Comment, by: User) -> bool:
        self.attempt(lambda: comments.edit(comment=comment, by=by, body=self.cleaned_data["body"]))
        return not self.errors


class SendForm(VerbForm):
    """`drafts` are those that the user saw in the list."""

    message = ScriptField(rows=2, label="Message", required=False, placeholder="What is to be said before them, if anything")

    def submit(self, *, asked: Asked, by: User) -> Turn | None:
        ids = {int(each) for each in self.data.getlist("drafts") if each.isdecimal() and len(each) < 19}  # type: ignore[attr-defined]
        now = "now" in self.data
        return self.attempt(
            lambda: comments.send(
                run=asked.run, by=by, ids=ids, message=self.cleaned_data["message"], now=now, moved=_moved(asked, by) if ids else {}
            )
        )


def _moved(asked: Asked, user: User) -> dict[int, Lines | None]:
    """Where the lines of the drafts are by now. Nothing where the change cannot be read: their old numbers are better than no sending."""
    whole = replace(asked, since="", other=None)
    if whole.patch is None:
        return {}
    try:
        found = whole.comments(user, whole.files())
    except AppError:
        return {}
    return {each.comment.pk: each.place.lines for each in found.drafts}


# --- one comment --------------------------------------------------------------------------------------------------------


@action("run-changes", asks=True)
def write(request: Request, pk: int) -> HttpResponse:
    """A page with a form for a comment on `file`, on GET; the comment is made on POST."""
    asked = Asked.of(request, pk)
    if request.method == "POST":
        form = CommentForm(request.POST)
        made = form.submit(run=asked.run, by=request.user)
        if made is not None:
            return _done(request, asked, made)
        name = request.POST.get("file", "")
    else:
        file = asked.file(request.GET.get("file", ""))
        if not file.has_rows:
            raise Http404
        side = CommentSide.NEW if file.change.new_blob else CommentSide.OLD
        form = CommentForm(initial={"seen": signed(file), "side": side, "start": 1, "end": 1})
        name = file.anchor
    return _form(request, asked, form, name, path=_path(form))


def _path(form: CommentForm) -> str:
    try:
        return sides_of(form["seen"].value() or "").path
    except AppError:
        return ""


@action("run-changes")
def edit(request: Request, pk: int, number: int) -> HttpResponse:
    asked = Asked.of(request, pk)
    comment = _draft(request, asked.run, number)
    form = EditForm(request.POST)
    if form.submit(comment=comment, by=request.user):
        return _done(request, asked, comment)
    return _form(request, asked, form, comment.file, path=comment.path, comment=comment)


@action("run-changes")
def delete(request: Request, pk: int, number: int) -> HttpResponse:
    asked = Asked.of(request, pk)
    comment = _draft(request, asked.run, number)
    place = next((each for each in _all(request, asked).drafts if each.comment.pk == comment.pk), None)
    comments.delete(comment=comment, by=request.user)
    return _done(request, asked, comment, was=place)


def _draft(request: Request, run: Run, number: int) -> Comment:
    """One's own comment of this run, a draft or not any more; else 404."""
    return get_object_or_404(Comment.objects.filter(run=run, author=request.user).select_related("run", "turn"), pk=number)


def _all(request: Request, asked: Asked) -> Comments:
    return asked.comments(request.user, asked.files()) if asked.patch is not None else Comments()


def _form(request: Request, asked: Asked, form: VerbForm, file: str, **more: Any) -> HttpResponse:
    context = {"asked": asked, "run": asked.run, "task": asked.run.task, "form": form, "file": file, **more}
    template = "tasks/comment_edit.html" if "comment" in more else "tasks/comment_form.html"
    if not request.htmx:
        context["template"] = template
        template = "tasks/comment_page.html"
    return render(request, template, context, status=422 if form.errors else 200)


def _done(request: Request, asked: Asked, comment: Comment, *, was: Commented | None = None) -> HttpResponse:
    """For scripts the comments of the file and the list of drafts as they are now, else the file's place on the page. `was` is a
    comment that is deleted."""
    if not request.htmx:
        at = comment.file if was else f"comment-{comment.pk}"
        return redirect(f"{asked.address(file=comment.file)}#{at}")
    found = _all(request, asked)
    here = was or next((each for each in found.drafts if each.comment.pk == comment.pk), None)
    file = here.place.file if here else None
    context = {"asked": asked, "run": asked.run, "comments": found, "file": file, **drafts_context(asked, found)}
    context["said"] = found.by_file.get(file.anchor, []) if file else found.others
    return render(request, "tasks/comments.html#changed", context)


# --- all of them --------------------------------------------------------------------------------------------------------


@require_POST
@login_required
def send(request: Request, pk: int) -> HttpResponse:
    """Send the drafts as one follow-up; what is wrong with it is said where they are listed."""
    asked = Asked.of(request, pk)
    form = SendForm(request.POST)
    turn = form.submit(asked=asked, by=request.user)
    if turn is None:
        return show(request, asked, send_form=form)
    messages.success(request, f"The comments are sent. They are turn {turn.number} of the run.")
    return redirect(asked.address())
