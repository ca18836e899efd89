"""Start everything on this host, keep it running, stop it."""

from __future__ import annotations

import asyncio
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from asynccode import startup
from asynccode.embedded import Embedded, EmbeddedError
from asynccode.host import Host
from asynccode.supervise import Log, end_leftovers
from sandboxes.errors import SandboxUnavailable

_GREETING = """
asynccode is running at {url}
Sign in, once, with     {link}
"""


class Command(BaseCommand):
    help = "Start all services: the database, the pages, the workers, the follower and the gateway. Ctrl-C stops them."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, help="where the pages are (default: PORT, else 8000; with --exec any free one)")
        parser.add_argument("--host", default="127.0.0.1", help="the IPv4 address to listen on (default: 127.0.0.1)")
        parser.add_argument("--exec", metavar="CMD", help="run CMD by `sh -c` against the services, stop them, and exit with its code")

    def handle(self, *args: Any, host: str, port: int | None, exec: str | None, **options: Any) -> None:
        log = Log(sys.stderr, is_json=settings.LOG_FORMAT == "json")  # standard output belongs to CMD
        embedded = Embedded(
            settings.DATA,
            settings.SOCKETS,
            with_postgres=settings.IS_DATABASE_EMBEDDED,
            with_valkey=settings.IS_REDIS_EMBEDDED,
        )
        try:
            code = self._run(log, embedded, host, port, exec)
        except (EmbeddedError, SandboxUnavailable, startup.StartError) as error:
            raise CommandError(str(error)) from error
        except startup.Terminated:
            code = 0
        sys.exit(code)

    def _run(self, log: Log, embedded: Embedded, host: str, port: int | None, command: str | None) -> int:
        with startup.signals_as_exceptions(), startup.listen(host, port, is_any_fine=command is not None) as listener:
            embedded.start()
            port_note = settings.DATA / "port"
            try:
                port_note.write_text(str(settings.PORT))
                if strays := end_leftovers(settings.DATA / "services", marker="manage.py"):
                    log.line("up", f"ended {strays} processes that a killed start had left behind")
                startup.check_sandbox()
                startup.check_services()
                startup.migrate()
                startup.collect_static()
                operator = startup.first_operator()
                greeting = _GREETING.format(url=settings.BASE_URL, link=startup.login_link(operator)) if command is None else ""
                connection.close()
                return asyncio.run(Host(log, embedded, listener).run(command=command, greeting=greeting))
            finally:
                port_note.unlink(missing_ok=True)
                embedded.stop()
