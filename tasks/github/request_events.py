"""What webhooks say that may ask for a task: a mention in a body or a comment, or a label. Each becomes a row, once; a job does the
rest (requests.py), since it asks GitHub whether all that is true."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.db import transaction

from tasks.github.payloads import Fields, Ignored, Unusable
from tasks.models import GitHubAccount, GitHubRequest, GitHubRequestKind, GitHubRequestState, welcome
from tasks.running import nudge

_BODIES = {"issues": GitHubRequestKind.ISSUE, "pull_request": GitHubRequestKind.PULL}
_COMMENTS = {  # event → the action that is about a new text, its kind, the id of the text
    "issue_comment": ("created", GitHubRequestKind.COMMENT, "comment.id"),
    "pull_request_review_comment": ("created", GitHubRequestKind.REVIEW_COMMENT, "comment.id"),
    "pull_request_review": ("submitted", GitHubRequestKind.REVIEW, "review.id"),
}
_NOTHING = "Nothing was done: nobody asks for anything in this."

Handler = Callable[[str, str, Fields], str]


def of(event: str) -> Handler:
    """The handler of an event that is about nothing but what is asked."""
    return lambda repository, action, fields: _take(event, repository, action, fields)


def beside(event: str, handle: Handler) -> Handler:
    """A handler of an event that is about something else too, which `handle` sees to."""

    def both(repository: str, action: str, fields: Fields) -> str:
        try:
            taken = _take(event, repository, action, fields)
        except (Ignored, Unusable) as error:
            if error.message == _NOTHING:
                return handle(repository, action, fields)
            try:
                return f"{handle(repository, action, fields)} {error.message}"
            except Ignored:
                raise error from None
        try:
            with transaction.atomic():
                return f"{handle(repository, action, fields)} {taken}"
        except (Ignored, Unusable):
            return taken

    return both


def _take(event: str, repository: str, action: str, fields: Fields) -> str:
    """Make a request of what is asked. Ignored when nothing is, or by nobody who may; Unusable."""
    kind, subject = _subject(event, action, fields)
    number = fields.number("pull_request.number" if event.startswith("pull_request") else "issue.number")
    login = fields.text("sender.login", most=100)
    if not repository:
        raise Unusable("Nothing was done: the payload names no repository.")
    if fields.text("sender.type", most=40) != "User":
        raise Ignored(f"Nothing was done: {login} is no person.")
    account = GitHubAccount.objects.select_related("user").filter(welcome("user__"), github_id=fields.id("sender.id")).first()
    if account is None:
        raise Ignored(f"Nothing was done: the GitHub account {login} belongs to no user here.")
    about = {"repository": repository.lower(), "number": number}
    waiting = GitHubRequest.objects.filter(**about, user=account.user, state=GitHubRequestState.QUEUED)
    if kind == GitHubRequestKind.LABEL and waiting.exists():
        raise Ignored(f"Nothing was done: {login} has asked for something there just now.")
    row, is_new = GitHubRequest.objects.get_or_create(
        **about, kind=kind, subject=subject, defaults={"user": account.user, "login": account.login}
    )
    if not is_new:
        raise Ignored(f"Nothing was done: this is {row} already.")
    nudge.enqueue(settings.QUEUE_RUNS, "github.begin_request", row.pk)
    return f"It became {row}; what comes of it is told there."


def _subject(event: str, action: str, fields: Fields) -> tuple[GitHubRequestKind, int]:
    """What kind of request this is, and GitHub's number of it. Ignored for what asks for nothing."""
    is_mentioned = fields.optional_flag("is_mentioned")
    if event in _BODIES and action == "opened" and is_mentioned:
        return _BODIES[event], 0
    if event in _BODIES and action == "labeled":
        if fields.optional_text("label.name", most=300).lower() == settings.GITHUB_LABEL.lower():
            changed = "pull_request.updated_at" if event == "pull_request" else "issue.updated_at"
            return GitHubRequestKind.LABEL, int(fields.time(changed).timestamp())  # each labeling is one request
    elif event in _COMMENTS:
        wanted, kind, path = _COMMENTS[event]
        if action == wanted and is_mentioned:
            return kind, fields.id(path)
    raise Ignored(_NOTHING)
