"""Verbs: what somebody has drafted on a run's changes becomes a review of its pull request, once, whatever dies on the way.

It is submitted as comments, so it neither approves nor blocks. GitHub takes comments on lines of the pull request's diff only; others
stand in the review's text, with what they are about.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

from django.db import connection, transaction
from django.utils import timezone

from tasks.comments import as_code, fenced
from tasks.errors import AppError, Conflict, InvalidInput
from tasks.github import pulls, quoting, sightings, wording
from tasks.github.asking import github_as
from tasks.github.merging import pull_of
from tasks.github.pull_lines import Placed, placed
from tasks.github_api import credentials
from tasks.github_api.client import GitHub
from tasks.github_api.conversations import Said
from tasks.github_api.errors import GitHubError, Refused, Unavailable
from tasks.models import Comment, CommentSide, Publication, PullRequest, PullReview, Run, Task, User
from tasks.running import nudge, patches
from tasks.running.redact import redactor

logger = logging.getLogger(__name__)

MOST_SUMMARY = 10_000  # characters
_MOST_TEXT = 65_536  # that GitHub takes
_MOST_QUOTE = 2_000
_QUIET = timedelta(minutes=1)  # after which what GitHub has not got by then does not arrive any more
_FORGOTTEN = timedelta(days=1)
_POSTING = 0x6163_7276_0000_0000  # advisory locks, plus the run's number

# What to do about GitHub's words; the first that fits.
_ADVICE = (
    ("pending review", "You have begun a review of this pull request at GitHub. Submit or discard it there, then post again."),
    ("commit_id", "Its commit is not in the pull request any more. Update the pull request, then post again."),
    ("locked", "While it is locked, only those who may write to the repository can say something."),
)
_OF_LINES = ("must be part of the", "could not be resolved", "diff hunk")


class LinesRefused(Refused):
    """GitHub does not find lines of comments in the diff, whatever it told of that before."""

    code = "github_lines_refused"


@dataclass(frozen=True)
class Offer:
    """What would be posted. `is_behind`: the pull request lacks the newest changes. `login`: by whose account at GitHub, "" when it is
    this server's or its app's."""

    pull: PullRequest
    comments: Sequence[Placed]
    is_behind: bool
    login: str


def offer(*, run: Run, by: User) -> Offer:
    """What the user is to confirm; Conflict when there is nothing to post."""
    pull = _pull(run)
    drafts = list(Comment.objects.drafts(run=run, author=by))
    if not drafts:
        raise Conflict("There are no drafts to post. Comment on lines of the changes first.")
    with github_as(by, pull.repository) as github:
        found = _placed(github, pull, drafts)
    newest, publication = patches.newest(run), Publication.objects.filter(run=run).first()
    is_behind = newest is not None and (publication is None or publication.pushed != newest.sha256)
    account = credentials.own(by)
    is_own = account is not None and account.token == credentials.token_for(by, pull.repository)
    return Offer(pull, found, is_behind, account.login if account and is_own else "")


def post(*, run: Run, by: User, ids: Collection[int], summary: str = "", as_text: bool = False) -> PullReview:
    """Post these drafts as one review, with a text of the user's before them; with `as_text` all stand in the text.

    May be repeated: what was posted already is the answer. Whatever is in the way, the drafts stay.
    """
    summary = summary.strip()
    if len(summary) > MOST_SUMMARY:
        raise InvalidInput(f"The summary has {len(summary):,} characters; {MOST_SUMMARY:,} are the most.", field="summary")
    pull = _pull(run)
    with _alone(run) as is_alone:
        if not is_alone:
            raise Conflict("It is being posted right now. Look at the pull request in a moment.")
        with github_as(by, pull.repository) as github:
            _settle(run, github)
            if before := _posted(run, by, ids):
                return before
            drafts = _chosen(run, by, ids)
            found = [Placed(draft, None) for draft in drafts] if as_text else _placed(github, pull, drafts)
            there = {"repository": pull.repository, "number": pull.number, "commit": pull.head_sha}
            review = PullReview(run=run, author=by, key=secrets.token_hex(16), **there)
            if len(text := _text(review, found, summary)) > _MOST_TEXT:
                raise InvalidInput(
                    f"The review's text would have {len(text):,} characters, and GitHub takes {_MOST_TEXT:,}. Shorten or leave out some.",
                    field="summary",
                )
            return _send(review, github, found, text)


def settle_all() -> None:
    """See what became of those whose posting was cut off. What GitHub does not have is a draft again; nothing is posted by itself."""
    for row in PullReview.objects.filter(url="", created_at__lt=timezone.now() - _QUIET).select_related("run__task", "author"):
        with _alone(row.run) as is_alone:
            if not is_alone:
                continue
            try:
                with github_as(row.author, row.repository) as github:
                    _settle(row.run, github)
            except AppError as error:
                logger.info("Whether %s was posted is not known yet: %s", row, error.message)
                PullReview.objects.filter(pk=row.pk, url="", created_at__lt=timezone.now() - _FORGOTTEN).delete()


# --- what there is ------------------------------------------------------------------------------------------------------


def _pull(run: Run) -> PullRequest:
    pull = pull_of(run)
    if pull.state not in sightings.UNDECIDED:
        raise Conflict(f"Pull request #{pull.number} is {pull.state}. Reopen it first, or send the drafts to the agent.")
    if pulls.is_at_work(run):
        raise Conflict(f"Pull request #{pull.number} is being updated. Post when that is done.")
    return pull


def _placed(github: GitHub, pull: PullRequest, drafts: Sequence[Comment]) -> list[Placed]:
    files = github.differences(pull.repository, pull.base or pull.run.task.base_branch, pull.head_sha)
    return [placed(draft, files) for draft in drafts]


def _posted(run: Run, by: User, ids: Collection[int]) -> PullReview | None:
    """The review that these very comments have become already."""
    reviews = PullReview.objects.filter(run=run, author=by, comments__in=ids).exclude(url="").distinct()
    return next((one for one in reviews if set(one.comments.values_list("pk", flat=True)) == set(ids)), None)


# --- once ---------------------------------------------------------------------------------------------------------------


@contextmanager
def _alone(run: Run) -> Iterator[bool]:
    """Whether nobody else posts something of this run meanwhile. Who dies lets go."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_POSTING + run.pk])
        is_alone = bool(cursor.fetchone()[0])
        try:
            yield is_alone
        finally:
            if is_alone:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [_POSTING + run.pk])


