from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from tasks.models.addresses import address_of
from tasks.models.attachment import Attachment
from tasks.models.task import Mode, Task

if TYPE_CHECKING:
    from tasks.models.account import User


class RunStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    STARTING = "starting", "Starting"
    RUNNING = "running", "Running"
    WAITING = "waiting", "Waiting for you"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    ERRORED = "errored", "Errored"
    CANCELED = "canceled", "Canceled"
    INTERRUPTED = "interrupted", "Interrupted"


ACTIVE = (RunStatus.STARTING, RunStatus.RUNNING)
UNFINISHED = (RunStatus.QUEUED, *ACTIVE, RunStatus.WAITING)
FINAL = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.ERRORED, RunStatus.CANCELED, RunStatus.INTERRUPTED)


class Stage(models.TextChoices):
    """Where in its life a run is; a failed run keeps the stage in which it failed."""

    MIRROR = "mirror", "Fetching the repository"
    PROVISION = "provision", "Making the sandbox"
    CHECKOUT = "checkout", "Checking out"
    SETUP = "setup", "Running the setup script"
    AGENT = "agent", "Agent at work"
    COLLECT = "collect", "Collecting the patch"
    PUBLISH = "publish", "Publishing"


class RunQuerySet(models.QuerySet["Run"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(task__owner=user)

    def move(self, pk: int, *, source: Collection[RunStatus], to: RunStatus, **changes: Any) -> bool:
        """Compare-and-set the status; False if another process won."""
        return self.filter(pk=pk, status__in=source).update(status=to, **changes) == 1


class Run(models.Model):
    """One agent's attempt at a task. Legal moves between statuses: tasks/running/lifecycle.py."""

    task = models.ForeignKey(Task, models.CASCADE, related_name="runs")
    agent = models.CharField(max_length=40)
    model = models.CharField(max_length=120, blank=True)
    options = models.JSONField(default=dict, blank=True)
    attempt = models.PositiveSmallIntegerField(default=1)
    parent = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="branches")
    parent_turn = models.PositiveIntegerField(null=True, blank=True)  # the last turn of the parent that this branch goes on from
    backend = models.CharField(max_length=20)
    branch = models.CharField(max_length=250)

    status = models.CharField(max_length=20, choices=RunStatus, default=RunStatus.QUEUED)
    stage = models.CharField(max_length=20, choices=Stage, blank=True)
    error = models.TextField(blank=True)
    error_class = models.CharField(max_length=20, blank=True)

    generation = models.PositiveIntegerField(default=1)
    lease_owner = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    next_seq = models.BigIntegerField(default=1)
    start_tries = models.PositiveSmallIntegerField(default=0)  # of the present turn; bounded by reconcile

    stop_requested_at = models.DateTimeField(null=True, blank=True)
    queued_at = models.DateTimeField(default=timezone.now)
    not_before = models.DateTimeField(null=True, blank=True)  # a turn that is tried again waits until then
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    chosen_at = models.DateTimeField(null=True, blank=True)
    set_aside_at = models.DateTimeField(null=True, blank=True)  # when another was chosen: its sandbox is given back

    input_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    cost_usd = models.DecimalField(max_digits=12, decimal_places=6, null=True, blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["task", "agent", "model", "attempt"], name="run_attempt_once"),
            models.UniqueConstraint(fields=["task"], condition=Q(chosen_at__isnull=False), name="run_one_chosen_per_task"),
            models.CheckConstraint(condition=Q(status__in=RunStatus.values), name="run_status_known"),
            models.CheckConstraint(condition=Q(stage__in=["", *Stage.values]), name="run_stage_known"),
        ]
        indexes = [
            models.Index(fields=["queued_at", "id"], condition=Q(status=RunStatus.QUEUED), name="run_queue"),
            models.Index(fields=["status"], condition=Q(status__in=ACTIVE), name="run_active"),
            models.Index(fields=["status", "task"], condition=Q(status__in=UNFINISHED), name="run_unfinished"),  # few of many
            models.Index(fields=["finished_at"], name="run_finished"),
            models.Index(fields=["queued_at"], name="run_queued"),
            models.Index(fields=["status"], name="run_status"),  # how many there are of each, at every scrape
            models.Index(fields=["id"], include=["task"], name="run_task"),  # whose thousands of turns are, for what counts them
        ]

    def __str__(self) -> str:
        return f"run {self.pk} ({self.label})"

    def get_absolute_url(self) -> str:
        return address_of("run", self.pk)

    @property
    def label(self) -> str:
        name = f"{self.agent}:{self.model}" if self.model else self.agent
        return f"{name} #{self.attempt}" if self.attempt > 1 else name

    @property
    def is_over(self) -> bool:
        return self.status in FINAL

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE

    @property
    def duration_s(self) -> float | None:
        """Seconds from the start of the newest turn to its end, or to now."""
        if self.started_at is None:
            return None
        return ((self.finished_at or timezone.now()) - self.started_at).total_seconds()


