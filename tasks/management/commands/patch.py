"""Print a run's patch."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from tasks.management.base import AppCommand, find_run
from tasks.models import Patch


class Command(AppCommand):
    help = "Print a run's patch, ready for `git apply --index --allow-empty`."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("run", type=int)

    def handle(self, **options: Any) -> None:
        run = find_run(options["run"])
        patch = Patch.objects.filter(run=run).order_by("-turn__number", "-kind").first()
        if patch is None:
            raise CommandError(f"Run {run.pk} has no patch yet.")
        if patch.left_out:
            names = ", ".join(entry["path"] for entry in patch.left_out)
            self.stderr.write(f"Left out of this patch: {names}")
        self.stdout._out.flush()  # type: ignore[attr-defined]  # a patch is bytes, so it goes past the text wrapper
        self.stdout._out.buffer.write(bytes(patch.content))  # type: ignore[attr-defined]
        self.stdout._out.buffer.flush()  # type: ignore[attr-defined]
