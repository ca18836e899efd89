"""Requests from GitHub become tasks, or follow-ups of the run whose pull request it is.

All that counts is read at GitHub, not in the delivery that told of it: who wrote what, and what they may do there now. A step that
broke off is done again, and finds what it had done: a request makes one task, one turn, one answer (replies.py).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from tasks import presets, repositories, services
from tasks.choices import AgentChoice
from tasks.errors import AppError, InvalidInput, RepoUnavailable
from tasks.github import mentions, replies, request_prompts
from tasks.github.mentions import Asked
from tasks.github_api import credentials, places
from tasks.github_api.client import GitHub
from tasks.github_api.conversations import Said
from tasks.github_api.errors import GitHubError, RateLimited, TokenRefused, Unavailable
from tasks.models import (
    FINAL,
    FromGitHub,
    GitHubAccount,
    GitHubRequest,
    GitHubRequestKind,
    GitHubRequestState,
    Publication,
    PullRequest,
    Repo,
    Run,
    User,
    welcome,
)
from tasks.running import nudge, offers

logger = logging.getLogger(__name__)

MOST_OPEN = 5  # requests of a user in a repository whose runs are not over
MOST_TRIES = 5
_CLAIM = timedelta(minutes=3)  # so long a try may take before another worker makes the next
_AGAIN = timedelta(seconds=30)
_LATE = timedelta(seconds=20)
_MOST_AGAIN = 200
_WRITERS = ("admin", "maintain", "write")


class Unwelcome(AppError):
    """Who asks may not, or nothing is asked: there is no answer, only the operator is told why."""

    code = "unwelcome"


@dataclass(frozen=True)
class Asking:
    """What was found at GitHub: the text that asks, the issue or pull request it stands in, and what it asks."""

    said: Said
    issue: Said
    asked: Asked


def begin(request_id: int) -> None:
    """Make of a request what it asks for, and answer it; one that is over, or that another worker is at, is left alone."""
    due = GitHubRequest.objects.filter(pk=request_id, state=GitHubRequestState.QUEUED, not_before__lte=Now())
    if not due.update(not_before=Now() + _CLAIM, tries=F("tries") + 1):
        return
    row = GitHubRequest.objects.select_related("user").get(pk=request_id)
    if row.tries > MOST_TRIES:
        _refuse(row, f"It was given up after {MOST_TRIES} tries that broke off. The log of the workers says why.", is_silent=True)
        return
    try:
        with GitHub(credentials.token_for(row.user, row.repository)) as github:
            _begin(row, github)
    except RateLimited as error:
        _put_off(row, error.until, tries=F("tries") - 1)
        return
    except Unwelcome as error:
        _refuse(row, error.message, is_silent=True)
        _react(row, "confused")
        return
    except (Unavailable, RepoUnavailable) as error:
        if row.tries < MOST_TRIES:
            _put_off(row, timezone.now() + _AGAIN * row.tries)
            return
        _refuse(row, error.message)
    except GitHubError as error:  # it cannot be seen there with what this user has, or is not there any more
        if isinstance(error, TokenRefused):
            credentials.refused(row.user, row.repository)
        _refuse(row, error.message, is_silent=True)
        return
    except credentials.NoToken as error:
        _refuse(row, error.message, is_silent=True)
        return
    except AppError as error:
        _refuse(row, error.message)
    replies.tell(row.pk)


def begin_late() -> None:
    """Requests that wait though it is their time: the nudge was lost, or a try broke off."""
    late = GitHubRequest.objects.filter(state=GitHubRequestState.QUEUED, not_before__lt=Now() - _LATE).order_by("pk")
    for pk in late.values_list("pk", flat=True)[:_MOST_AGAIN]:
        nudge.enqueue_now(settings.QUEUE_RUNS, "github.begin_request", pk)


def _begin(row: GitHubRequest, github: GitHub) -> None:
    asking = _look(row, github)
    repo = _repo(row.user, row.repository)
    if repo is not None and repo.from_github == FromGitHub.OFF:
        raise Unwelcome("The repository's page says that tasks from GitHub are off.")
    pull = github.pull(row.repository, row.number) if asking.issue.is_pull else None
    if row.kind == GitHubRequestKind.PULL and pull is not None and _is_from_here(row.user, pull.head):
        raise Unwelcome("The pull request was opened from here; what an agent wrote in it asks for nothing.")
    _react(row, "eyes")
    _check_number(row)
    branch = ""
    if pull is not None:
        run = _run_of(row)
        if run is not None and asking.asked.text and {one.agent for one in asking.asked.agents} <= {run.agent}:
            _follow_up(row, run, asking)
            return
        if pull.head_repository.lower() != row.repository:
            raise InvalidInput(
                f"The branch of this pull request is in another repository ({pull.head_repository or 'one that is gone'}). "
                "Ask in one whose branch is in this repository."
            )
        branch = pull.head
    if repo is None:
        repo = repositories.add_repo(by=row.user, source=f"{settings.GITHUB_URL}/{row.repository}")
    _create(row, repo, branch, asking)


def _look(row: GitHubRequest, github: GitHub) -> Asking:
    """What is asked, if it was by this user and they may write to the repository now; else Unwelcome."""
    issue = said = github.issue(row.repository, row.number)
    if row.kind == GitHubRequestKind.COMMENT:
        said = github.issue_comment(row.repository, row.subject)
    elif row.kind == GitHubRequestKind.REVIEW_COMMENT:
        said = github.review_comment(row.repository, row.subject)
    elif row.kind == GitHubRequestKind.REVIEW:
        said = github.review(row.repository, row.number, row.subject)
    account = GitHubAccount.objects.filter(welcome("user__"), user=row.user).first()
    if account is None:
        raise Unwelcome(f"{row.login} has no account here any more.")
    if row.kind == GitHubRequestKind.LABEL:
        asker, login, asked = github.who_labeled(row.repository, row.number, settings.GITHUB_LABEL), account.login, Asked((), "")
    else:
        agents = {adapter.name for adapter in offers.adapters()}
        read = mentions.read(said.text, mentions.name(), agents)
        if read is None:
            raise Unwelcome("It does not say so at GitHub, or not any more.")
        asker, login, asked = said.author_id, said.author, read
    if asker != account.github_id:
        raise Unwelcome(f"At GitHub it was not {row.login} who asked.")
    if github.permission(row.repository, login) not in _WRITERS:
        raise Unwelcome(f"{login} may not write to {row.repository}.")
    return Asking(said, issue, asked)


def _repo(user: User, repository: str) -> Repo | None:
    """The user's repository of that name at GitHub, if they have it."""
    mine = Repo.objects.visible_to(user).filter(is_local=False, source__iendswith=repository.split("/")[1]).order_by("pk")
    also = Repo.objects.visible_to(user).filter(is_local=False, source__iendswith=f"{repository.split('/')[1]}.git").order_by("pk")
    return next((repo for repo in (*mine, *also) if places.name_of(repo.source).lower() == repository), None)


