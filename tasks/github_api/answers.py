"""What GitHub says, as far as it is used: read from JSON that may lack anything, and cut where it is endless."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tasks.models import PullRequestState

_LINE, _TEXT = 500, 65536
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
ROLES = ("admin", "maintain", "push", "triage", "pull")
MERGE_METHODS = {"merge": "allow_merge_commit", "squash": "allow_squash_merge", "rebase": "allow_rebase_merge"}


@dataclass(frozen=True)
class Viewer:
    """Whose token it is. `email` is the primary address, "" where the token may not see it; `scopes` None if GitHub tells none."""

    id: int
    login: str
    name: str
    email: str
    is_email_private: bool
    noreply: str
    orgs: tuple[str, ...]
    scopes: tuple[str, ...] | None

    @property
    def commit_email(self) -> str:
        """The address that GitHub links commits to this person by, without telling one that they keep private."""
        return self.noreply if self.is_email_private or not self.email else self.email


@dataclass(frozen=True)
class Repository:
    """`role` is admin, maintain, push, triage, pull or "". `merge_methods` are all where GitHub does not tell."""

    full_name: str
    url: str
    clone_url: str
    description: str
    default_branch: str
    role: str
    is_private: bool
    is_fork: bool
    is_archived: bool
    merge_methods: tuple[str, ...]
    pushed_at: str

    @property
    def can_push(self) -> bool:
        return self.role in ("admin", "maintain", "push") and not self.is_archived


@dataclass(frozen=True)
class Repositories:
    """`next_page` is where to go on, None at the end."""

    found: tuple[Repository, ...]
    next_page: int | None


@dataclass(frozen=True)
class Label:
    """`color` is six hexadecimal digits, or ""."""

    name: str
    color: str
    description: str


@dataclass(frozen=True)
class Pull:
    """A pull request; `state`, `mergeable` and `etag` are as in the model PullRequest."""

    number: int
    url: str
    title: str
    body: str
    author: str
    state: str
    head: str
    head_sha: str
    head_repository: str
    base: str
    mergeable: str
    merge_sha: str
    etag: str = ""


@dataclass(frozen=True)
class Check:
    """`state` is pending, success or failure; `text` is what it says of itself. `id` is that of a check run, 0 of a status; `is_job`: it
    is a job of Actions, which has a log. `annotations`: how many places in files it names."""

    name: str
    state: str
    url: str
    text: str
    id: int = 0
    is_job: bool = False
    annotations: int = 0


@dataclass(frozen=True)
class Checks:
    """`state` sums up: failure if one failed, else pending if one is under way, else success; "" if there are none."""

    state: str
    all: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(one for one in self.all if one.state == "failure")


@dataclass(frozen=True)
class Review:
    """`state` is approved, changes_requested or commented."""

    author: str
    state: str
    text: str
    url: str


@dataclass(frozen=True)
class Reviews:
    """`state` is that of each reviewer's last word: changes_requested if one wants them, else approved if one approves, else ""."""

    state: str
    all: tuple[Review, ...]


@dataclass(frozen=True)
class ReviewComment:
    """`review` is the id of the review that it came with, 0 where GitHub does not say."""

    id: int
    author: str
    text: str
    url: str
    review: int = 0


@dataclass(frozen=True)
class Thread:
    """A conversation about a line of a file; `line` is None for one about the file, or whose line is gone. `hunk` is the piece of the
    diff that it began at, to its end."""

    path: str
    line: int | None
    is_outdated: bool
    comments: tuple[ReviewComment, ...]
    hunk: str = ""


