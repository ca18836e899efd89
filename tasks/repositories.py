"""The verbs of repositories: adding one, and bringing our copy of it up to date."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.errors import NotAllowed
from tasks.models import Operation, Repo, User
from tasks.running import operations


def add_repo(*, by: User, source: str) -> Repo:
    """The user's repository for this URL or path, made if it is new and back if it was removed; its first mirror is then an
    operation under way."""
    parsed = operations.source_for(by, source)
    repo, _ = Repo.objects.get_or_create(owner=by, source=parsed.url, defaults={"name": parsed.name, "is_local": parsed.is_local})
    if repo.removed_at is not None:
        Repo.objects.filter(pk=repo.pk).update(removed_at=None)
        repo.removed_at = None
    if repo.mirrored_at is None:
        operations.begin("mirror", f"repo:{repo.pk}")
    return repo


def fetch_repo(*, repo: Repo, by: User) -> Operation:
    """Bring all branches and tags of a repository's mirror up to date, as an operation; the one under way, if there is one."""
    if repo.owner_id != by.pk:
        raise NotAllowed("This repository belongs to somebody else.")
    repo.check_present()
    return operations.begin("mirror", f"repo:{repo.pk}")


def mirror_operation(repo: Repo) -> Operation | None:
    """The newest mirror operation of a repository."""
    return mirror_operations([repo]).get(repo.pk)


def mirror_operations(repos: Sequence[Repo]) -> dict[int, Operation]:
    """The newest mirror operation of each of these repositories that has one."""
    subjects = {f"repo:{repo.pk}": repo.pk for repo in repos}
    newest = Operation.objects.filter(kind="mirror", subject__in=subjects).order_by("subject", "-pk").distinct("subject")
    return {subjects[operation.subject]: operation for operation in newest}
