"""The operation "pull_request" of "run:N": push what its Publication says, see to the pull request, write down what it is.

Each step first looks whether it was done before, so that an operation that was killed anywhere, or that two workers hold at once,
ends with one branch and one pull request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from tasks.errors import AppError
from tasks.git.conflicts import Conflicts
from tasks.git.publish import Published, publish
from tasks.git.refusals import PublishRefused
from tasks.git.refusals import TokenRefused as TokenRefusedByGit
from tasks.github import polling, sightings, wording
from tasks.github_api import credentials
from tasks.github_api.client import GitHub, Pull, PullExists
from tasks.github_api.errors import GitHubError, Refused, TokenRefused
from tasks.github_api.places import repository_of
from tasks.models import Publication, PullRequest, RunStatus, TurnKind
from tasks.running import announcing, backends, nudge, operations
from tasks.running.operations import Progress

KIND = "pull_request"
REFUSALS = (TokenRefused, TokenRefusedByGit)


def subject_of(run_id: int) -> str:
    return f"run:{run_id}"


def perform(subject: str, progress: Progress) -> None:
    """Do what is asked. Raises what AppError is in the way, its kind and the paths in conflict in the Publication."""
    publication = _find(subject)
    if publication is None:  # the run is gone
        return
    try:
        _perform(publication, progress)
    except AppError as error:
        if isinstance(error, REFUSALS):
            credentials.refused(publication.by, repository_of(publication.run.task.repo))
        conflicts: dict[str, Any] = {}
        if isinstance(error, Conflicts):
            found = [{"path": one.path, "text": one.text} for one in error.conflicting]
            conflicts = {"conflicts": found, "conflicts_with": error.commit}
        Publication.objects.filter(pk=publication.pk).update(error_code=_kind_of(error), **conflicts)
        raise
    Publication.objects.filter(pk=publication.pk).update(error="", error_code="", conflicts=[])  # of an attempt that this one repeats
    _tell(publication)


def failed(subject: str, error: str) -> None:
    """Say why on the run's pages."""
    if publication := _find(subject):
        Publication.objects.filter(pk=publication.pk).update(error=error)
        _tell(publication)


def _kind_of(error: AppError) -> str:
    """Its code; of a refused push the reason, which says more."""
    return error.reason if isinstance(error, PublishRefused) and not isinstance(error, TokenRefusedByGit) else error.code


def _find(subject: str) -> Publication | None:
    related = ("by", "patch__turn", "run__task__repo__owner")
    return Publication.objects.select_related(*related).filter(run=int(subject.removeprefix("run:"))).first()


def _tell(publication: Publication) -> None:
    run = publication.run
    nudge.tell([nudge.run_group(run.pk), nudge.user_group(run.task.owner_id)])


def _perform(publication: Publication, progress: Progress) -> None:
    token = credentials.token_for(publication.by, repository_of(publication.run.task.repo))
    progress(10, f"Pushing {publication.branch_name}")
    published = _push(publication, token)
    progress(60, f"Pushed {published.commit[:8]}")
    pushed = {"head_sha": published.commit, "pushed": publication.patch.sha256}
    Publication.objects.filter(pk=publication.pk).update(**pushed)
    if publication.wants_pull_request:
        progress(70, "Asking GitHub for the pull request")
        with GitHub(token) as github:
            pull = _pull(publication, github, published)
            progress(95, f"Pull request {pull.number}")
            _write_down(publication, pull, published)
            progress(97, f"Pull request {pull.number}: labels and reviewers")
            _dress(publication, github, pull)


def _push(publication: Publication, token: str) -> Published:
    run, task, repo = publication.run, publication.run.task, publication.run.task.repo
    return publish(
        repo.mirror_path,
        operations.source_of(repo),
        base_commit=task.base_commit,
        base_branch=publication.base,
        patch=bytes(publication.patch.content),
        branch=publication.branch_name,
        message=publication.message,
        author=wording.author(publication.by),
        at=publication.patch.created_at,
        co_authors=wording.co_authors(run),
        token=token,
        previous=publication.head_sha,
        rebase=publication.rebases,
        settled=_settled(publication),
        scratch=Path(settings.DATA, "publishing"),
        timeout=4 * settings.GIT_TIMEOUT_S,  # a fetch, a look and a push
        gid=backends.sandbox_gid(),
    )