class EndReason(models.TextChoices):
    """Why we ended a turn that was at work, other than by the user's Stop."""

    FOLLOW_UP = "follow_up", "Stopped for a follow-up"
    BUDGET = "budget", "Budget used up"
    LIFETIME = "lifetime", "Sandbox at its end"


class TurnKind(models.TextChoices):
    PROMPT = "prompt", "Prompt"
    RETRY = "retry", "Tried again by itself"
    REVERT = "revert", "Reverted"  # no turn of the agent: the workspace was put back to what it was after `reverts_to`


class Turn(models.Model):
    """One prompt-to-idle exchange in a run. `outcome` holds what the journal's `end` record said.

    `generation` is the sandbox it ran in: only there can its `conversation` be resumed. `answer` is the agent's last message:
    of a plan turn, the plan. `end_reason` and `end_text` say why we ended it, when we did. `joined` is the turn that this
    message was given to while it was at work.
    """

    run = models.ForeignKey(Run, models.CASCADE, related_name="turns")
    number = models.PositiveIntegerField()
    kind = models.CharField(max_length=10, choices=TurnKind, default=TurnKind.PROMPT)
    mode = models.CharField(max_length=10, choices=Mode, default=Mode.CODE)
    prompt = models.TextField()
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    status = models.CharField(max_length=20, choices=RunStatus, default=RunStatus.QUEUED)
    attachments = models.ManyToManyField(Attachment, related_name="turns", blank=True)
    outcome = models.JSONField(null=True, blank=True)
    conversation = models.CharField(max_length=200, blank=True)
    generation = models.PositiveIntegerField(null=True, blank=True)
    answer = models.TextField(blank=True)
    error_class = models.CharField(max_length=20, blank=True)
    losses = models.PositiveSmallIntegerField(default=0)  # how often its sandbox was lost while it was at work
    retries = models.PositiveSmallIntegerField(default=0)  # how often its prompt was tried before, by itself
    end_reason = models.CharField(max_length=20, choices=EndReason, blank=True)
    end_text = models.TextField(blank=True)
    reverts_to = models.PositiveIntegerField(null=True, blank=True)
    joined = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="messages")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    input_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    cost_usd = models.DecimalField(max_digits=12, decimal_places=6, null=True, blank=True)

    class Meta:
        ordering = ["run", "number"]
        constraints = [
            models.UniqueConstraint(fields=["run", "number"], name="turn_number_once"),
            models.UniqueConstraint(fields=["run"], condition=Q(status__in=ACTIVE), name="turn_one_active_per_run"),
            models.CheckConstraint(condition=Q(status__in=RunStatus.values), name="turn_status_known"),
            models.CheckConstraint(condition=Q(kind__in=TurnKind.values), name="turn_kind_known"),
            models.CheckConstraint(condition=Q(mode__in=Mode.values), name="turn_mode_known"),
        ]
        indexes = [
            models.Index(fields=["created_at"], condition=Q(number=1), name="turn_first"),  # when runs were begun
            models.Index(fields=["started_at"], name="turn_started"),  # what was used lately
        ]

    def __str__(self) -> str:
        return f"turn {self.number} of run {self.run_id}"
