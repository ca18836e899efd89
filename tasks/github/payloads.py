"""What is kept of a webhook's payload, and how it is read.

A payload is not to be trusted though it is signed: whoever looks after a repository says much of what is in it, and may know the
secret. So only the fields that we use are kept, by their paths, and each is read as what it has to be or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tasks.errors import AppError

_SENDER = ("sender.id", "sender.login", "sender.type")
KEPT: dict[str, tuple[str, ...]] = {
    "ping": (),
    "pull_request": (
        "pull_request.number",
        "pull_request.state",
        "pull_request.draft",
        "pull_request.merged",
        "pull_request.mergeable_state",
        "pull_request.updated_at",
        "pull_request.head.sha",
        "pull_request.base.ref",
        "label.name",
        *_SENDER,
    ),
    "pull_request_review": ("pull_request.number", "review.state", "review.id", *_SENDER),
    "pull_request_review_comment": ("pull_request.number", "comment.id", *_SENDER),
    "issues": ("issue.number", "issue.updated_at", "label.name", *_SENDER),
    "issue_comment": ("issue.number", "comment.id", *_SENDER),
    "check_run": ("check_run.head_sha", "check_run.status", "check_run.conclusion"),
    "check_suite": ("check_suite.head_sha", "check_suite.status", "check_suite.conclusion"),
    "status": ("sha", "state"),
    "push": ("ref",),
    "repository": ("changes.repository.name.from", "changes.owner.from.user.login", "changes.owner.from.organization.login"),
    "installation": ("installation.app_id", "installation.account.login"),
    "installation_repositories": ("installation.app_id", "installation.account.login"),
    "github_app_authorization": ("sender.id",),
}
"""By event. Every delivery keeps its action and its repository besides."""

_TEXTS = {
    "issues": "issue.body",
    "issue_comment": "comment.body",
    "pull_request": "pull_request.body",
    "pull_request_review": "review.body",
    "pull_request_review_comment": "comment.body",
}  # what people wrote
MOST_TEXT = 300  # characters that are kept of any text; what we read is shorter
MOST_NUMBER, MOST_ID = 2**31 - 1, 2**63 - 1
_REPOSITORY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}/(?!\.{1,2}$)[A-Za-z0-9_.-]{1,100}")
_SHA = re.compile(r"[0-9a-f]{40,64}")
_TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")

Scalar = str | int | bool


class Unusable(AppError):
    """A payload without something that its event has to have."""

    code = "unusable_payload"


class Ignored(AppError):
    """There is nothing to do for this delivery; the message says why."""

    code = "ignored"


def kept(event: str, payload: Mapping[str, Any]) -> dict[str, Scalar]:
    """The fields of `payload` that we use, by path: texts cut, numbers that a row can hold; whatever else stands there is left out."""
    found = {path: _scalar(_at(payload, path)) for path in KEPT.get(event, ())}
    return {path: value for path, value in found.items() if value is not None}


def text(event: str, payload: Mapping[str, Any]) -> str:
    """What somebody wrote, as it came; "" for events that are not about a text."""
    value = _at(payload, _TEXTS[event]) if event in _TEXTS else ""
    return value if isinstance(value, str) else ""


def word(payload: Mapping[str, Any], path: str, *, most: int) -> str:
    """A text of the payload's that stands in a column of its own; "" when it is none, or too long."""
    value = _scalar(_at(payload, path))
    return value if isinstance(value, str) and len(value) <= most else ""


def repository(payload: Mapping[str, Any]) -> str:
    """owner/name of the repository that the payload is about; "" when it names none that GitHub could have."""
    name = word(payload, "repository.full_name", most=250)
    return name if _REPOSITORY.fullmatch(name) else ""


class Fields:
    """The fields that were kept. Each way of reading raises Unusable when the field is not there or is something else."""

    def __init__(self, kept: Mapping[str, Any]) -> None:
        self._kept = kept

    def text(self, path: str, *, most: int) -> str:
        value = self._kept.get(path)
        if not isinstance(value, str) or not value:
            raise _unusable(path, "is missing, or is no text")
        if len(value) > most:
            raise _unusable(path, f"is longer than the {most} characters that it may have")
        return value

    def optional_text(self, path: str, *, most: int) -> str:
        """ "" when it is not there, as with what GitHub sends as null."""
        return self.text(path, most=most) if path in self._kept else ""

    def sha(self, path: str) -> str:
        value = self.text(path, most=64)
        if not _SHA.fullmatch(value):
            raise _unusable(path, "is no commit")
        return value

    def number(self, path: str) -> int:
        value = self._kept.get(path)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST_NUMBER:
            raise _unusable(path, "is missing, or is no whole number that could be right")
        return value

    def id(self, path: str) -> int:
        """A number by which GitHub knows something; those are longer than others."""
        value = self._kept.get(path)
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise _unusable(path, "is missing, or is no number that could be right")
        return value

    def flag(self, path: str) -> bool:
        value = self._kept.get(path)
        if not isinstance(value, bool):
            raise _unusable(path, "is missing, or is neither true nor false")
        return value

    def optional_flag(self, path: str) -> bool:
        return self._kept.get(path) is True

    def time(self, path: str) -> datetime:
        value = self.text(path, most=27)
        if not _TIME.fullmatch(value):
            raise _unusable(path, "is no time")
        try:
            return datetime.fromisoformat(value)
        except ValueError:  # the 31st of February
            raise _unusable(path, "is no time") from None


def _unusable(path: str, why: str) -> Unusable:
    return Unusable(f"Nothing was done: in the payload, {path} {why}.")


def _at(payload: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(payload, Mapping):
            return None
        payload = payload.get(key)
    return payload


def _scalar(value: Any) -> Scalar | None:
    if isinstance(value, str):
        return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in value[: MOST_TEXT + 1])
    if isinstance(value, bool):
        return value
    return value if isinstance(value, int) and abs(value) <= MOST_ID else None
