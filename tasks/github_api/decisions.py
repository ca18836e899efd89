"""What is decided about a pull request besides merging it."""

from __future__ import annotations

from urllib.parse import quote

from tasks.github_api.answers import line, mapping, sha
from tasks.github_api.connection import Connection
from tasks.github_api.conversations import repository_path
from tasks.github_api.errors import Unavailable

_READY = """
mutation($id: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $id}) { pullRequest { isDraft } } }
"""


class Decisions:
    """The part of `GitHub` (client.py) that is about drafts and branches."""

    _connection: Connection

    def mark_ready(self, full_name: str, number: int) -> None:
        """Let a draft be reviewed; one that is none is left as it is. Only GraphQL can."""
        said = mapping(self._connection.ask("GET", f"{repository_path(full_name)}/pulls/{number}").value)
        if said.get("draft") is not True:
            return
        if not (node := line(said.get("node_id"))):
            raise Unavailable("GitHub says nothing of the pull request that makes sense. Try again.")
        self._connection.graphql(_READY, {"id": node})

    def tip(self, full_name: str, branch: str) -> str:
        """The commit that a branch is at; "" when there is none of this name."""
        path = f"{repository_path(full_name)}/git/ref/heads/{quote(branch)}"
        said = mapping(self._connection.ask("GET", path, expect=frozenset({404})).value)
        return sha(mapping(said.get("object")).get("sha"))

    def delete_branch(self, full_name: str, branch: str) -> None:
        """Refused with GitHub's words when there is none, or when it may not be deleted."""
        self._connection.ask("DELETE", f"{repository_path(full_name)}/git/refs/heads/{quote(branch)}")
