"""Verbs: a run's patch becomes a branch and a pull request on GitHub, and follow-ups go to the same one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import transaction

from tasks import audit
from tasks.errors import AppError, Conflict, InvalidInput, NotAllowed
from tasks.git.sources import valid_branch
from tasks.github import names, wording
from tasks.github.asking import github_as
from tasks.github.publishing import KIND, subject_of
from tasks.github_api import credentials
from tasks.github_api.client import GitHub
from tasks.github_api.places import repository_of
from tasks.models import AuditKind, Mode, Operation, Patch, Publication, PullRequest, PullRequestState, Run, Turn, User
from tasks.running import operations, patches
from tasks.services import send_follow_up

logger = logging.getLogger(__name__)


class SecretsFound(InvalidInput):
    """The patch holds values of the repository's secrets, and nobody has said that it may."""

    code = "secrets_found"

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(
            f"The patch contains the value of {', '.join(names)}. Ask for a follow-up that takes it out, or say that it may be published.",
            field="allows_secrets",
        )


class PushMissing(NotAllowed):
    """The user can see the repository, and not push to it."""

    code = "push_missing"


class Archived(NotAllowed):
    """Nothing can be pushed to the repository."""

    code = "archived"


def open_pull_request(
    *,
    run: Run,
    by: User,
    title: str = "",
    body: str | None = None,
    is_draft: bool = False,
    labels: Sequence[str] = (),
    reviewers: Sequence[str] = (),
    base: str = "",
    branch: str = "",
    allows_secrets: bool = False,
) -> Publication:
    """Let the run's newest patch become a pull request; where there is one, the patch goes to it and its words stay.

    May be repeated: while one is being opened, or when all of the patch is there, nothing new begins. Without `body` it is
    put together from what the agent said, the repository's template and the prompt. What can be known before is checked first,
    the names of labels and reviewers too; the rest is done by an operation, and its error stands in the Publication. `branch` is the
    name to push to: "" for the one as before, at first the run's own.
    """
    title = " ".join(title.split()) or wording.title(run)
    if len(title) > wording.MOST_TITLE:
        raise InvalidInput(f"The title has {len(title)} characters; {wording.MOST_TITLE} are the most.", field="title")
    if body is not None and len(body) > wording.MOST_BODY:
        raise InvalidInput(f"The description has {len(body):,} characters; {wording.MOST_BODY:,} are the most.", field="body")
    base = valid_branch(base or run.task.base_branch)
    check_publishable(run)
    wanted = {
        "wants_pull_request": True,
        "title": title,
        "body": wording.body(run, template_of(run, by)) if body is None else body,
        "base": base,
        "is_draft": is_draft,
        "labels": list(labels),
        "reviewers": list(reviewers),
    }
    return _ask(run, by, allows_secrets, wanted, branch)


def push_branch(*, run: Run, by: User, branch: str = "", allows_secrets: bool = False) -> Publication:
    """Push the run's newest patch to its branch, and leave what else is done with it to others. May be repeated."""
    known = Publication.objects.filter(run=run).first()
    kept = {"title": known.title, "base": known.base} if known else {"title": wording.title(run), "base": run.task.base_branch}
    return _ask(run, by, allows_secrets, {"wants_pull_request": False, **kept}, branch)


def update_pull_request(
    *,
    run: Run,
    by: User,
    allows_secrets: bool = False,
    rebases: bool = True,
    branch: str = "",
    labels: Sequence[str] | None = None,
    reviewers: Sequence[str] | None = None,
) -> Publication:
    """Do what was asked for last once more, with the run's newest patch: after a follow-up, or after an error. May be repeated.

    Without `rebases` the commit stands on the task's base commit, and conflicts with the base branch are left to GitHub. Under another
    `branch` it becomes another pull request, which is the run's from then on. `labels` and `reviewers` take the place of those that
    are still to be asked for.
    """
    if not Publication.objects.filter(run=run).exists():
        raise Conflict("Nothing of this run was published yet. Open a pull request first.")
    wanted: dict[str, Any] = {"rebases": rebases}
    wanted |= {} if labels is None else {"labels": list(labels)}
    wanted |= {} if reviewers is None else {"reviewers": list(reviewers)}
    return _ask(run, by, allows_secrets, wanted, branch)


def check_publishable(run: Run) -> Patch:
    """The run's newest patch. An AppError says why it cannot be published, as far as that is known here; asks nobody."""
    patch = patches.newest(run)
    check_state(run, patch, PullRequest.objects.filter(run=run).first())
    assert patch is not None
    return patch


def check_state(run: Run, patch: Patch | None, pull: PullRequest | None) -> None:
    """As `check_publishable`, of what was read before."""
    repository_of(run.task.repo)
    run.task.repo.check_present()
    if not run.is_over:
        raise Conflict("The run is not over yet. Wait for its end, or stop it.")
    if patch is None:
        raise Conflict("The run has changed nothing, so there is nothing to publish.")
    if pull and pull.state == PullRequestState.MERGED:
        raise Conflict(f"Pull request #{pull.number} is merged. Start a new task for what comes next.")
    if pull and pull.state == PullRequestState.CLOSED:
        raise Conflict(f"Pull request #{pull.number} is closed. Reopen it on GitHub first.")


