from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.conf import settings
from django.db import models
from django.db.models import Count, F, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from tasks.models.run import Run, RunStatus, Turn

if TYPE_CHECKING:
    from tasks.models.account import User


class CommentSide(models.TextChoices):
    OLD = "old", "Before"
    NEW = "new", "After"


# Nobody has read it yet: neither sent nor posted, or sent with a follow-up that was removed before it began.
_UNSENT = Q(turn=None, review="") | Q(turn__status=RunStatus.CANCELED, turn__started_at=None)


class CommentQuerySet(models.QuerySet["Comment"]):
    def unsent_by(self, author: User) -> Self:
        """What somebody has yet to send, in the order of the files and their lines."""
        return self.filter(_UNSENT, author=author).order_by("path", "start_line", "end_line", "pk")

    def count_unsent(self, *, by: User) -> Coalesce:
        """How many drafts somebody has on the run that a query is about: to annotate it."""
        counted = self.unsent_by(by).filter(run=OuterRef("pk")).order_by().values("run").annotate(count=Count("pk")).values("count")
        return Coalesce(Subquery(counted), 0)

    def drafts(self, *, run: Run, author: User) -> Self:
        return self.unsent_by(author).filter(run=run)

    def sent(self) -> Self:
        return self.exclude(_UNSENT)

    def visible_to(self, user: User) -> Self:
        """A draft is its author's alone; what was sent is seen by whoever sees the run."""
        return self.filter(Q(author=user) | ~_UNSENT, run__in=Run.objects.visible_to(user))


class Comment(models.Model):
    """What somebody says of lines `start_line` to `end_line` (from 1, both included) of a changed file.

    `blob` is git's id of what the file had on this side, so that the lines can be found again, and `quote` what they were, cut.
    Paths are as they were then, on the two sides ("" where it was not there), and as they can be read; `file` is the file's
    anchor (`review/diffs.py`), by which it is found on the page of the changes. A draft has neither `turn`, the follow-up that
    carried it to the agent, nor `review`, the address of the review at GitHub that it became a part of.
    """

    run = models.ForeignKey(Run, models.CASCADE, related_name="comments")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    file = models.CharField(max_length=9)
    path = models.TextField()
    old_path = models.TextField(blank=True)
    side = models.CharField(max_length=3, choices=CommentSide)
    start_line = models.PositiveIntegerField()
    end_line = models.PositiveIntegerField()
    blob = models.CharField(max_length=64)
    quote = models.TextField(blank=True)
    body = models.TextField()
    turn = models.ForeignKey(Turn, models.SET_NULL, null=True, blank=True, related_name="comments")
    review = models.URLField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = CommentQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(condition=Q(side__in=CommentSide.values), name="comment_side_known"),
            models.CheckConstraint(condition=Q(start_line__gte=1, end_line__gte=F("start_line")), name="comment_lines_in_order"),
            models.CheckConstraint(condition=~Q(body=""), name="comment_says_something"),
            models.CheckConstraint(condition=Q(turn=None) | Q(review=""), name="comment_sent_or_posted"),
        ]

    def __str__(self) -> str:
        return f"comment {self.pk} on run {self.run_id}"

    @property
    def is_draft(self) -> bool:
        if self.turn is None:
            return not self.review
        return self.turn.status == RunStatus.CANCELED and self.turn.started_at is None

    @property
    def lines(self) -> str:
        return f"line {self.end_line}" if self.start_line == self.end_line else f"lines {self.start_line}–{self.end_line}"
