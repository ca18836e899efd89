"""Make a test user, and print the two ways in."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from tasks import test_users
from tasks.management.base import AppCommand


class Command(AppCommand):
    help = "Make a user with repositories who is gone after a while, and print a token of the API and a login link, a line each."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--ttl", default="1h", metavar="TIME", help="how long the user lives: 30m, 1h, 2d; 7d at most (default: 1h)")
        parser.add_argument("--json", action="store_true", help="print one object, which also tells the repositories")

    def handle(self, **options: Any) -> None:
        made = test_users.create(ttl=test_users.parse_ttl(options["ttl"]))
        if not options["json"]:
            self.stdout.write(f"{made.token}\n{made.login_link}")
            return
        shown = {
            "username": made.user.username,
            "expires_at": made.user.expires_at.isoformat() if made.user.expires_at else None,
            "token": made.token,
            "login_link": made.login_link,
            "repos": [{"id": repo.pk, "name": repo.name, "source": repo.source} for repo in made.repos],
        }
        self.stdout.write(json.dumps(shown))
