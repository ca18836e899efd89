"""Open a pull request with what a run has changed."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from tasks.github import pulls
from tasks.management.base import AppCommand, find_run
from tasks.models import PullRequest, Run

LOOK_S = 0.2


class Command(AppCommand):
    help = "Open a pull request with what a run has changed, or bring the run's pull request up to date; waits until it is there."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("run", type=int)
        parser.add_argument("--draft", action="store_true", help="not ready for review yet")
        parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")

    def handle(self, **options: Any) -> None:
        run = find_run(options["run"])
        pulls.open_pull_request(run=run, by=run.task.owner, is_draft=options["draft"])
        pull = _wait(run)
        if options["json"]:
            self.stdout.write(json.dumps({"number": pull.number, "url": pull.url, "branch": pull.branch, "state": pull.state}))
        else:
            self.stdout.write(f"Pull request #{pull.number} ({pull.state}): {pull.url}")


def _wait(run: Run) -> PullRequest:
    """The pull request, once nobody is at work on it; CommandError with why there is none, or not all of the patch in it."""
    while pulls.is_at_work(run):
        time.sleep(LOOK_S)
    run.publication.refresh_from_db()
    if run.publication.error:
        raise CommandError(run.publication.error)
    return PullRequest.objects.get(run=run)
