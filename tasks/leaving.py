"""Deleting one's own account, with all that is the user's: at once out of reach, then, sandboxes first, gone."""

from __future__ import annotations

import time

from django.db import transaction
from django.db.models import Q

from tasks import accounts, audit, environment, services, worlds
from tasks.errors import Conflict, InvalidInput
from tasks.models import (
    FINAL,
    ApiToken,
    AuditKind,
    Credential,
    GitHubAccount,
    LoginLink,
    OutgoingWebhook,
    Repo,
    Run,
    Sandbox,
    SandboxStatus,
    Task,
    User,
    Variable,
)
from tasks.running import operations
from tasks.running.operations import Progress

KIND = "leave"
SANDBOXES_S = 120  # for which their end is waited for; the reaper destroys what no row wants


def delete_account(*, user: User, name: str) -> None:
    """Stop the user's runs, let their sandboxes be destroyed, take away every way in and every secret, and let the rest be deleted.

    `name` is the username, typed. Conflict for the last operator.
    """
    if name.strip() != user.username:
        raise InvalidInput("This is not your username. Type it as it stands above.", field="name")
    with transaction.atomic():
        operators = list(User.objects.filter(Q(is_staff=True, is_active=True) | Q(pk=user.pk)).order_by("pk").select_for_update())
        if user.is_operator and not any(other.is_operator for other in operators if other.pk != user.pk):
            raise Conflict("You are the last operator of this server. Make somebody else one first, in the administration.")
        close_account(user=user)
        audit.record(AuditKind.USER_LEFT, by=user, subject=user)


def close_account(*, user: User) -> None:
    """Shut a user out at once, stop their runs, and begin the operation that deletes all that is theirs."""
    with transaction.atomic():
        for run in Run.objects.filter(task__owner=user).exclude(status__in=FINAL).select_related("task").order_by("pk"):
            services.cancel_run(run=run, by=user)
        services.archive_tasks(tasks=list(Task.objects.filter(owner=user)), by=user)
        user.set_unusable_password()
        user.is_active = False
        user.save(update_fields=["password", "is_active"])
        accounts.end_sessions(user=user)
        for secrets in (LoginLink, ApiToken, GitHubAccount):
            secrets.objects.filter(user=user).delete()
        Credential.objects.filter(owner=user).delete()
        OutgoingWebhook.objects.filter(owner=user).delete()
        Variable.objects.filter(repo__owner=user).delete()
        operations.begin(KIND, f"user:{user.pk}")


def perform(subject: str, progress: Progress) -> None:
    """The operation: wait for the sandboxes' end, then delete the user's rows. What is gone already is no error."""
    user = User.objects.filter(pk=int(subject.removeprefix("user:")), is_active=False).first()
    if user is None:
        return
    until = time.monotonic() + SANDBOXES_S
    while (left := _sandboxes(user)) and time.monotonic() < until:
        progress(10, f"Waiting for {len(left)} sandbox{'' if len(left) == 1 else 'es'} to be destroyed")
        time.sleep(1)  # reconcile asks for it, every 15 s
    progress(50, "Deleting tasks")
    for pk in Task.objects.filter(owner=user).order_by("pk").values_list("pk", flat=True):
        Task.objects.filter(pk=pk).delete()
    for repo in Repo.objects.filter(owner=user, removed_at=None).order_by("pk"):
        environment.remove_repo(repo=repo, by=user)
    Repo.objects.filter(owner=user).delete()  # those that were kept back; what they had prepared is looked through hourly
    worlds.remove(user)
    user.delete()


def _sandboxes(user: User) -> list[int]:
    rows = Sandbox.objects.filter(run__task__owner=user).exclude(status=SandboxStatus.DESTROYED)
    return list(rows.values_list("pk", flat=True))
