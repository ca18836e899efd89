"""Measure."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from importlib import import_module
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Run a bench on a throwaway installation. Exit code 1 when a goal is missed."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        names = sorted(path.stem for path in (settings.BASE_DIR / "bench").glob("*.py"))
        known = [name for name in names if hasattr(import_module(f"bench.{name}"), "run")]
        parser.add_argument("name", choices=known)
        parser.add_argument("--json", action="store_true")
        parser.add_argument("--seconds", type=int, help="how long the script runs, where the bench has one (for a quick look)")
        parser.add_argument("--tasks", type=int, help="how many tasks there are, where the bench makes some (for a quick look)")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        chosen = {key: options[key] for key in ("seconds", "tasks") if options[key]}
        report = import_module(f"bench.{name}").run(**chosen)
        if options["json"]:
            self.stdout.write(json.dumps(report.as_json()))
        else:
            for key, value in report.figures.items():
                sign, goal = report.goals.get(key, ("", ""))
                self.stdout.write(f"{key:32} {value:10.3f}  {sign} {goal}  {'MISSED' if key in report.missed else ''}".rstrip())
        if report.missed:
            sys.exit(1)