def _check_number(row: GitHubRequest) -> None:
    """One of many that were asked at once waits for none: it is refused, and can be asked again."""
    at_work = Q(state=GitHubRequestState.STARTED) & ~Q(task=None) & Q(task__runs__in=Run.objects.exclude(status__in=FINAL))
    before = Q(state=GitHubRequestState.QUEUED, pk__lt=row.pk)
    others = GitHubRequest.objects.filter(at_work | before, user=row.user, repository=row.repository).exclude(pk=row.pk)
    if others.distinct().count() >= MOST_OPEN:
        raise InvalidInput(
            f"{MOST_OPEN} of your requests in this repository are at work, as many as there may be. Ask again when one is over."
        )


def _run_of(row: GitHubRequest) -> Run | None:
    """The run of this user that has made the pull request."""
    if row.kind == GitHubRequestKind.LABEL:
        return None
    found = PullRequest.objects.filter(repository__iexact=row.repository, number=row.number, run__task__owner=row.user)
    pull = found.select_related("run__task").order_by("-pk").first()
    return pull.run if pull else None


def _is_from_here(user: User, branch: str) -> bool:
    """Whether this is the branch of a run that the user publishes: with their token, the text of an agent looks like theirs."""
    return Publication.objects.filter(Q(branch=branch) | Q(branch="", run__branch=branch), by=user).exists()


def _follow_up(row: GitHubRequest, run: Run, asking: Asking) -> None:
    with transaction.atomic():
        if not GitHubRequest.objects.select_for_update().filter(pk=row.pk, state=GitHubRequestState.QUEUED).exists():
            return  # another worker took it over
        turn = services.send_follow_up(run=run, by=row.user, prompt=request_prompts.follow_up(asking.asked, asking.said))
        _update(row, state=GitHubRequestState.STARTED, task=run.task, turn=turn)


def _create(row: GitHubRequest, repo: Repo, branch: str, asking: Asking) -> None:
    asked = replace(asking.asked, agents=asking.asked.agents or tuple(_usual(row.user)))
    if len(asked.agents) > 1 and any(one.agent == mentions.SCRIPTED for one in asked.agents):
        raise InvalidInput(f"{mentions.SCRIPTED} runs a script, which no other agent can. Ask for it alone.")
    task = services.create_task(
        by=row.user,
        repo=repo,
        prompt=request_prompts.prompt(row, asked, asking.said, asking.issue),
        agents=asked.agents,
        branch=branch,
        submission=row.key,
        origin=services.Origin(
            url=_address(row, asking.said),
            title=request_prompts.title(asked, asking.issue),
            is_restricted=repo.from_github != FromGitHub.AS_OTHERS,
        ),
    )
    _update(row, state=GitHubRequestState.STARTED, task=task)


def _usual(user: User) -> list[AgentChoice]:
    if found := presets.usual_agents(user):
        return found
    raise InvalidInput("No agent can start: none is on that takes prompts in words, or there is no key for its model.")


def _address(row: GitHubRequest, said: Said) -> str:
    is_there = said.url.startswith(f"{settings.GITHUB_URL}/")
    return said.url if is_there else f"{settings.GITHUB_URL}/{row.repository}/issues/{row.number}"


# --- what becomes of the row --------------------------------------------------------------------------------------------


def _update(row: GitHubRequest, **changes: object) -> None:
    """End the waiting, unless another worker has."""
    GitHubRequest.objects.filter(pk=row.pk, state=GitHubRequestState.QUEUED).update(not_before=Now(), **changes)


def _refuse(row: GitHubRequest, why: str, *, is_silent: bool = False) -> None:
    _update(row, state=GitHubRequestState.REFUSED, outcome=why, is_silent=is_silent)


def _put_off(row: GitHubRequest, until: datetime, **changes: object) -> None:
    GitHubRequest.objects.filter(pk=row.pk).update(not_before=until, **changes)


def _react(row: GitHubRequest, content: str) -> None:
    """A reaction to what was said; a review takes none, so its pull request gets it. What goes wrong with it is of no matter."""
    where = {"comment_id": row.subject} if row.kind == GitHubRequestKind.COMMENT else {"number": row.number}
    if row.kind == GitHubRequestKind.REVIEW_COMMENT:
        where = {"review_comment_id": row.subject}
    try:
        with GitHub(replies.voice(row)) as github:
            github.react(row.repository, content, **where)
    except AppError as error:
        logger.info("There is no reaction to %s: %s", row, error.message)
