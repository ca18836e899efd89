"""GitHub.com or an Enterprise Server, asked by one token. Nothing here waits for better times: RateLimited says when they come."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Self
from urllib.parse import quote, urlsplit

from django.conf import settings
from django.views.decorators.debug import sensitive_variables

from tasks.github_api import answers
from tasks.github_api.answers import (
    MERGE_METHODS,
    Checks,
    Label,
    Pull,
    Repositories,
    Repository,
    Reviews,
    Thread,
    Viewer,
    line,
    listed,
    mapping,
    number,
    read_check_run,
    read_label,
    read_pull,
    read_repository,
    read_status,
    read_thread,
    sha,
)
from tasks.github_api.checks import CheckOutputs
from tasks.github_api.connection import PER_PAGE, Connection
from tasks.github_api.conversations import Conversations
from tasks.github_api.conversations import repository_path as _repository
from tasks.github_api.decisions import Decisions
from tasks.github_api.differences import Differences
from tasks.github_api.errors import NotFoundOnGitHub, PermissionMissing, PullExists, Refused, Unavailable

__all__ = ["GitHub", "Pull", "PullExists"]

_FULL_NAME = re.compile(r"(?!\.{1,2}/)[A-Za-z0-9._-]{1,100}/(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,100}")
_MOST_PAGES = 10  # of what is listed whole
_SCANNED_PAGES = 5  # of repositories, for one search
_ENOUGH = 20  # repositories that a search finds at once
MOST_BRANCHES = 100
_MOST_TEMPLATE = 65536
_THREADS = """
query($owner: String!, $name: String!, $number: Int!, $after: String) {
  repository(owner: $owner, name: $name) { pullRequest(number: $number) { reviewThreads(first: 50, after: $after) {
    pageInfo { hasNextPage endCursor }
    nodes { isResolved isOutdated path line comments(first: 50) { nodes {
      databaseId body url diffHunk author { login } pullRequestReview { databaseId }
    } } }
  } } }
}
"""


class GitHub(Conversations, CheckOutputs, Decisions, Differences):
    """All that is asked of GitHub for one token. Errors are those of `tasks/github_api/errors.py`.

    Repositories are named OWNER/NAME. Keeps a connection: `close` it where many are made, or use it as a context.
    """

    @sensitive_variables("token")
    def __init__(self, token: str) -> None:
        self._connection = Connection(token)
        self._is_installation = token.startswith("ghs_")

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- people -------------------------------------------------------------------------------------------------------

    def viewer(self) -> Viewer:
        """Whose token it is. Addresses and organizations that the token may not see are left out."""
        answer = self._connection.ask("GET", "/user")
        said = mapping(answer.value)
        if not number(said.get("id")) or not line(said.get("login")):
            raise Unavailable("GitHub does not say whose token it is. Try again.")
        user_id, login = number(said["id"]), line(said["login"])
        emails = list(self._unless_refused("/user/emails"))
        primary = next((one for one in emails if one.get("primary") is True and one.get("verified") is True), {})
        noreply = next((line(one.get("email")) for one in emails if "users.noreply." in line(one.get("email"))), "")
        public = line(said.get("email"))
        return Viewer(
            id=user_id,
            login=login,
            name=line(said.get("name")) or login,
            email=line(primary.get("email")) or public,
            is_email_private=not public or (bool(primary) and primary.get("visibility") == "private"),
            noreply=noreply or f"{user_id}+{login}@users.noreply.{urlsplit(settings.GITHUB_URL).hostname}",
            orgs=tuple(line(one.get("login")) for one in self._unless_refused("/user/orgs")),
            scopes=answer.scopes,
        )

    def _unless_refused(self, path: str) -> Iterator[dict[str, Any]]:
        """What is listed there; nothing where the token may not see it."""
        try:
            yield from self._connection.pages(path, most=_MOST_PAGES)
        except (PermissionMissing, NotFoundOnGitHub):
            return

    def is_member(self, org: str, login: str) -> bool:
        """Whether somebody is a member; of others than the token's own organizations, whether they say so in public."""
        path = f"/orgs/{quote(org, safe='')}"
        answer = self._connection.ask("GET", f"{path}/members/{quote(login, safe='')}", expect=frozenset({302, 404}))
        if answer.status == 302:
            answer = self._connection.ask("GET", f"{path}/public_members/{quote(login, safe='')}", expect=frozenset({404}))
        return answer.status == 204

    def permission(self, full_name: str, login: str) -> str:
        """What somebody may do in a repository: admin, maintain, write, triage, read or none."""
        path = f"{_repository(full_name)}/collaborators/{quote(login, safe='')}/permission"
        said = mapping(self._connection.ask("GET", path, expect=frozenset({404})).value)
        known = ("admin", "maintain", "write", "triage", "read")
        return next((one for one in (said.get("role_name"), said.get("permission")) if one in known), "none")

    # --- repositories -------------------------------------------------------------------------------------------------

    def repos(self, query: str = "", page: int = 1) -> Repositories:
        """Repositories that the user can push to, those pushed to last first; with `query` those whose name has all its words.

        A search looks through some pages of GitHub's and tells where to go on; one for OWNER/NAME finds that one wherever it is.
        """
        words, found = query.lower().split(), []
        if page == 1 and len(words) == 1 and _FULL_NAME.fullmatch(query.strip()):
            found = [one for one in self._named(query.strip()) if one.can_push]
        named = {one.full_name for one in found}
        for current in range(page, page + (_SCANNED_PAGES if words else 1)):
            parameters = {"sort": "pushed", "direction": "desc", "per_page": PER_PAGE, "page": current}
            answer = self._connection.ask("GET", "/user/repos", parameters)
            these = [read_repository(one) for one in listed(answer.value)]
            found += [
                one for one in these if one.can_push and one.full_name not in named and all(word in one.full_name.lower() for word in words)
            ]
            if not answer.has_more:
                return Repositories(tuple(found), None)
            if len(found) >= _ENOUGH:
                break
        return Repositories(tuple(found), current + 1)

    def _named(self, full_name: str) -> list[Repository]:
        try:
            return [self.repo(full_name)]
        except NotFoundOnGitHub:
            return []

    def repo(self, full_name: str) -> Repository:
        found = read_repository(mapping(self._connection.ask("GET", _repository(full_name)).value))
        if not found.full_name:
            raise Unavailable("GitHub says nothing of the repository that makes sense. Try again.")
        # To a GitHub App no role is told. Its tokens are made for one repository, to write there.
        return replace(found, role="push") if self._is_installation else found

    def branches(self, full_name: str, query: str = "") -> list[str]:
        """Names of branches that contain `query`, 100 at most. Of many branches, those that begin with it are found in any case."""
        path, wanted = _repository(full_name), query.strip().lower()
        names: dict[str, None] = {}
        for one in self._connection.pages(f"{path}/branches", most=_MOST_PAGES if wanted else 1):
            if wanted in line(one.get("name")).lower():
                names[line(one.get("name"))] = None
        if wanted and len(names) < MOST_BRANCHES:
            refs = self._connection.ask("GET", f"{path}/git/matching-refs/heads/{quote(query.strip())}", {"per_page": PER_PAGE})
            names |= dict.fromkeys(line(one.get("ref")).removeprefix("refs/heads/") for one in listed(refs.value))
        return [name for name in names if name][:MOST_BRANCHES]

    def labels(self, full_name: str) -> list[Label]:
        found = (read_label(one) for one in self._connection.pages(f"{_repository(full_name)}/labels", most=_MOST_PAGES))
        return [label for label in found if label.name]

    def label(self, full_name: str, name: str) -> Label | None:
        path = f"{_repository(full_name)}/labels/{quote(name, safe='')}"
        found = read_label(mapping(self._connection.ask("GET", path, expect=frozenset({404})).value))
        return found if found.name else None

    def collaborators(self, full_name: str) -> list[str]:
        """Logins of those who have access, and so can review; where the token may not see that, of those who can be assigned."""
        path = _repository(full_name)
        try:
            found = list(self._connection.pages(f"{path}/collaborators", most=_MOST_PAGES))
        except (PermissionMissing, NotFoundOnGitHub):
            found = list(self._connection.pages(f"{path}/assignees", most=_MOST_PAGES))
        return [login for one in found if (login := line(one.get("login")))]

    def is_collaborator(self, full_name: str, login: str) -> bool:
        path = f"{_repository(full_name)}/collaborators/{quote(login, safe='')}"
        return self._connection.ask("GET", path, expect=frozenset({404})).status == 204

    def pull_template(self, full_name: str) -> str:
        """The repository's template for pull requests, "" without one. GitHub looks in .github/, the root and docs/."""
        root = self._folder(full_name, "")
        for folder in (".github", "", "docs"):
            if folder and root.get(folder) != folder:
                continue
            files = self._folder(full_name, folder) if folder else root
            for name in ("pull_request_template.md", "pull_request_template.txt"):
                if path := files.get(name):
                    return self._file(full_name, path)
        return ""

    def _folder(self, full_name: str, path: str) -> dict[str, str]:
        """Names in lower case → paths."""
        answer = self._connection.ask("GET", f"{_repository(full_name)}/contents/{quote(path)}", expect=frozenset({404}))
        return {line(one.get("name")).lower(): line(one.get("path")) for one in listed(answer.value)}

    def _file(self, full_name: str, path: str) -> str:
        said = mapping(self._connection.ask("GET", f"{_repository(full_name)}/contents/{quote(path)}").value)
        content = said.get("content")
        if said.get("encoding") != "base64" or not isinstance(content, str):
            return ""
        try:
            return answers.text(base64.b64decode(content).decode(errors="replace")[:_MOST_TEMPLATE])
        except ValueError:  # it is no base64 after all
            return ""

    # --- pull requests ------------------------------------------------------------------------------------------------

    def find_pull(self, full_name: str, head: str) -> Pull | None:
        """The pull request of a branch of the repository itself: the open one, else the newest. Its `mergeable` is not known."""
        owner = full_name.split("/")[0]
        parameters = {"head": f"{owner}:{head}", "state": "all", "sort": "created", "direction": "desc", "per_page": PER_PAGE}
        answer = self._connection.ask("GET", f"{_repository(full_name)}/pulls", parameters)
        found = [read_pull(one) for one in listed(answer.value) if mapping(one.get("head")).get("ref") == head]
        return next((one for one in found if one.state in ("open", "draft")), found[0] if found else None)

    def create_pull(
        self,
        full_name: str,
        *,
        head: str,
        base: str,
        title: str,
        body: str = "",
        is_draft: bool = False,
        labels: Sequence[str] = (),
        reviewers: Sequence[str] = (),
    ) -> Pull:
        """Open a pull request. PullExists where there is one, Refused with GitHub's words where the branches do not allow it.

        What GitHub then has against labels or reviewers is raised too, and the pull request stays.
        """
        said = {"head": head, "base": base, "title": title, "body": body, "draft": is_draft}
        try:
            answer = self._connection.ask("POST", f"{_repository(full_name)}/pulls", body=said)
        except Refused as error:
            if "already exists" in error.message:
                raise PullExists(error.message) from error
            raise
        pull = _known(read_pull(mapping(answer.value)))
        if labels:
            self.add_labels(full_name, pull.number, labels)
        if reviewers:
            self.request_reviews(full_name, pull.number, reviewers)
        return pull

    def pull(self, full_name: str, number: int, etag: str = "") -> Pull | None:
        """How a pull request is now; None if it is as it was when GitHub gave this ETag, which costs nothing of the limit."""
        answer = self._connection.ask("GET", f"{_repository(full_name)}/pulls/{number}", etag=etag, expect=frozenset({304}))
        return None if answer.status == 304 else _known(read_pull(mapping(answer.value), answer.headers.get("etag", "")[:200]))

    def update_pull(self, full_name: str, number: int, **changes: str) -> Pull:
        """Change title, body, base or state (open, closed)."""
        answer = self._connection.ask("PATCH", f"{_repository(full_name)}/pulls/{number}", body=changes)
        return _known(read_pull(mapping(answer.value)))

    def add_labels(self, full_name: str, number: int, labels: Sequence[str]) -> None:
        self._connection.ask("POST", f"{_repository(full_name)}/issues/{number}/labels", body={"labels": list(labels)})

    def request_reviews(self, full_name: str, number: int, logins: Sequence[str]) -> None:
        self._connection.ask("POST", f"{_repository(full_name)}/pulls/{number}/requested_reviewers", body={"reviewers": list(logins)})

    def merge(self, full_name: str, number: int, method: str, *, head_sha: str = "") -> str:
        """Merge by merge, squash or rebase; the commit. With `head_sha` only if nobody has pushed since. Refused has GitHub's words."""
        if method not in MERGE_METHODS:
            raise Refused(f"{method} is no way to merge. Choose one of {', '.join(MERGE_METHODS)}.")
        said = {"merge_method": method} | ({"sha": head_sha} if head_sha else {})
        return sha(mapping(self._connection.ask("PUT", f"{_repository(full_name)}/pulls/{number}/merge", body=said).value).get("sha"))

    def checks(self, full_name: str, sha: str) -> Checks:
        """Check runs and statuses of a commit. One kind that the token may not see is left out; PermissionMissing if it is both."""
        path = f"{_repository(full_name)}/commits/{quote(sha)}"
        found, refused = [], []
        try:
            found += [read_check_run(one) for one in self._connection.pages(f"{path}/check-runs", most=_MOST_PAGES, inside="check_runs")]
        except PermissionMissing as error:
            refused.append(error)
        try:
            found += [read_status(one) for one in self._connection.pages(f"{path}/status", most=_MOST_PAGES, inside="statuses")]
        except PermissionMissing as error:
            refused.append(error)
        if len(refused) == 2:
            raise refused[0]
        return answers.sum_up_checks(tuple(found))

    def reviews(self, full_name: str, number: int) -> Reviews:
        path = f"{_repository(full_name)}/pulls/{number}/reviews"
        return answers.sum_up_reviews(list(self._connection.pages(path, most=_MOST_PAGES)))

    def unresolved_threads(self, full_name: str, number: int) -> list[Thread]:
        """What was said about lines and is not resolved. Only GraphQL tells what is resolved."""
        owner, name = _repository(full_name).split("/")[2:]
        found: list[Thread] = []
        variables = {"owner": owner, "name": name, "number": number, "after": None}
        for _ in range(_MOST_PAGES):
            data = self._connection.graphql(_THREADS, variables)
            pull = mapping(mapping(data.get("repository")).get("pullRequest"))
            threads = mapping(pull.get("reviewThreads"))
            found += [read_thread(one) for one in listed(threads.get("nodes")) if one.get("isResolved") is not True]
            page = mapping(threads.get("pageInfo"))
            if page.get("hasNextPage") is not True:
                break
            variables["after"] = page.get("endCursor")
        return [one for one in found if one.comments]


def _known(pull: Pull) -> Pull:
    if not pull.number or not pull.url:
        raise Unavailable("GitHub says nothing of the pull request that makes sense. Try again.")
    return pull
