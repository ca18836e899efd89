"""Submit a task: one prompt to one or more agents."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from tasks import repositories, services
from tasks.management.base import AppCommand, find_user, read_prompt
from tasks.management.report import POLL_S, are_checks_good, print_result, wait
from tasks.models import Mode, OperationStatus, Repo


class Command(AppCommand):
    help = "Submit a task. Exit code 0 when every run succeeded (or, without --wait, was queued), else 1."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--repo", required=True, metavar="URL_OR_PATH")
        parser.add_argument("--agent", action="append", required=True, metavar="NAME[:MODEL]", help="may be given several times")
        parser.add_argument("--attempts", type=int, default=1, metavar="N", help="runs of each agent")
        parser.add_argument("--branch", default="", help="base branch; default: the repository's")
        parser.add_argument("--mode", default=Mode.CODE, choices=Mode.values)
        parser.add_argument("--prompt", required=True, metavar="TEXT|@FILE|-")
        parser.add_argument("--backend", default="", choices=["", "e2b", "local"])
        parser.add_argument("--user", metavar="NAME", help="default: the first operator")
        parser.add_argument(
            "--wait", action="store_true", help="until every run is over, and checked where the repository has a check command"
        )
        parser.add_argument("--require-checks", action="store_true", help="with --wait: 1 also when a check failed or could not run")
        parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")

    def handle(self, **options: Any) -> None:
        user = find_user(options["user"])
        prompt = read_prompt(options["prompt"])
        agents = [services.parse_agent(text, attempts=options["attempts"]) for text in options["agent"]]
        repo = repositories.add_repo(by=user, source=options["repo"])
        self._wait_for_mirror(repo)
        chosen = {name: options[name] for name in ("branch", "mode", "backend")}
        task = services.create_task(by=user, repo=repo, prompt=prompt, agents=agents, **chosen)
        run_ids = list(task.runs.values_list("pk", flat=True))
        runs = wait(run_ids) if options["wait"] else list(task.runs.all())
        is_good = print_result(task, runs, as_json=options["json"], out=self.stdout)
        if options["wait"] and options["require_checks"]:
            is_good = are_checks_good(runs) and is_good
        if options["wait"] and not is_good:
            sys.exit(1)

    def _wait_for_mirror(self, repo: Repo) -> None:
        """The first mirror of a repository may take long; a branch that is missing should be said before anything is queued."""
        while repo.mirrored_at is None:
            operation = repositories.mirror_operation(repo)
            if operation is not None and operation.status == OperationStatus.FAILED:
                raise CommandError(operation.error)
            if operation is not None and sys.stderr.isatty():
                sys.stderr.write(f"\r\x1b[KFetching the repository: {operation.percent} % {operation.progress}")
            time.sleep(POLL_S)
            repo.refresh_from_db()
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
