"""Stop a run."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from tasks import services
from tasks.management.base import AppCommand, find_run


class Command(AppCommand):
    help = "Stop a run, whatever state it is in."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("run", type=int)

    def handle(self, **options: Any) -> None:
        run = find_run(options["run"])
        is_stopped = services.cancel_run(run=run, by=run.task.owner)
        self.stdout.write(f"Run {run.pk} is being stopped." if is_stopped else f"Run {run.pk} was over already.")