def _settle(run: Run, github: GitHub) -> None:
    """See what became of one whose posting was cut off: it is there, or it is none."""
    row = PullReview.objects.filter(run=run, url="").first()
    if row is None:
        return
    if said := github.find_review(row.repository, row.number, row.mark):
        _write_down(row, said)
    elif row.created_at > timezone.now() - _QUIET:  # GitHub may still be at it
        raise Conflict("GitHub was asked a moment ago and did not say whether it has the review. Post again in a minute: it is looked for.")
    else:
        row.delete()


def _chosen(run: Run, by: User, ids: Collection[int]) -> list[Comment]:
    drafts = list(Comment.objects.drafts(run=run, author=by).filter(pk__in=ids))
    if not drafts or len(drafts) != len(set(ids)):
        raise Conflict("Some of these drafts were sent or deleted in the meantime, perhaps in another window. Look at the list again.")
    return drafts


def _send(review: PullReview, github: GitHub, found: Sequence[Placed], text: str) -> PullReview:
    """Submit it, written down before as being posted. Where GitHub says no, it is none."""
    comments = [one.place.as_comment(one.comment.body) for one in found if one.place]
    with transaction.atomic():
        Task.objects.hold(review.run.task_id)
        review.save()
        review.comments.set([one.comment for one in found])
    try:
        said = github.create_review(review.repository, review.number, commit=review.commit, body=text, comments=comments)
    except Unavailable as error:
        said = _looked_for(review, github, error)
    except GitHubError as error:
        review.delete()
        raise _advised(error) from error
    return _write_down(review, said)


def _looked_for(review: PullReview, github: GitHub, error: Unavailable) -> Said:
    """The review, of which GitHub did not say that it has it; the error when it does not say so now either."""
    with suppress(GitHubError):
        if said := github.find_review(review.repository, review.number, review.mark):
            return said
    raise Unavailable(
        f"{error.message.rstrip('.')}. Whether the review is there is not known: the drafts stay, and it is looked for before they are "
        "posted again."
    ) from error


def _write_down(review: PullReview, said: Said) -> PullReview:
    """It is there: its comments are drafts no more."""
    with transaction.atomic():
        review.github_id = said.id
        review.url = said.url or f"{pull_of(review.run).url}#pullrequestreview-{said.id}"
        review.save(update_fields=["github_id", "url"])
        drafts = Comment.objects.drafts(run=review.run, author=review.author)
        Comment.objects.filter(pk__in=drafts.filter(pk__in=review.comments.all()).values("pk")).update(turn=None, review=review.url)
        nudge.tell([nudge.run_group(review.run_id)])
    return review


def _advised(error: GitHubError) -> GitHubError:
    """The error with what to do about it."""
    if not isinstance(error, Refused):
        return error
    words = error.message.lower()
    if any(part in words for part in _OF_LINES):
        return LinesRefused(f"{error.message.rstrip('.')}. Nothing was posted. Post again with all comments in the review's text.")
    advice = next((advice for part, advice in _ADVICE if part in words), "")
    return Refused(f"{error.message.rstrip('.')}. {advice}") if advice else error


# --- what it says -------------------------------------------------------------------------------------------------------


def _text(review: PullReview, found: Sequence[Placed], summary: str) -> str:
    """The review's text: the user's words, and the comments that stand on no line."""
    hidden = redactor(review.run)
    parts = [summary] if summary else []
    for one in found:
        if one.place is None:
            comment = one.comment
            is_old = comment.side == CommentSide.OLD
            name = as_code((comment.old_path if is_old else "") or comment.path)
            before = " before the change" if is_old else ""
            quote = quoting.cut(quoting.redacted(comment.quote, hidden), _MOST_QUOTE)
            parts.append(f"**{name}, {comment.lines}{before}**\n\n{fenced(quote)}\n\n{comment.body}")
    if not parts:
        parts = [f"Comments on [these changes]({wording.link(review.run)})."]
    return "\n\n".join([*parts, review.mark])
