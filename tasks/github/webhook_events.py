"""What each event of a webhook's changes. Each function takes the repository's owner/name, the action and the fields that were kept;
it gives a sentence on what was done, or raises Ignored or Unusable."""

from __future__ import annotations

from collections.abc import Callable

from django.db.models import QuerySet
from django.utils import timezone

from tasks.github import app_events, polling, request_events, sightings
from tasks.github.payloads import Fields, Ignored, Unusable
from tasks.github.sightings import MERGEABLE, UNDECIDED, Seen, Sighting
from tasks.models import PullRequest, PullRequestState

_PULL_REQUEST_ACTIONS = frozenset({"opened", "closed", "reopened", "converted_to_draft", "ready_for_review", "synchronize", "edited"})
_GOOD = frozenset({"success", "neutral", "skipped"})
_BAD = frozenset({"failure", "timed_out", "action_required", "startup_failure", "error"})


def ping(repository: str, action: str, fields: Fields) -> str:
    return "GitHub asked whether anybody is here, and was answered."


def pull_request(repository: str, action: str, fields: Fields) -> str:
    if action not in _PULL_REQUEST_ACTIONS:
        raise Ignored("Nothing was done: this changes nothing that is shown of a pull request.")
    number = fields.number("pull_request.number")
    found = _of_number(repository, number)
    head = fields.sha("pull_request.head.sha")
    sighting = Sighting(
        at=fields.time("pull_request.updated_at"),
        state=sightings.state_of(
            state=fields.text("pull_request.state", most=20),
            is_draft=fields.flag("pull_request.draft"),
            is_merged=fields.flag("pull_request.merged"),
        ),
        base=fields.text("pull_request.base.ref", most=250),
        mergeable=MERGEABLE.get(fields.optional_text("pull_request.mergeable_state", most=40)),
    )
    seen = [sightings.see(row.pk, _with_head(row, sighting, action, head)) for row in found]
    polling.ask_soon([row.pk for row in found])  # for all that a payload does not say
    if all(one is Seen.OLD for one in seen):
        raise Ignored(f"Nothing was done: something newer is known of pull request {number} already.")
    return f"Pull request {number} is {sighting.state}."


def _with_head(row: PullRequest, sighting: Sighting, action: str, head: str) -> Sighting:
    """After somebody else's push, what checks said was said of another commit. What we have pushed ourselves stays in the row:
    it tells a later push of ours whether it would overwrite work of others."""
    if action != "synchronize":
        return sighting
    checks = None if head == row.head_sha else ""
    return Sighting(at=sighting.at, state=sighting.state, base=sighting.base, checks=checks, mergeable=sighting.mergeable or "")


def pull_request_review(repository: str, action: str, fields: Fields) -> str:
    """One review is not the verdict: another one's request for changes stands. GitHub is asked for the whole."""
    number = fields.number("pull_request.number")
    found = _of_number(repository, number)
    state = fields.text("review.state", most=40).lower()
    undecided = found.filter(state__in=UNDECIDED)
    if action == "submitted" and state == "changes_requested":
        sightings.mark(undecided, review="changes_requested")
    elif action == "submitted" and state == "approved":
        sightings.mark(undecided.exclude(review="changes_requested"), review="approved")
    elif action != "dismissed":
        raise Ignored("Nothing was done: such a review neither approves nor requests changes.")
    polling.ask_soon([row.pk for row in undecided])
    return f"The review of pull request {number} was taken note of."


def check_run(repository: str, action: str, fields: Fields) -> str:
    return _check(repository, fields, "check_run")


def check_suite(repository: str, action: str, fields: Fields) -> str:
    return _check(repository, fields, "check_suite")


def _check(repository: str, fields: Fields, of: str) -> str:
    sha, status = fields.sha(f"{of}.head_sha"), fields.text(f"{of}.status", most=40)
    conclusion = fields.optional_text(f"{of}.conclusion", most=40)
    return _checked(repository, sha, conclusion if status == "completed" else "pending", is_whole=of == "check_suite")


def status(repository: str, action: str, fields: Fields) -> str:
    return _checked(repository, fields.sha("sha"), fields.text("state", most=40), is_whole=False)


