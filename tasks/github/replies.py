"""The answer to a request from GitHub: one comment, kept up to date while its runs go on.

What it says is made from rows each time; it is sent when that is something new. Whoever speaks is the GitHub App where there is one,
else the user who asked.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from agents.registry import ADAPTERS
from tasks.errors import AppError
from tasks.github import wording
from tasks.github_api import credentials
from tasks.github_api.client import GitHub
from tasks.github_api.errors import NotFoundOnGitHub, PermissionMissing, RateLimited, Refused, TokenRefused
from tasks.models import FINAL, GitHubRequest, GitHubRequestState, Patch, PullRequest, Run, Stage, Task

logger = logging.getLogger(__name__)

PAUSE = timedelta(seconds=10)  # between two updates of one comment
FOLLOWED_FOR = timedelta(days=30)
ROUND_S = 30.0
_MOST_AT_ONCE = 200
_MOST_ERROR = 300  # characters
_SKEW = timedelta(seconds=5)  # of clocks, and of a transaction that was not committed when we looked
_AGAIN = timedelta(minutes=1)  # after an error
_TELLING = 0x6163_6770_0000_0000  # advisory locks, plus the request's number


def voice(row: GitHubRequest) -> str:
    """The token by which we speak in this repository."""
    return credentials.app_token(row.repository) or credentials.token_for(row.user, row.repository)


def tell_all() -> None:
    """One round: bring the answers up to date of whose runs something has become, those first that were looked at longest ago."""
    end = time.monotonic() + ROUND_S
    for pk in list(_due().values_list("pk", flat=True)[:_MOST_AT_ONCE]):
        if time.monotonic() > end:
            return
        tell(pk)


def _due() -> QuerySet[GitHubRequest]:
    since = OuterRef("looked_at") - _SKEW
    has_moved = (
        ~Q(status__in=FINAL) | Q(finished_at__gte=since) | Q(pull_request__created_at__gte=since) | Q(pull_request__seen_at__gte=since)
    )
    moved = Exists(Run.objects.filter(has_moved, task=OuterRef("task")))
    over = GitHubRequest.objects.exclude(state=GitHubRequestState.QUEUED).filter(is_silent=False, created_at__gt=Now() - FOLLOWED_FOR)
    due = over.filter(not_before__lte=Now()).filter(Q(looked_at=None) | Q(looked_at__lte=Now() - PAUSE))
    return due.filter(Q(answer_id=None) | Q(looked_at=None) | moved).order_by("looked_at", "pk")


def tell(request_id: int) -> None:
    """Say in the request's comment how things are, unless it says so already. What goes wrong is tried again later."""
    with _alone(request_id) as is_alone:
        row = GitHubRequest.objects.select_related("user", "task", "turn__run").filter(pk=request_id, is_silent=False).first()
        if not is_alone or row is None or row.state == GitHubRequestState.QUEUED:
            return
        GitHubRequest.objects.filter(pk=row.pk).update(looked_at=Now())
        text = body(row)
        digest = hashlib.sha256(text.encode()).hexdigest()
        if row.answer_id is not None and digest == row.answer_hash:
            return
        try:
            with GitHub(voice(row)) as github:
                _say(row, github, text)
        except RateLimited as error:
            GitHubRequest.objects.filter(user=row.user, repository=row.repository).update(not_before=error.until)
        except NotFoundOnGitHub as error:
            _fall_silent(row, f"There is no comment any more: {error.message}")
        except (PermissionMissing, Refused) as error:
            _fall_silent(row, f"It is not answered: {error.message}")
        except AppError as error:
            if isinstance(error, TokenRefused):
                credentials.refused(row.user, row.repository)
            logger.info("%s was not answered: %s", row, error.message)
            GitHubRequest.objects.filter(pk=row.pk).update(not_before=timezone.now() + _AGAIN)
        else:
            GitHubRequest.objects.filter(pk=row.pk).update(answer_hash=digest)