def _settled(publication: Publication) -> dict[str, str]:
    """Path → commit of the base branch with which the agent has brought it together: nothing before the turn that was told to
    has succeeded, nor after a way back to before it."""
    by, run = publication.settled_by, publication.run
    if by is None or publication.patch.turn.number < by or not run.turns.filter(number=by, status=RunStatus.SUCCEEDED).exists():
        return {}
    is_taken_back = run.turns.filter(kind=TurnKind.REVERT, number__gt=by, reverts_to__lt=by).exists()
    return {} if is_taken_back else dict(publication.settled)


def _pull(publication: Publication, github: GitHub, published: Published) -> Pull:
    """The pull request of the branch, opened if there is none. One that is over counts if it is for this very commit."""
    repository, branch = repository_of(publication.run.task.repo), publication.branch_name
    known = PullRequest.objects.filter(run=publication.run, branch=branch).first()
    found = github.pull(repository, known.number) if known else github.find_pull(repository, head=branch)
    if found and (known or found.state in sightings.UNDECIDED or found.head_sha == published.commit):
        return found
    try:
        return github.create_pull(
            repository,
            head=branch,
            base=publication.base,
            title=publication.title,
            body=publication.body,
            is_draft=publication.is_draft,
        )
    except PullExists:  # since we looked
        if (found := github.find_pull(repository, head=branch)) is None:
            raise
        return found


def _write_down(publication: Publication, pull: Pull, published: Published) -> None:
    there = {
        "repository": repository_of(publication.run.task.repo),
        "number": pull.number,
        "url": pull.url,
        "branch": publication.branch_name,
        "base": pull.base,
        "state": pull.state,
        "head_sha": published.commit,
        "turn": publication.patch.turn.number,
    }
    with transaction.atomic():  # under another name it is another one, of which nothing is known yet
        PullRequest.objects.filter(run=publication.run).exclude(branch=publication.branch_name).delete()
        # What checks said was said of another commit.
        PullRequest.objects.filter(run=publication.run).exclude(head_sha=published.commit).update(checks="", mergeable="", etag="")
        row, is_new = PullRequest.objects.update_or_create(run=publication.run, defaults=there)
        if is_new:
            announcing.pull_request_has_changed(row)
    polling.ask_soon([row.pk])


def _dress(publication: Publication, github: GitHub, pull: Pull) -> None:
    """Labels and reviewers, once: what people take off again stays off. Those that GitHub refuses stay to be asked for once more;
    the pull request is there all the same."""
    repository = repository_of(publication.run.task.repo)
    labels, no_labels = _refused(
        publication.labels, lambda names: github.add_labels(repository, pull.number, names), "The label {} was not set"
    )
    reviewers, no_reviewers = _refused(
        publication.reviewers, lambda names: github.request_reviews(repository, pull.number, names), "{} was not asked for a review"
    )
    kept = {"labels": labels, "reviewers": reviewers, "refused": [*no_labels, *no_reviewers]}
    Publication.objects.filter(pk=publication.pk).update(**kept)


def _refused(names: Sequence[str], ask: Callable[[Sequence[str]], None], sentence: str) -> tuple[list[str], list[str]]:
    """Ask for all at once, or each alone where GitHub refuses them together; those that it refuses, and why."""
    if not names:
        return [], []
    try:
        ask(names)
    except TokenRefused:
        raise
    except Refused as error:
        if len(names) > 1:
            each = [_refused([name], ask, sentence) for name in names]
            return [name for refused, _ in each for name in refused], [why for _, said in each for why in said]
        return list(names), [f"{sentence.format(names[0])}: {error.message}"]
    except GitHubError as error:  # not because of one of them
        return list(names), [f"{sentence.format(', '.join(names))}: {error.message}"]
    return [], []
