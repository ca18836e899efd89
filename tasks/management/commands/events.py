"""Print a run's events."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from tasks.management.base import AppCommand, find_run
from tasks.models import Event


class Command(AppCommand):
    help = "Print a run's events as JSON lines."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("run", type=int)
        parser.add_argument("--after", type=int, default=0, metavar="SEQ", help="only those that come after this one")

    def handle(self, **options: Any) -> None:
        run = find_run(options["run"])
        events = Event.objects.filter(run=run, seq__gt=options["after"]).order_by("seq").select_related("turn")
        for event in events.iterator(chunk_size=1000):
            turn = event.turn.number if event.turn else None
            record = {"seq": event.seq, "turn": turn, "kind": event.kind, "at": event.at.isoformat(), "data": event.data}
            self.stdout.write(json.dumps(record, ensure_ascii=False))
