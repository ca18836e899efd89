"""What operators and users choose about agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.conf import settings
from django.db import models
from django.db.models import Q

from tasks.models.repo import Repo

if TYPE_CHECKING:
    from tasks.models.account import User


class AgentSetting(models.Model):
    """What operators set for an agent; one without a row is on, with nothing added."""

    agent = models.CharField(max_length=40, unique=True)
    is_on = models.BooleanField(default=True)
    extra_args = models.JSONField(default=list, blank=True)  # a list of arguments, after all others

    def __str__(self) -> str:
        return self.agent


class AgentModel(models.Model):
    """A model that an agent offers. As soon as an agent has one, these are all it offers, in their order; the first is the default."""

    agent = models.CharField(max_length=40)
    name = models.CharField(max_length=120)
    label = models.CharField(max_length=120, blank=True)
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["agent", "position", "id"]
        constraints = [models.UniqueConstraint(fields=["agent", "name"], name="agent_model_once")]

    def __str__(self) -> str:
        return f"{self.agent}:{self.name}"


class PresetQuerySet(models.QuerySet["Preset"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(owner=user)


class Preset(models.Model):
    """A choice of agents kept under a name. `choices`: [{"agent", "model", "attempts", "options": {…}}]."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="presets")
    name = models.CharField(max_length=100)
    choices = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PresetQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="preset_once_per_owner")]

    def __str__(self) -> str:
        return self.name


class RepoMcpServer(models.Model):
    """A Model Context Protocol server that a repository's agents may use: at a URL, or a command (a list) run in the sandbox."""

    repo = models.ForeignKey(Repo, models.CASCADE, related_name="mcp_servers")
    name = models.CharField(max_length=60)
    url = models.CharField(max_length=1000, blank=True)
    command = models.JSONField(default=list, blank=True)
    env = models.JSONField(default=dict, blank=True)

    class Meta:
        verbose_name = "MCP server"
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["repo", "name"], name="mcp_server_once_per_repo"),
            models.CheckConstraint(
                condition=Q(url="", command__0__isnull=False) | (~Q(url="") & Q(command=[])), name="mcp_server_url_or_command"
            ),
        ]

    def __str__(self) -> str:
        return self.name
