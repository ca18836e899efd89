"""One's own: what belongs to others is not there."""

from __future__ import annotations

from django.shortcuts import get_object_or_404

from tasks.api.auth import Request
from tasks.models import Repo, Run, Task


def find_repo(request: Request, pk: int) -> Repo:
    return get_object_or_404(Repo.objects.visible_to(request.user), pk=pk)


def find_task(request: Request, pk: int) -> Task:
    return get_object_or_404(Task.objects.visible_to(request.user).select_related("repo"), pk=pk)


def find_run(request: Request, pk: int) -> Run:
    return get_object_or_404(Run.objects.visible_to(request.user).select_related("task__repo"), pk=pk)
