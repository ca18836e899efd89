from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from tasks.models.comment import Comment
from tasks.models.run import Run


class PullReview(models.Model):
    """Comments on a run's changes as one review of its pull request at GitHub; `key` stands in its text, where nobody sees it.

    While `url` is "" it is being posted, or whoever did that has died: whether it is there, GitHub's reviews with the key tell. Then
    `github_id` is GitHub's number of it, and the comments have its address.
    """

    run = models.ForeignKey(Run, models.CASCADE, related_name="reviews")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    repository = models.CharField(max_length=250)  # owner/name
    number = models.PositiveIntegerField()  # of the pull request
    commit = models.CharField(max_length=64)
    key = models.CharField(max_length=32, unique=True)
    comments = models.ManyToManyField(Comment, related_name="+")
    github_id = models.BigIntegerField(null=True, blank=True)
    url = models.URLField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run"], condition=Q(url=""), name="pull_review_one_at_once")]

    def __str__(self) -> str:
        return f"review of pull request {self.number} of run {self.run_id}"

    @property
    def mark(self) -> str:
        """What its text has of ours that nobody sees there."""
        return f"<!-- asynccode {self.key} -->"
