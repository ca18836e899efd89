from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from tasks.models.run import Turn
from tasks.models.task import Task


class GitHubRequestKind(models.TextChoices):
    """Where it was asked; a label is put on an issue or on a pull request."""

    ISSUE = "issue", "Issue"
    PULL = "pull", "Pull request"
    COMMENT = "comment", "Comment"
    REVIEW_COMMENT = "review_comment", "Comment on a line"
    REVIEW = "review", "Review"
    LABEL = "label", "Label"


class GitHubRequestState(models.TextChoices):
    QUEUED = "queued", "Queued"
    STARTED = "started", "Started"
    REFUSED = "refused", "Refused"


class GitHubRequest(models.Model):
    """A task that somebody asked for at GitHub: there may be one for each comment, body and labeling (`subject`: GitHub's number of
    it, 0 for the issue itself), however often it is delivered.

    `number` is the issue's or pull request's. It has become `task`, or a `turn` of a run. `key` stands hidden in our answer, so that
    one that was sent and not written down is found again. `answer_id` is the comment with our answer, `answer_hash` what it says,
    `is_answering` that it was sent or was about to be. `is_silent`: there is to be no answer (any more), since somebody deleted it or
    we may not comment there. `looked_at` is when it was last compared with the runs; nothing is asked of GitHub before `not_before`.
    """

    repository = models.CharField(max_length=250)  # owner/name, in lower case
    number = models.PositiveIntegerField()
    kind = models.CharField(max_length=20, choices=GitHubRequestKind)
    subject = models.BigIntegerField(default=0)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="github_requests")
    login = models.CharField(max_length=100)
    key = models.UUIDField(default=uuid.uuid4, unique=True)
    state = models.CharField(max_length=10, choices=GitHubRequestState, default=GitHubRequestState.QUEUED)
    outcome = models.TextField(blank=True)  # a sentence: why it was refused
    tries = models.PositiveSmallIntegerField(default=0)
    task = models.ForeignKey(Task, models.SET_NULL, null=True, blank=True, related_name="github_requests")
    turn = models.ForeignKey(Turn, models.SET_NULL, null=True, blank=True, related_name="github_requests")
    answer_id = models.BigIntegerField(null=True, blank=True)
    answer_hash = models.CharField(max_length=64, blank=True)
    is_answering = models.BooleanField(default=False)
    is_silent = models.BooleanField(default=False)
    looked_at = models.DateTimeField(null=True, blank=True)
    not_before = models.DateTimeField(default=timezone.now)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "request from GitHub"
        verbose_name_plural = "requests from GitHub"
        constraints = [
            models.UniqueConstraint(fields=["repository", "number", "kind", "subject"], name="github_request_once"),
            models.CheckConstraint(condition=Q(kind__in=GitHubRequestKind.values), name="github_request_kind_known"),
            models.CheckConstraint(condition=Q(state__in=GitHubRequestState.values), name="github_request_state_known"),
        ]
        indexes = [
            models.Index(fields=["not_before"], condition=Q(state="queued"), name="github_request_queued"),
            models.Index(fields=["looked_at"], condition=Q(is_silent=False), name="github_request_answered"),
        ]

    def __str__(self) -> str:
        return f"request {self.pk} of {self.login} in {self.repository}#{self.number}"
