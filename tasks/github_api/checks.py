"""What a check that fails has to say."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.github_api import job_logs
from tasks.github_api.answers import line, listed, number, text
from tasks.github_api.connection import Connection
from tasks.github_api.conversations import repository_path
from tasks.github_api.errors import Unavailable
from tasks.github_api.job_logs import Excerpt


@dataclass(frozen=True)
class Annotation:
    """What a check says of a place in a file; `line` is 0 for the whole file."""

    path: str
    line: int
    text: str


class CheckOutputs:
    """The part of `GitHub` (client.py) that is about what checks say."""

    _connection: Connection

    def annotations(self, full_name: str, check_run: int) -> list[Annotation]:
        """Those of a check run; the first hundred."""
        answer = self._connection.ask("GET", f"{repository_path(full_name)}/check-runs/{check_run}/annotations", {"per_page": 100})
        return [Annotation(line(one.get("path")), number(one.get("start_line")), text(one.get("message"))) for one in listed(answer.value)]

    def job_log(self, full_name: str, job: int) -> Excerpt:
        """Of the log of a job of Actions what speaks of errors, and its end. A job's id is that of its check run."""
        path = f"{repository_path(full_name)}/actions/jobs/{job}/logs"
        answer = self._connection.ask("GET", path, expect=frozenset({302}))
        if answer.status != 302 or not (address := answer.headers.get("location", "")):
            raise Unavailable("GitHub does not say where the log is. Try again.")
        return job_logs.read(address)
