"""The page on which drafts on a run's changes become a review of its pull request."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from tasks.errors import AppError
from tasks.github import reviewing
from tasks.github.merging import pull_of
from tasks.github.pull_lines import Placed
from tasks.models import Comment, PullReview, Run, User
from tasks.web.access import Request, action
from tasks.web.forms import ScriptField, VerbForm
from tasks.web.run import find_run


class ReviewForm(VerbForm):
    """`lines_refused`: GitHub did not find lines of comments in the diff."""

    lines_refused = False

    summary = ScriptField(rows=3, required=False, max_length=reviewing.MOST_SUMMARY, label="Summary")
    as_text = forms.BooleanField(required=False, label="Put all comments into the review's text, without lines")

    @property
    def chosen(self) -> set[int]:
        sent = self.data.getlist("drafts")  # type: ignore[attr-defined]  # it is bound
        return {int(each) for each in sent if each.isdecimal() and len(each) < 19}

    def submit(self, *, run: Run, by: User) -> PullReview | None:
        def post() -> PullReview:
            try:
                return reviewing.post(run=run, by=by, ids=self.chosen, **self.cleaned_data)
            except reviewing.LinesRefused:
                self.lines_refused = True
                raise

        return self.attempt(post)


@action("run-changes", asks=True)
def review(request: Request, pk: int) -> HttpResponse:
    """What would become of each draft, on GET; the deed on POST."""
    found = find_run(request, pk)
    if request.method != "POST":
        shown = _page(found, ReviewForm(), reviewing.offer(run=found, by=request.user))
        return render(request, "tasks/pull_review.html", shown)
    form = ReviewForm(request.POST)
    if form.submit(run=found, by=request.user):
        messages.success(request, "The review is posted.")
        return redirect("run-changes", pk)
    try:
        offer = reviewing.offer(run=found, by=request.user)
    except AppError:  # GitHub cannot be asked; the form says why
        offer = None
    drafts = () if offer else Comment.objects.drafts(run=found, author=request.user)
    return render(request, "tasks/pull_review.html", _page(found, form, offer, drafts, form.chosen), status=422)


def _page(
    found: Run, form: ReviewForm, offer: reviewing.Offer | None, drafts: Collection[Comment] = (), chosen: Collection[int] | None = None
) -> dict[str, Any]:
    """`chosen` are the drafts that are ticked, None for all. Without an offer it is not known what would become of the drafts."""
    comments = offer.comments if offer else [Placed(draft, None) for draft in drafts]
    return {
        "run": found,
        "task": found.task,
        "pull": offer.pull if offer else pull_of(found),
        "offer": offer,
        "comments": comments,
        "in_text": sum(one.place is None for one in comments),
        "chosen": {one.comment.pk for one in comments} if chosen is None else chosen,
        "form": form,
    }
