"""What is well with this installation and what is not, and what to do about it."""

from __future__ import annotations

import json
import logging
import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.db import connection

from asynccode.doctor import elsewhere, machine, services
from asynccode.doctor.checkup import Check, examine
from tasks.running.condition import TIMEOUT_S, Finding, State

CHECKS: dict[str, Check] = {
    "python": machine.python,
    "git": machine.git,
    "sandbox": machine.sandbox,
    "disk": machine.disk,
    "files": machine.files,
    "keys": machine.own_keys,
    "agents": machine.agents,
    "database": services.database,
    "migrations": services.migrations,
    "redis": services.cache,
    "secrets": services.secrets,
    "github": elsewhere.github,
    "github app": elsewhere.github_app,
    "e2b": elsewhere.e2b,
    "gateway url": elsewhere.gateway,
}
_COLORS = {State.OK: 32, State.WARNING: 33, State.PROBLEM: 31}


class Command(BaseCommand):
    help = "Look at this installation: each line is ok, a warning or a problem, with what to do. Exit code 1 when there is a problem."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help='say it as JSON: [{"check", "state", "sentence"}, …]')

    def handle(self, *args: Any, **options: Any) -> None:
        bounds = f"-c statement_timeout={TIMEOUT_S}s"
        given = connection.settings_dict["OPTIONS"]  # of all threads
        given |= {"connect_timeout": TIMEOUT_S, "options": f"{given.get('options', '')} {bounds}".strip()}
        logging.disable()  # all that is wrong is found
        found = examine(CHECKS)
        if options["json"]:
            self.stdout.write(json.dumps([{"check": f.check, "state": f.state, "sentence": f.sentence} for f in found], indent=2))
        else:
            for finding in found:
                self.stdout.write(self._line(finding))
        self.stdout.flush()
        sys.stdout.flush()
        os._exit(int(any(finding.state is State.PROBLEM for finding in found)))  # what hangs shall not hold us

    def _line(self, finding: Finding) -> str:
        state = f"{finding.state:<8}"
        if sys.stdout.isatty():
            state = f"\033[{_COLORS[finding.state]}m{state}\033[0m"
        return f"{state} {finding.check:<15} " + finding.sentence.replace("\n", "\n" + " " * 25)
