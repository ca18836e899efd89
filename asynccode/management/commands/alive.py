"""Whether a service of this host is at work, for whoever restarts those that are not (compose's health checks)."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from tasks.models import Beats
from tasks.running import condition


class Command(BaseCommand):
    help = "Exit code 0 when a service of this host said lately that it is at work, else 1 with a sentence. Pages: ask for /healthz."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("service", choices=Beats.values)

    def handle(self, *args: Any, service: str, **options: Any) -> None:
        try:
            with condition.asking() as conn:
                heard = condition.read_heartbeats(conn)
        except psycopg.Error as error:
            raise CommandError(f"PostgreSQL (DATABASE_URL) does not answer: {condition.said(error)}") from None
        ours = [one for one in heard if one.kind == service and one.host in ("", settings.HOST_NAME)]
        if all(one.is_late for one in ours):
            raise CommandError(f"{Beats(service).label} of {settings.HOST_NAME} was not heard of lately.")