# --- reading ----------------------------------------------------------------------------------------------------------


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def listed(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def line(value: Any) -> str:
    return value[:_LINE].replace("\0", "") if isinstance(value, str) else ""


def text(value: Any) -> str:
    return value[:_TEXT].replace("\0", "") if isinstance(value, str) else ""


def number(value: Any) -> int:
    """A positive number that the database can hold, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63 else 0


def link(value: Any) -> str:
    """An address for people to follow, "" for anything else."""
    return value if isinstance(value, str) and len(value) <= _LINE and re.match(r"https?://[^\s\"'<>]+\Z", value) else ""


def sha(value: Any) -> str:
    return value if isinstance(value, str) and _SHA.fullmatch(value) else ""


def login(value: Any) -> str:
    """Of a user in JSON; those who are gone are GitHub's "ghost"."""
    return line(mapping(value).get("login")) or "ghost"


# --- what is read -----------------------------------------------------------------------------------------------------


def read_label(said: dict[str, Any]) -> Label:
    color = line(said.get("color"))
    return Label(line(said.get("name")), color if re.fullmatch(r"[0-9a-fA-F]{6}", color) else "", line(said.get("description")))


def read_repository(said: dict[str, Any]) -> Repository:
    permissions = mapping(said.get("permissions"))
    methods = tuple(method for method, key in MERGE_METHODS.items() if said.get(key, True) is not False)
    return Repository(
        full_name=line(said.get("full_name")),
        url=link(said.get("html_url")),
        clone_url=link(said.get("clone_url")),
        description=line(said.get("description")),
        default_branch=line(said.get("default_branch")),
        role=next((role for role in ROLES if permissions.get(role) is True), ""),
        is_private=said.get("private") is not False,
        is_fork=said.get("fork") is True,
        is_archived=said.get("archived") is True,
        merge_methods=methods,
        pushed_at=line(said.get("pushed_at")),
    )


def read_pull(said: dict[str, Any], etag: str = "") -> Pull:
    head, base = mapping(said.get("head")), mapping(said.get("base"))
    return Pull(
        number=number(said.get("number")),
        url=link(said.get("html_url")),
        title=line(said.get("title")),
        body=text(said.get("body")),
        author=login(said.get("user")),
        state=_pull_state(said),
        head=line(head.get("ref")),
        head_sha=sha(head.get("sha")),
        head_repository=line(mapping(head.get("repo")).get("full_name")),
        base=line(base.get("ref")),
        mergeable=_mergeable(said),
        merge_sha=sha(said.get("merge_commit_sha")) if said.get("merged_at") else "",
        etag=etag,
    )


def _pull_state(said: dict[str, Any]) -> str:
    if said.get("merged") is True or said.get("merged_at"):
        return PullRequestState.MERGED
    if said.get("state") != "open":
        return PullRequestState.CLOSED
    return PullRequestState.DRAFT if said.get("draft") is True else PullRequestState.OPEN


def _mergeable(said: dict[str, Any]) -> str:
    """GitHub works it out after it was asked; until then it is ""."""
    if said.get("state") != "open":
        return ""
    state = said.get("mergeable_state")
    if said.get("mergeable") is False or state == "dirty":
        return "conflicts"
    if state in ("blocked", "behind"):
        return str(state)
    return "clean" if said.get("mergeable") is True else ""


_PASSED = ("success", "neutral", "skipped")


def read_check_run(said: dict[str, Any]) -> Check:
    output = mapping(said.get("output"))
    state = "pending" if said.get("status") != "completed" else "success" if said.get("conclusion") in _PASSED else "failure"
    parts = (text(output.get(key)) for key in ("title", "summary", "text"))
    return Check(
        line(said.get("name")),
        state,
        link(said.get("details_url")) or link(said.get("html_url")),
        "\n\n".join(filter(None, parts))[:_TEXT],
        id=number(said.get("id")),
        is_job=mapping(said.get("app")).get("slug") == "github-actions",
        annotations=number(output.get("annotations_count")),
    )


def read_status(said: dict[str, Any]) -> Check:
    state = {"success": "success", "pending": "pending"}.get(str(said.get("state")), "failure")
    return Check(line(said.get("context")), state, link(said.get("target_url")), line(said.get("description")))


def sum_up_checks(checks: tuple[Check, ...]) -> Checks:
    states = {one.state for one in checks}
    return Checks(next((state for state in ("failure", "pending", "success") if state in states), ""), checks)


def sum_up_reviews(said: list[dict[str, Any]]) -> Reviews:
    """`said` is GitHub's list, oldest first. A later comment takes no verdict back, a dismissal does."""
    words = {"APPROVED": "approved", "CHANGES_REQUESTED": "changes_requested", "COMMENTED": "commented", "DISMISSED": "dismissed"}
    verdicts: dict[str, str] = {}
    reviews = []
    for one in said:
        state, author = words.get(str(one.get("state")).upper(), ""), login(one.get("user"))
        if state in ("approved", "changes_requested", "dismissed"):
            verdicts[author] = state
        if state and state != "dismissed":
            reviews.append(Review(author, state, text(one.get("body")), link(one.get("html_url"))))
    found = next((state for state in ("changes_requested", "approved") if state in verdicts.values()), "")
    return Reviews(found, tuple(reviews))


def read_thread(said: dict[str, Any]) -> Thread:
    nodes = listed(mapping(said.get("comments")).get("nodes"))
    comments = tuple(
        ReviewComment(
            number(one.get("databaseId")),
            login(one.get("author")),
            text(one.get("body")),
            link(one.get("url")),
            number(mapping(one.get("pullRequestReview")).get("databaseId")),
        )
        for one in nodes
    )
    hunk = text(nodes[0].get("diffHunk")) if nodes else ""
    return Thread(line(said.get("path")), number(said.get("line")) or None, said.get("isOutdated") is True, comments, hunk)