def _checked(repository: str, sha: str, result: str, *, is_whole: bool) -> str:
    """One check has come to a result, or (`is_whole`) all those of one app. One that fails decides; that all are good only GitHub
    can say when there are several, so it is asked."""
    found = _known(repository).filter(head_sha=sha, state__in=UNDECIDED)
    numbers = sorted(found.values_list("number", flat=True))
    if not numbers:
        raise Ignored("Nothing was done: no open pull request of ours is at that commit.")
    if result in _BAD:
        sightings.mark(found, checks="failure")
    elif result in _GOOD and is_whole:
        sightings.mark(found.exclude(checks="failure"), checks="success")
    elif result in _GOOD:
        sightings.mark(found.filter(checks=""), checks="pending")
    elif result == "pending":
        sightings.mark(found.exclude(checks="failure"), checks="pending")
    polling.ask_soon(list(found.values_list("pk", flat=True)))
    return f"The checks of pull request {', '.join(map(str, numbers))} were taken note of."


def push(repository: str, action: str, fields: Fields) -> str:
    """A base branch has moved, so whether pull requests can still be merged is not known."""
    kind, _, branch = fields.text("ref", most=270).partition("refs/heads/")
    if kind or not branch:
        raise Ignored("Nothing was done: this was no push to a branch.")
    found = _known(repository).filter(base=branch, state__in=UNDECIDED)
    keys = list(found.values_list("pk", flat=True))
    if not keys:
        raise Ignored("Nothing was done: no open pull request of ours is to be merged into that branch.")
    sightings.mark(found, mergeable="")
    polling.ask_soon(keys)
    return f"Whether {len(keys)} pull request{'s' if len(keys) > 1 else ''} can still be merged is asked again."


def repository(repository: str, action: str, fields: Fields) -> str:
    if action in ("renamed", "transferred"):
        return _moved(_old_name(repository, action, fields), repository)
    if action == "deleted":
        undecided = _known(repository).filter(state__in=UNDECIDED)
        for row in undecided:
            sightings.see(row.pk, Sighting(at=timezone.now(), state=PullRequestState.CLOSED, mergeable=""))
        return "The repository's open pull requests are closed with it."
    if action == "archived":
        sightings.mark(_known(repository).filter(state__in=UNDECIDED), mergeable="blocked")
        return "The repository can only be read now, so nothing can be merged."
    if action == "unarchived":
        found = _known(repository).filter(state__in=UNDECIDED)
        sightings.mark(found, mergeable="")
        polling.ask_soon(list(found.values_list("pk", flat=True)))
        return "Whether pull requests can be merged is asked again."
    raise Ignored("Nothing was done: this changes nothing that is shown of a pull request.")


def _old_name(new: str, action: str, fields: Fields) -> str:
    if not new:
        raise _nameless()
    owner, _, name = new.partition("/")
    if action == "renamed":
        return f"{owner}/{fields.text('changes.repository.name.from', most=100)}"
    user = fields.optional_text("changes.owner.from.user.login", most=100)
    return f"{user or fields.text('changes.owner.from.organization.login', most=100)}/{name}"


def _moved(old: str, new: str) -> str:
    """From now on GitHub is asked by the new name, and its deliveries are known by it. Where our branches are pushed to is the
    repository's source, which a payload does not change."""
    sightings.mark(_known(old), repository=new)
    polling.ask_soon(list(sightings.rows(new).values_list("pk", flat=True)))
    return f"{old} is {new} now."


def _nameless() -> Unusable:
    return Unusable("Nothing was done: the payload names no repository.")


def _known(repository: str) -> QuerySet[PullRequest]:
    if not repository:
        raise _nameless()
    found = sightings.rows(repository)
    if not found.exists():
        raise Ignored("Nothing was done: no run here has opened a pull request in that repository.")
    return found


def _of_number(repository: str, number: int) -> QuerySet[PullRequest]:
    found = _known(repository).filter(number=number)
    if not found.exists():
        raise Ignored(f"Nothing was done: no run here has opened pull request {number} of that repository.")
    return found


HANDLERS: dict[str, Callable[[str, str, Fields], str]] = {
    "ping": ping,
    "pull_request": request_events.beside("pull_request", pull_request),
    "pull_request_review": request_events.beside("pull_request_review", pull_request_review),
    "pull_request_review_comment": request_events.of("pull_request_review_comment"),
    "check_run": check_run,
    "check_suite": check_suite,
    "status": status,
    "push": push,
    "repository": repository,
    "issues": request_events.of("issues"),
    "issue_comment": request_events.of("issue_comment"),
    **app_events.HANDLERS,
}
"""By GitHub's name of the event. Deliveries of others are kept without their payload, and ignored."""
