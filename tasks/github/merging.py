"""Verbs: what is decided about a run's pull request. GitHub does it, by the user's own token, and pages show at once what it said.

Each may be repeated: what is done already is fine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.utils import timezone

from tasks.errors import Conflict
from tasks.github import polling, sightings
from tasks.github.asking import github_as
from tasks.github.sightings import Sighting
from tasks.github_api.client import GitHub, Pull
from tasks.github_api.errors import GitHubError, Refused, Unavailable
from tasks.models import PullRequest, PullRequestState, Repo, Run, User

# What to do about GitHub's words; the first that fits.
_ADVICE = (
    ("still a draft", "Mark it as ready for review first."),
    ("approving review", "Ask for a review on GitHub, and merge when it is approved."),
    ("status check", "Wait for the checks, or have those fixed that fail."),
    ("was modified", "Somebody has pushed to the branch since you looked. Look at what is new on GitHub, then merge again."),
    ("not allowed", "Choose another way to merge."),
    ("not mergeable", "If it conflicts with the base branch, update the pull request: what conflicts is then named."),
    ("protected", "Change the branch's protection on GitHub, or ask who may."),
)


@dataclass(frozen=True)
class Offer:
    """What can be merged now: `methods` are those that the repository allows, the one that was used last first."""

    pull: Pull
    methods: tuple[str, ...]


def offer(*, run: Run, by: User) -> Offer:
    """What the user is to confirm. Conflict when there is nothing to merge (any more)."""
    with _asked(run, by) as (row, github):
        pull = _look(row, github)
        _check_open(row, pull)
        last = run.task.repo.merge_method
        methods = sorted(github.repo(row.repository).merge_methods, key=lambda method: method != last)
    return Offer(pull, tuple(methods))


def merge(*, run: Run, by: User, method: str, head_sha: str) -> None:
    """Merge what the user has seen, which ends at the commit `head_sha`. The run's sandbox is given back."""
    with _asked(run, by) as (row, github):
        pull = _look(row, github)
        if pull.state == PullRequestState.MERGED:
            return
        _check_open(row, pull)
        try:
            github.merge(row.repository, row.number, method, head_sha=head_sha)
        except (Refused, Unavailable) as error:
            if _look(row, github).state != PullRequestState.MERGED:  # by somebody else meanwhile, or by us, and the answer was lost
                raise _advised(error) from error
            return
        sightings.see(row.pk, Sighting(at=timezone.now(), state=PullRequestState.MERGED, mergeable=""))
    Repo.objects.filter(pk=run.task.repo_id).update(merge_method=method)


def mark_ready(*, run: Run, by: User) -> None:
    """Let a draft be reviewed."""
    with _asked(run, by) as (row, github):
        github.mark_ready(row.repository, row.number)
        _look(row, github)


def close(*, run: Run, by: User) -> None:
    _set_state(run, by, "closed")


def reopen(*, run: Run, by: User) -> None:
    _set_state(run, by, "open")


def _set_state(run: Run, by: User, state: str) -> None:
    with _asked(run, by) as (row, github):
        if _look(row, github).state == PullRequestState.MERGED:
            raise Conflict(f"Pull request #{row.number} is merged, so it can be neither closed nor opened.")
        try:
            _see(row, github.update_pull(row.repository, row.number, state=state))
        except Refused as error:
            raise _advised(error) from error


def delete_branch(*, run: Run, by: User) -> None:
    """Delete the branch of a merged pull request, if it holds nothing but what was merged."""
    with _asked(run, by) as (row, github):
        pull = _look(row, github)
        if pull.state != PullRequestState.MERGED:
            raise Conflict(f"Pull request #{row.number} is not merged. Its branch is deleted after that.")
        if (tip := github.tip(row.repository, row.branch)) not in ("", pull.head_sha):
            raise Conflict(f"Somebody has pushed to {row.branch} since it was merged, so it was not deleted. Look at it on GitHub.")
        if pull.head != row.branch or pull.head_repository.lower() != row.repository.lower():
            raise Conflict(f"{row.branch} is not the branch of pull request #{row.number}. Look at it on GitHub.")
        try:
            if tip:
                github.delete_branch(row.repository, row.branch)
        except Refused as error:
            if github.tip(row.repository, row.branch):
                raise _advised(error) from error
        PullRequest.objects.filter(pk=row.pk).update(is_branch_gone=True)
        sightings.tell([row])


@contextmanager
def _asked(run: Run, by: User) -> Iterator[tuple[PullRequest, GitHub]]:
    """The run's pull request, and GitHub to be asked about it. What becomes of an error is looked at in the next round."""
    row = pull_of(run)
    with github_as(by, row.repository) as github:
        try:
            yield row, github
        except GitHubError:
            polling.ask_soon([row.pk])
            raise


def pull_of(run: Run) -> PullRequest:
    """The run's pull request; Conflict without one."""
    row = PullRequest.objects.select_related("run__task").filter(run=run).exclude(repository="").first()
    if row is None:
        raise Conflict("This run has no pull request. Open one first.")
    return row


def _look(row: PullRequest, github: GitHub) -> Pull:
    """How it is now, which pages show from here on."""
    pull = github.pull(row.repository, row.number)
    assert pull is not None  # asked without an ETag
    _see(row, pull)
    return pull


def _see(row: PullRequest, pull: Pull) -> None:
    said = Sighting(at=timezone.now(), state=PullRequestState(pull.state), base=pull.base[: polling.MOST_BASE], mergeable=pull.mergeable)
    sightings.see(row.pk, said)
    if pull.state in sightings.UNDECIDED:
        polling.ask_soon([row.pk])  # for its checks and reviews


def _check_open(row: PullRequest, pull: Pull) -> None:
    if pull.state == PullRequestState.MERGED:
        raise Conflict(f"Pull request #{row.number} is merged already.")
    if pull.state == PullRequestState.CLOSED:
        raise Conflict(f"Pull request #{row.number} is closed. Reopen it first.")
    if pull.state == PullRequestState.DRAFT:
        raise Conflict(f"Pull request #{row.number} is still a draft. Mark it as ready for review first.")


def _advised(error: GitHubError) -> GitHubError:
    """The error with what to do about it."""
    words = error.message.lower()
    advice = next((advice for part, advice in _ADVICE if part in words), "")
    return type(error)(f"{error.message.rstrip('.')}. {advice}".strip()) if advice else error
