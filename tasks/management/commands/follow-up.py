"""Send a run its next prompt."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from tasks import services
from tasks.management.base import AppCommand, find_run, read_prompt
from tasks.management.report import are_checks_good, has_turn_ended, print_result, wait
from tasks.models import Mode


class Command(AppCommand):
    help = "Send a run a follow-up, in the same sandbox; queued while a turn is at work."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("run", type=int)
        parser.add_argument("--mode", default="", choices=["", *Mode.values], help="default: that of the turn before")
        parser.add_argument("--prompt", required=True, metavar="TEXT|@FILE|-")
        parser.add_argument(
            "--wait", action="store_true", help="until the turn is over, and checked where the repository has a check command"
        )
        parser.add_argument("--require-checks", action="store_true", help="with --wait: 1 also when a check failed or could not run")
        parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")

    def handle(self, **options: Any) -> None:
        run = find_run(options["run"])
        turn = services.send_follow_up(run=run, by=run.task.owner, prompt=read_prompt(options["prompt"]), mode=options["mode"])
        runs = wait([run.pk], is_over=has_turn_ended(turn)) if options["wait"] else [find_run(run.pk)]
        is_good = print_result(run.task, runs, as_json=options["json"], out=self.stdout)
        if options["wait"] and options["require_checks"]:
            is_good = are_checks_good(runs) and is_good
        if options["wait"] and not is_good:
            sys.exit(1)