def _say(row: GitHubRequest, github: GitHub, text: str) -> None:
    """Make the comment, or change it. One that was sent by somebody who died before it was written down is found by its mark."""
    if row.answer_id is not None:
        github.update_comment(row.repository, row.answer_id, text)
        return
    found = 0
    if row.is_answering:
        found = github.find_comment(row.repository, row.number, _mark(row), since=row.created_at - timedelta(minutes=5))
    else:
        GitHubRequest.objects.filter(pk=row.pk).update(is_answering=True)
    made = found or github.comment(row.repository, row.number, text).id
    GitHubRequest.objects.filter(pk=row.pk).update(answer_id=made)
    if found:
        github.update_comment(row.repository, found, text)


def _fall_silent(row: GitHubRequest, why: str) -> None:
    GitHubRequest.objects.filter(pk=row.pk).update(is_silent=True, outcome=row.outcome or why)


@contextmanager
def _alone(request_id: int) -> Iterator[bool]:
    """Whether nobody else is answering this request meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_TELLING + request_id])
        is_alone = bool(cursor.fetchone()[0])
        try:
            yield is_alone
        finally:
            if is_alone:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [_TELLING + request_id])


# --- what it says -------------------------------------------------------------------------------------------------------


def _mark(row: GitHubRequest) -> str:
    return f"<!-- asynccode {row.key} -->"


def body(row: GitHubRequest) -> str:
    """The whole comment. It mentions nobody, and what is not ours in it is code."""
    if row.state == GitHubRequestState.REFUSED:
        return f"{_mark(row)}\nNothing was started for {_code(row.login)}. {_sentence(row.outcome)}"
    if row.task is None:
        return f"{_mark(row)}\nThe task was deleted."
    if row.turn is not None:
        runs, head = [row.turn.run], "Sent to the run of this pull request as a follow-up."
    else:
        runs, head = list(row.task.runs.order_by("pk")), _head(row.task)
    pulls = {pull.run_id: pull for pull in PullRequest.objects.filter(run__in=runs)}
    lines = [_mark(row), head, "", "| Run | State | Changes | Pull request |", "| --- | --- | --- | --- |"]
    lines += [_line(row, run, pulls.get(run.pk)) for run in runs]
    lines += ["", *(line for run in runs for line in _trouble(row, run))]
    address = f"{settings.BASE_URL}{row.task.get_absolute_url()}"
    lines += ["", f"<sub>Asked for by {_code(row.login)} · [task {row.task.pk}]({address})</sub>"]
    return "\n".join(lines)


def _head(task: Task) -> str:
    if not task.is_restricted:
        return "The task is under way here."
    return "The task is under way here, restricted: without secrets, and without a network but the agent's model."


def _line(row: GitHubRequest, run: Run, pull: PullRequest | None) -> str:
    adapter = ADAPTERS.get(run.agent)
    name = " ".join(filter(None, [adapter.label if adapter else run.agent, _code(run.model) if run.model else ""]))
    attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
    link = f"[#{pull.number}]({pull.url}), {pull.get_state_display().lower()}" if pull else ""
    return f"| [{name}{attempt}]({wording.link(run)}) | {(row.turn or run).get_status_display()} | {_changes(run)} | {link} |"


def _changes(run: Run) -> str:
    newest = Patch.objects.filter(run=run).order_by("-turn__number", "-kind").values_list("files", "additions", "deletions").first()
    if newest is None:
        return ""
    files, additions, deletions = newest
    return f"{len(files)} file{'' if len(files) == 1 else 's'}, +{additions} −{deletions}" if files else "none"


def _trouble(row: GitHubRequest, run: Run) -> Iterator[str]:
    """What went wrong, in the words of who says it, and what to do where that follows from the restriction."""
    if not run.error:
        return
    yield f"{_code(run.label)} {_code(run.error)}"
    if run.stage == Stage.SETUP and row.task is not None and row.task.is_restricted:
        yield (
            "The setup script ran without secrets and without a network, since tasks from GitHub are restricted in this repository. "
            "The repository's page can let them be as others."
        )


def _sentence(text: str) -> str:
    """A sentence of ours; as code if it has something of others in it that GitHub could take for more than text."""
    return text if re.fullmatch(r"[\w\s.,;:?'’()/-]*", text) else _code(text)


def _code(text: str) -> str:
    """As code within a line: nothing in it is a mention, a reference or markup."""
    flat = " ".join(text.replace("`", "'").replace("|", "¦").split())
    return f"`{flat[:_MOST_ERROR] or ' '}`"
