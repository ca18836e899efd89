"""What has to be there before services are started one by one: by systemd, by compose. `manage.py up` does it by itself."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from asynccode import startup
from tasks.running import backends


class Command(BaseCommand):
    help = "Bring the tables up to date, collect the static files, and make the first operator if there is no user. May be repeated."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            startup.check_services()
            startup.migrate()
            startup.collect_static()
            operator = startup.first_operator()
        except startup.StartError as error:
            raise CommandError(str(error)) from error
        if none := backends.why_none():
            self.stderr.write(none)
        self.stdout.write(f"Ready. A link that signs {operator.get_username()} in: manage.py login-link")
