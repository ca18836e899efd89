from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Upper

from tasks.models.patch import Patch
from tasks.models.run import Run


class PullRequestState(models.TextChoices):
    DRAFT = "draft", "Draft"
    OPEN = "open", "Open"
    MERGED = "merged", "Merged"
    CLOSED = "closed", "Closed"


class PullRequest(models.Model):
    """The pull request a run's patch has become; follow-ups of the run go to the same one.

    `head_sha` is the commit that was pushed last, `turn` the turn whose patch it holds. What GitHub says of it is as of `seen_at`:
    `checks` (pending, success, failure or ""), `review` (approved, changes_requested or ""), `mergeable` (clean, conflicts, blocked,
    behind or ""); `etag` makes the next look cheap. `is_branch_gone`: the branch was deleted after the merge.
    """

    run = models.OneToOneField(Run, models.CASCADE, related_name="pull_request")
    repository = models.CharField(max_length=250, blank=True)  # owner/name
    number = models.PositiveIntegerField()
    url = models.URLField(max_length=500)
    branch = models.CharField(max_length=250)
    base = models.CharField(max_length=250, blank=True)
    state = models.CharField(max_length=10, choices=PullRequestState, default=PullRequestState.OPEN)
    head_sha = models.CharField(max_length=64, blank=True)
    turn = models.PositiveIntegerField(null=True, blank=True)
    checks = models.CharField(max_length=20, blank=True)
    review = models.CharField(max_length=20, blank=True)
    mergeable = models.CharField(max_length=20, blank=True)
    etag = models.CharField(max_length=200, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True)
    is_branch_gone = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(state__in=PullRequestState.values), name="pull_request_state_known")]
        indexes = [models.Index(Upper("repository"), "number", name="pull_request_by_number")]  # as webhooks look for it

    def __str__(self) -> str:
        return f"pull request {self.number} of run {self.run_id}"


class Publication(models.Model):
    """What of a run is to be on GitHub, as it was asked for last, and how far that has come.

    The operation "pull_request" of "run:N" pushes `patch` to `branch` ("" for the run's own) and, when `wants_pull_request`, sees
    to a pull request. `labels` and `reviewers` are still to be asked for; `refused` has sentences on those that GitHub refused.
    `head_sha` is the commit that was pushed last and `pushed` the SHA-256 of the patch in it. `error` says why the last attempt
    ended without success, `error_code` what kind of error that was, and `conflicts` what two sides changed: {path, text}, where
    the base branch stood at `conflicts_with`.

    `settled` has the paths that the agent was told to bring together with what the base branch has of them, and at which commit;
    from the turn `settled_by` on, what the patch has there counts. Without `rebases` it stands on the task's base commit, whatever
    became of the base branch.

    When the turn `update_after` has succeeded, the pull request is updated by itself; None when only its user does that.
    """

    run = models.OneToOneField(Run, models.CASCADE, related_name="publication")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    patch = models.ForeignKey(Patch, models.CASCADE, related_name="+")
    message = models.TextField()  # of the commit: doing it again must make the same one
    wants_pull_request = models.BooleanField(default=True)
    title = models.CharField(max_length=250)
    body = models.TextField(blank=True)
    branch = models.CharField(max_length=250, blank=True)
    base = models.CharField(max_length=250)
    is_draft = models.BooleanField(default=False)
    labels = models.JSONField(default=list, blank=True)
    reviewers = models.JSONField(default=list, blank=True)
    refused = models.JSONField(default=list, blank=True)
    head_sha = models.CharField(max_length=64, blank=True)
    pushed = models.CharField(max_length=64, blank=True)
    error = models.TextField(blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    conflicts = models.JSONField(default=list, blank=True)
    conflicts_with = models.CharField(max_length=64, blank=True)
    settled = models.JSONField(default=dict, blank=True)
    settled_by = models.PositiveIntegerField(null=True, blank=True)
    rebases = models.BooleanField(default=True)
    update_after = models.PositiveIntegerField(null=True, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"publication of run {self.run_id}"

    @property
    def branch_name(self) -> str:
        return self.branch or self.run.branch
