"""E2B: building the template of its sandboxes, and what there is of ours."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from typing import Any

from asgiref.sync import async_to_sync
from django.core.management.base import CommandError

from sandboxes.e2b import template
from sandboxes.errors import SandboxError
from tasks.management.base import AppCommand
from tasks.models import Operation, OperationStatus, Sandbox, SandboxStatus
from tasks.running import backends, operations, templates

LOOK_S = 0.5


class Command(AppCommand):
    help = "Build the template of E2B sandboxes, or list what there is."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        builder = actions.add_parser(
            "build-template", help="build the template with all agents at their pinned versions, unless E2B has it"
        )
        builder.add_argument("--cpu", type=int, default=template.CPU, metavar="N", help="processors of a sandbox (default: %(default)s)")
        builder.add_argument("--memory", type=int, default=template.MEMORY_MB, metavar="MB", help="of a sandbox (default: %(default)s)")
        builder.add_argument("--name", default="", help="a name of your own; the default one says what it is made of")
        builder.add_argument("--force", action="store_true", help="build it anew, also when E2B has it")
        builder.add_argument("--json", action="store_true", help="say on standard output what was built, as JSON")
        actions.add_parser("list", help="the sandboxes of this installation, beside what our rows say of them")
        actions.add_parser("templates", help="the templates that were built, and which one is used")

    def handle(self, **options: Any) -> None:
        match options["action"]:
            case "build-template":
                self._build(options)
            case "list":
                self._table(("REF", "E2B SAYS", "RUN", "GENERATION", "OUR ROW"), _sandboxes())
            case "templates":
                self._table(("NAME", "BUILT", "CPU", "MEMORY", "AGENTS"), _templates())
                self.stdout.write(f"Claude Code runs in {templates.current('claude')}.")

    def _build(self, options: dict[str, Any]) -> None:
        templates.account()
        what = templates.wanted(cpu=options["cpu"], memory_mb=options["memory"], name=options["name"], anew=options["force"])
        operation = self._followed(operations.begin_template(what))
        if operation.status == OperationStatus.FAILED:
            raise CommandError(operation.error)
        built = templates.Wanted.of(operation.subject) or what
        if options["json"]:
            fields = {"template": built.name, "cpu": built.cpu, "memory_mb": built.memory_mb, "operation": operation.pk}
            self.stdout.write(json.dumps(fields))
        else:
            self.stdout.write(f"{built.name} is ready. E2B sandboxes that are made from now on use {templates.current('claude')}.")

    def _followed(self, operation: Operation) -> Operation:
        """See an operation through: do it, unless a worker is at it already; show its log either way."""
        shown = 0

        def show(log: str) -> None:
            nonlocal shown
            shown += len(log)
            self.stderr.write(log, style_func=str, ending="")

        while operation.status in operations.UNFINISHED:
            operations.work(operation.pk, tell=show)
            operation.refresh_from_db()
            shown = min(shown, len(operation.log))  # begun anew by somebody else, or cut
            show(operation.log[shown:])
            if operation.status in operations.UNFINISHED:
                time.sleep(LOOK_S)
        return operation

    def _table(self, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        if not rows:
            self.stdout.write("There are none.")
            return
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
        for row in (head, *rows):
            self.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _sandboxes() -> list[tuple[str, ...]]:
    """E2B's and ours, each of which may know of one that the other does not."""
    templates.account()
    try:
        there = {info.ref: info for info in async_to_sync(backends.backend("e2b").list)()}
    except SandboxError as error:
        raise CommandError(str(error)) from None
    rows = {row.ref: row for row in Sandbox.objects.filter(backend="e2b").exclude(ref="").exclude(status=SandboxStatus.DESTROYED)}
    rows |= {row.ref: row for row in Sandbox.objects.filter(backend="e2b", ref__in=there)}
    found: list[tuple[str, ...]] = []
    for ref in sorted(there.keys() | rows.keys(), key=lambda ref: (rows[ref].run_id if ref in rows else 0, ref)):
        info, row = there.get(ref), rows.get(ref)
        state = "no such sandbox" if info is None else "running" if info.is_alive else "paused"
        _, run, generation = info.key.split(":", 2) if info and info.key.count(":") == 2 else ("", "–", "–")
        if row:
            run, generation = str(row.run_id), str(row.generation)
        found.append((ref, state, run, generation, row.get_status_display() if row else "none: it will be destroyed"))
    return found


def _templates() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for built in templates.built():
        at = built.operation.finished_at
        agents = "as pinned" if built.is_current else "older versions"
        found.append((built.what.name, f"{at:%Y-%m-%d %H:%M}" if at else "–", str(built.what.cpu), f"{built.what.memory_mb} MB", agents))
    return found
