"""Print a link that signs a user in, once."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from tasks import accounts
from tasks.management.base import AppCommand, find_user


class Command(AppCommand):
    help = "Print a link that signs a user in, once, within a day."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", metavar="NAME", help="default: the first operator")

    def handle(self, **options: Any) -> None:
        self.stdout.write(accounts.create_login_link(user=find_user(options["user"])))
