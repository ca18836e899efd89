"""Serve the pages, where services are started one by one; `manage.py up` does it by itself."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from asynccode import host


class Command(BaseCommand):
    help = "Serve the pages over HTTP and WebSockets. Behind a proxy with TLS: set PUBLIC_URL and, if it is elsewhere, TRUSTED_PROXIES."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=int, default=settings.PORT, help="default: PORT, else 8000")

    def handle(self, *args: Any, **options: Any) -> None:
        argv, more = host.web_server("--bind", options["host"], "--port", str(options["port"]))
        os.chdir(settings.BASE_DIR)
        os.execve(sys.executable, [sys.executable, *argv], host.environment() | more)  # noqa: S606 (our own program)
