from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchQuery, SearchVector, SearchVectorField
from django.db import models
from django.db.models import Func, Q, Value
from django.db.models.functions import Left

from sandboxes.base import NetworkMode, NetworkPolicy
from tasks.errors import Conflict
from tasks.models.addresses import address_of
from tasks.models.repo import Repo

if TYPE_CHECKING:
    from tasks.models.account import User


PUNCTUATION = string.punctuation.replace("_", "")
SEARCHED = 50_000  # characters of a prompt; a tsvector holds a megabyte
MOST_WORDS = 20
_SPACES = str.maketrans(dict.fromkeys(PUNCTUATION, " "))


class Mode(models.TextChoices):
    CODE = "code", "Code"
    PLAN = "plan", "Plan"
    ASK = "ask", "Ask"


class Words(Func):
    """Text with spaces for ASCII punctuation, so that "src/client.py" is three words to search for."""

    function = "translate"

    def __init__(self, expression: Any, **extra: Any) -> None:
        super().__init__(expression, Value(PUNCTUATION), Value(" " * len(PUNCTUATION)), output_field=models.TextField(), **extra)


class TaskQuerySet(models.QuerySet["Task"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(owner=user)

    def hold(self, pk: int) -> Task:
        """A task on which something new may begin: until the caller's transaction ends it is not archived, nor its repository
        removed. Conflict when either has happened."""
        Repo.objects.hold(self.values_list("repo", flat=True).get(pk=pk))  # always the repository first, then the task, then runs
        task = self.select_for_update(no_key=True).get(pk=pk)
        if task.archived_at is not None:
            raise Conflict("The task is archived. Bring it back first.")
        return task

    def matching(self, text: str) -> Self:
        """Tasks in whose title, prompt or repository's name every word of `text` occurs, at least as a beginning."""
        text = text.replace("\0", " ").strip()
        words = text.translate(_SPACES).split()[:MOST_WORDS]
        if not words:
            return self
        query = SearchQuery(" & ".join(f"'{word}':*" for word in words), search_type="raw", config="simple")
        # Asked first, since no index serves an OR over two tables; most often none is named.
        named = list(Repo.objects.filter(name__icontains=text).order_by().values_list("pk", flat=True))
        return self.filter(Q(search=query) | Q(repo__in=named) if named else Q(search=query))


class Task(models.Model):
    """What the user wants. `base_commit` is empty only while the repository's first mirror is being made.

    One that was asked for elsewhere has its `origin`, the address of where. A restricted one gets nothing secret of its repository,
    and of the network only the agent's model; so do all its runs and turns, also those that are asked for by hand.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="tasks")
    repo = models.ForeignKey(Repo, models.PROTECT, related_name="tasks")
    title = models.CharField(max_length=200)
    prompt = models.TextField()
    mode = models.CharField(max_length=10, choices=Mode, default=Mode.CODE)
    base_branch = models.CharField(max_length=250, blank=True)
    base_commit = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    archived_at = models.DateTimeField(null=True, blank=True)
    origin = models.URLField(max_length=500, blank=True)
    is_restricted = models.BooleanField(default=False)
    is_trial = models.BooleanField(default=False)  # of a repository's environment; no entry of the list
    submission = models.UUIDField(null=True, blank=True)  # of the form; sending it twice makes no second task
    position = models.PositiveSmallIntegerField(default=0)  # within the submission
    search = models.GeneratedField(
        expression=SearchVector(Words("title"), weight="A", config="simple")
        + SearchVector(Words(Left("prompt", SEARCHED)), weight="B", config="simple"),
        output_field=SearchVectorField(),
        db_persist=True,
    )

    objects = TaskQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(mode__in=Mode.values), name="task_mode_known"),
            models.UniqueConstraint(fields=["owner", "submission", "position"], name="task_once_per_submission"),
        ]
        indexes = [
            models.Index(fields=["owner", "-id"], name="task_owner_newest"),
            models.Index(fields=["repo", "-id"], condition=Q(is_trial=False), name="task_repo_newest"),
            models.Index(fields=["repo", "-id"], condition=Q(is_trial=True), name="task_trials"),  # few of many
            models.Index(fields=["repo"], condition=Q(base_commit=""), name="task_unpinned"),  # hardly any; reconcile looks for them
            GinIndex(fields=["search"], name="task_search"),
        ]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return address_of("task", self.pk)

    @property
    def origin_name(self) -> str:
        """owner/name#12, of an issue's or a pull request's address."""
        owner, name, _, number = (urlsplit(self.origin).path.strip("/").split("/") + [""] * 4)[:4]
        return f"{owner}/{name}#{number}"

    @property
    def network_policy(self) -> NetworkPolicy:
        """What its sandboxes may reach besides the agent's model."""
        return NetworkPolicy(NetworkMode.NONE) if self.is_restricted else self.repo.network_policy