def _ask(run: Run, by: User, allows_secrets: bool, wanted: dict[str, Any], branch: str = "") -> Publication:
    patch = check_publishable(run)
    known = Publication.objects.filter(run=run).first()
    is_allowed = known is not None and known.patch_id == patch.pk  # then somebody has said so before
    if patch.secrets_found and not allows_secrets and not is_allowed:
        raise SecretsFound(patch.secrets_found)
    if branch:
        wanted["branch"] = _branch(run, branch, wanted.get("base") or (known.base if known else ""))
    _check_at_github(run, by, wanted)
    with transaction.atomic():
        Run.objects.select_for_update().get(pk=run.pk)  # pressed twice, the second waits here for the first
        known = Publication.objects.filter(run=run).first()
        if known and (is_at_work(run) or _is_there(known, patch, wanted)):
            return known
        if known and wanted.get("branch", known.branch) != known.branch:
            wanted |= {"head_sha": "", "pushed": ""}  # of nothing that was pushed is there anything under this name
        was_pushed = bool(known and wanted.get("head_sha", known.head_sha))
        wanted |= {"by": by, "patch": patch, "error": "", "error_code": "", "conflicts": [], "refused": []}
        if known is None or patch.pk != known.patch_id or (known.error_code and not was_pushed):
            title = wanted.get("title") or (known.title if known else "")
            later = patch.turn if was_pushed else None
            wanted["message"] = wording.message(run, title, later)  # else it may be in a commit that is pushed already
        publication, _ = Publication.objects.update_or_create(run=run, defaults=wanted)
        audit.record(AuditKind.PUBLISHED, by=by, subject=run, repository=run.task.repo.name, pull_request=publication.wants_pull_request)
        operations.begin(KIND, subject_of(run.pk))
    return publication


def _branch(run: Run, name: str, base: str) -> str:
    """As Publication.branch: "" for the run's own."""
    try:
        valid_branch(name)
    except InvalidInput as error:
        raise InvalidInput(error.message, field="branch") from error
    if name in (base, run.task.base_branch, run.task.repo.default_branch):
        raise InvalidInput(f"Others work on {name}. Choose a name for a branch of this run's own.", field="branch")
    return "" if name == run.branch else name


def _is_there(known: Publication, patch: Patch, wanted: dict[str, Any]) -> bool:
    """Whether all that is asked for is on GitHub already."""
    wants_pull = wanted.get("wants_pull_request", known.wants_pull_request)
    has_pull = not wants_pull or PullRequest.objects.filter(run=known.run_id).exists()
    is_same = wanted.get("branch", known.branch) == known.branch and not known.labels and not known.reviewers
    return known.pushed == patch.sha256 and has_pull and is_same and not known.error


def _check_at_github(run: Run, by: User, wanted: dict[str, Any]) -> None:
    """TokenRefused, NotAllowed or what else keeps this user from pushing to the repository now, or it from having what is wanted."""
    repository = repository_of(run.task.repo)
    with github_as(by, repository) as github:
        _check_access(github, repository, by)
        if wanted.get("labels"):
            wanted["labels"] = names.known_labels(github, repository, wanted["labels"])
        if wanted.get("reviewers"):
            wanted["reviewers"] = names.known_reviewers(github, repository, wanted["reviewers"])


def _check_access(github: GitHub, repository: str, by: User) -> None:
    found = github.repo(repository)
    if found.is_private and not by.is_operator and credentials.token_for(by, repository) == settings.GITHUB_TOKEN:
        # It was given to the site: whoever merely has an account here must not see by it what their own account at GitHub may not.
        raise PushMissing(f"{repository} is private. Connect your own GitHub account in Settings, under GitHub, to publish to it.")
    if found.is_archived:
        raise Archived(
            f"{repository} is archived on GitHub, so nothing can be pushed to it. Ask its owners to unarchive it, or download the patch."
        )
    if not found.can_push:
        raise PushMissing(
            f"Your GitHub account can see {repository}, but not push to it. Ask its owners for write access. Or fork it on GitHub and "
            "apply the patch there, by hand."
        )


def template_of(run: Run, by: User) -> str:
    """The repository's template for pull requests; "" when there is none, or when GitHub cannot be asked now."""
    try:
        repository = repository_of(run.task.repo)
        with github_as(by, repository) as github:
            return github.pull_template(repository)
    except AppError as error:  # what is in the way will be told when it is sent
        logger.info("No template for run %s: %s", run.pk, error)
        return ""


def send_conflicts(*, run: Run, by: User) -> Turn:
    """Tell the agent, as a follow-up, what conflicts with the base branch. From the end of that turn on, what the patch has of these
    files counts as brought together with what the base branch has of them now."""
    publication = Publication.objects.filter(run=run).exclude(conflicts=[]).first()
    if publication is None or is_at_work(run):
        raise Conflict("There are no conflicts to send. Publish again to see whether there are any.")
    if run.agent == "shell":
        raise Conflict("A script cannot be told of conflicts. Start it in a new task, which begins with what is new.")
    with transaction.atomic():
        turn = send_follow_up(run=run, by=by, prompt=wording.conflicts(publication), mode=Mode.CODE)
        paths = [one["path"] for one in publication.conflicts]
        settled = publication.settled | dict.fromkeys(paths, publication.conflicts_with)
        told = {"settled": settled, "settled_by": turn.number, "conflicts": [], "error": "", "error_code": ""}
        Publication.objects.filter(pk=publication.pk).update(**told)
    return turn


# --- how it stands ------------------------------------------------------------------------------------------------------


def operation_of(run: Run) -> Operation | None:
    """The newest that published something of this run."""
    return Operation.objects.filter(kind=KIND, subject=subject_of(run.pk)).order_by("-pk").first()


def is_at_work(run: Run) -> bool:
    return Operation.objects.filter(kind=KIND, subject=subject_of(run.pk), status__in=operations.UNFINISHED).exists()
