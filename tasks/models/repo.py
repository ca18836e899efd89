from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from django.conf import settings
from django.db import models
from django.db.models import Q

from sandboxes.base import NetworkMode, NetworkPolicy
from tasks.errors import Conflict
from tasks.models.encrypted import decrypt, encrypt

if TYPE_CHECKING:
    from tasks.models.account import User


class NetworkPreset(models.TextChoices):
    NONE = "none", "No network"
    REGISTRIES = "registries", "Package registries"
    PUBLIC = "public", "Everything public"


class FromGitHub(models.TextChoices):
    """What tasks that are asked for at GitHub, by a mention or a label, may do."""

    OFF = "off", "Off"
    RESTRICTED = "restricted", "Restricted"
    AS_OTHERS = "as_others", "As other tasks"


class RepoQuerySet(models.QuerySet["Repo"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(owner=user, removed_at=None)

    def hold(self, pk: int) -> Repo:
        """The repository, which is not removed before the caller's transaction ends; Conflict when it was removed before."""
        repo = self.select_for_update(no_key=True).filter(pk=pk).first()
        if repo is None:
            raise Conflict("The repository was removed. Add it again under Repositories to go on.")
        repo.check_present()
        return repo


class Repo(models.Model):
    """A git repository that tasks work on, with its environment. `source` is an https URL or a local path."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="repos")
    source = models.CharField(max_length=2000)
    is_local = models.BooleanField(default=False)
    name = models.CharField(max_length=200)
    default_branch = models.CharField(max_length=250, blank=True)
    setup_script = models.TextField(blank=True)
    prepares = models.BooleanField(default=True)  # whether what the setup script leaves may be kept for later runs
    check_command = models.TextField(blank=True)
    network_preset = models.CharField(max_length=20, choices=NetworkPreset, default=NetworkPreset.REGISTRIES)
    network_hosts = models.JSONField(default=list, blank=True)
    template = models.CharField(max_length=200, blank=True)
    from_github = models.CharField(max_length=20, choices=FromGitHub, default=FromGitHub.RESTRICTED)
    mirrored_at = models.DateTimeField(null=True, blank=True)
    has_lfs = models.BooleanField(default=False)  # of the default branch, when it was last looked at
    has_submodules = models.BooleanField(default=False)
    merge_method = models.CharField(max_length=10, blank=True)  # by which a pull request was merged last
    created_at = models.DateTimeField(auto_now_add=True)
    removed_at = models.DateTimeField(null=True, blank=True)  # kept for the history of its tasks; adding it again brings it back

    objects = RepoQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "source"], name="repo_once_per_owner"),
            models.CheckConstraint(condition=Q(network_preset__in=NetworkPreset.values), name="repo_network_preset_known"),
            models.CheckConstraint(condition=Q(from_github__in=FromGitHub.values), name="repo_from_github_known"),
        ]

    def __str__(self) -> str:
        return self.name

    def check_present(self) -> None:
        """Conflict when the repository was removed: nothing new begins on it."""
        if self.removed_at is not None:
            raise Conflict(f"{self.name} was removed. Add it again under Repositories to go on.")

    @property
    def mirror_path(self) -> Path:
        return settings.DATA / "mirrors" / f"{self.pk}.git"

    @property
    def network_policy(self) -> NetworkPolicy:
        return NetworkPolicy(NetworkMode(self.network_preset), tuple(self.network_hosts))


class Phase(models.TextChoices):
    SETUP = "setup", "Setup script only"
    AGENT = "agent", "Setup script and agent"


class Variable(models.Model):
    """An environment variable of a repository. Secrets exist in the setup step only, and are never shown again."""

    repo = models.ForeignKey(Repo, models.CASCADE, related_name="variables")
    name = models.CharField(max_length=200)
    value_encrypted = models.BinaryField()
    is_secret = models.BooleanField(default=False)
    phase = models.CharField(max_length=10, choices=Phase, default=Phase.AGENT)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["repo", "name"], name="variable_once_per_repo"),
            models.CheckConstraint(condition=Q(phase__in=Phase.values), name="variable_phase_known"),
            models.CheckConstraint(condition=Q(is_secret=False) | Q(phase=Phase.SETUP), name="variable_secret_in_setup_only"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def value(self) -> str:
        return decrypt(self.value_encrypted)

    @value.setter
    def value(self, text: str) -> None:
        self.value_encrypted = encrypt(text)
