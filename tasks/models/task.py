from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse

from tasks.models.repo import Repo

if TYPE_CHECKING:
    from tasks.models.account import User


class Mode(models.TextChoices):
    CODE = "code", "Code"
    PLAN = "plan", "Plan"
    ASK = "ask", "Ask"


class TaskQuerySet(models.QuerySet["Task"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(owner=user)


class Task(models.Model):
    """What the user wants. `base_commit` is empty only while the repository's first mirror is being made."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="tasks")
    repo = models.ForeignKey(Repo, models.PROTECT, related_name="tasks")
    title = models.CharField(max_length=200)
    prompt = models.TextField()
    mode = models.CharField(max_length=10, choices=Mode, default=Mode.CODE)
    base_branch = models.CharField(max_length=250, blank=True)
    base_commit = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    objects = TaskQuerySet.as_manager()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(mode__in=Mode.values), name="task_mode_known")]
        indexes = [models.Index(fields=["owner", "-id"], name="task_owner_newest")]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("task", args=[self.pk])
