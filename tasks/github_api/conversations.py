"""What people say in issues and pull requests, and what we say there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.github_api import answers
from tasks.github_api.answers import line, link, listed, login, mapping, number
from tasks.github_api.connection import Connection
from tasks.github_api.errors import Refused, Unavailable

_FULL_NAME = re.compile(r"(?!\.{1,2}/)[A-Za-z0-9._-]{1,100}/(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,100}")
_REACTIONS = ("+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes")
_MOST_PAGES = 10
_MOST_HUNK = 4000  # characters of a diff around a comment


@dataclass(frozen=True)
class Said:
    """What somebody said: in an issue or a pull request (then with its title), in a comment, in a review. `author_id` is 0 for those
    who are gone. `path`, `line` (0: of the whole file) and `hunk` are of a comment on a line."""

    id: int
    author: str
    author_id: int
    text: str
    url: str
    title: str = ""
    is_pull: bool = False
    path: str = ""
    line: int = 0
    hunk: str = ""


class Conversations:
    """The part of `GitHub` (client.py) that is about issues and comments."""

    _connection: Connection

    # --- listening ----------------------------------------------------------------------------------------------------

    def issue(self, full_name: str, number: int) -> Said:
        """An issue, or a pull request as the issue that it is too."""
        return _read(self._ask(full_name, f"issues/{number}"))

    def issue_comment(self, full_name: str, comment_id: int) -> Said:
        return _read(self._ask(full_name, f"issues/comments/{comment_id}"))

    def review_comment(self, full_name: str, comment_id: int) -> Said:
        return _read(self._ask(full_name, f"pulls/comments/{comment_id}"))

    def review(self, full_name: str, number: int, review_id: int) -> Said:
        return _read(self._ask(full_name, f"pulls/{number}/reviews/{review_id}"))

    def who_labeled(self, full_name: str, number: int, label: str) -> int:
        """The id of who put the label on it last; 0 when GitHub does not say, of which it does not have this label."""
        path = f"{repository_path(full_name)}/issues/{number}"
        if not any(_is(one, label) for one in self._connection.pages(f"{path}/labels", most=_MOST_PAGES)):
            return 0
        events = list(self._connection.pages(f"{path}/events", most=_MOST_PAGES))
        actors = (_id(one.get("actor")) for one in reversed(events) if one.get("event") == "labeled" and _is(one.get("label"), label))
        return next(actors, 0)

    def find_comment(self, full_name: str, number: int, mark: str, *, since: datetime) -> int:
        """The id of the comment that has this text in it, of those made or changed since then; 0 without one."""
        parameters = {"since": f"{since:%Y-%m-%dT%H:%M:%SZ}", "per_page": 100}
        answer = self._connection.ask("GET", f"{repository_path(full_name)}/issues/{number}/comments", parameters)
        return next((answers.number(one.get("id")) for one in listed(answer.value) if mark in answers.text(one.get("body"))), 0)

    def _ask(self, full_name: str, rest: str) -> dict[str, Any]:
        return mapping(self._connection.ask("GET", f"{repository_path(full_name)}/{rest}").value)

    # --- saying something ---------------------------------------------------------------------------------------------

    def comment(self, full_name: str, number: int, body: str) -> Said:
        """Say something on an issue or a pull request."""
        answer = self._connection.ask("POST", f"{repository_path(full_name)}/issues/{number}/comments", body={"body": body})
        return _read(mapping(answer.value))

    def update_comment(self, full_name: str, comment_id: int, body: str) -> None:
        """Say something else in its place. NotFoundOnGitHub when it was deleted."""
        self._connection.ask("PATCH", f"{repository_path(full_name)}/issues/comments/{comment_id}", body={"body": body})

    def reply(self, full_name: str, number: int, comment_id: int, body: str) -> str:
        """Answer in the thread of a review comment; the answer's address."""
        said = {"body": body, "in_reply_to": comment_id}
        answer = self._connection.ask("POST", f"{repository_path(full_name)}/pulls/{number}/comments", body=said)
        return link(mapping(answer.value).get("html_url"))

    def find_review(self, full_name: str, number: int, mark: str) -> Said | None:
        """The submitted review whose text has this in it, of the first thousand."""
        path = f"{repository_path(full_name)}/pulls/{number}/reviews"
        for one in self._connection.pages(path, most=_MOST_PAGES):
            if mark in answers.text(one.get("body")) and str(one.get("state")).upper() != "PENDING":
                return _read(one)
        return None

    def create_review(self, full_name: str, number: int, *, commit: str, body: str, comments: Sequence[Mapping[str, Any]]) -> Said:
        """Submit a review that neither approves nor requests changes; all of it or, where something is wrong, nothing.

        `comments` are {path, body, line, side} of lines in the diff of `commit`, with {start_line, start_side} for several lines.
        """
        said = {"commit_id": commit, "event": "COMMENT", "body": body, "comments": list(comments)}
        answer = self._connection.ask("POST", f"{repository_path(full_name)}/pulls/{number}/reviews", body=said)
        return _read(mapping(answer.value))

    def react(self, full_name: str, content: str, *, number: int = 0, comment_id: int = 0, review_comment_id: int = 0) -> None:
        """React with +1, eyes, rocket, … to an issue or pull request, or to a comment. Twice is fine."""
        assert content in _REACTIONS, content
        subject = f"pulls/comments/{review_comment_id}" if review_comment_id else f"issues/comments/{comment_id}"
        subject = f"issues/{number}" if number else subject
        self._connection.ask("POST", f"{repository_path(full_name)}/{subject}/reactions", body={"content": content})


def repository_path(full_name: str) -> str:
    """The path of a repository. Refused for what can be no name of one: it must not lead to another address."""
    if not _FULL_NAME.fullmatch(full_name):
        raise Refused(f"{full_name[:100]!r} is no name of a repository on GitHub. Write OWNER/NAME.")
    return f"/repos/{full_name}"


def _read(said: dict[str, Any]) -> Said:
    if not number(said.get("id")):
        raise Unavailable("GitHub says nothing of the issue or comment that makes sense. Try again.")
    return Said(
        id=number(said["id"]),
        author=login(said.get("user")),
        author_id=_id(said.get("user")),
        text=answers.text(said.get("body")),
        url=link(said.get("html_url")),
        title=line(said.get("title")),
        is_pull=bool(mapping(said.get("pull_request"))),
        path=line(said.get("path")),
        line=number(said.get("line")) or number(said.get("original_line")),
        hunk=answers.text(said.get("diff_hunk"))[-_MOST_HUNK:],
    )


def _id(user: Any) -> int:
    return number(mapping(user).get("id"))


def _is(label: Any, name: str) -> bool:
    return line(mapping(label).get("name")).lower() == name.lower()
