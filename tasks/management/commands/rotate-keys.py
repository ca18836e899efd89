"""Write all stored secrets under the first of ENCRYPTION_KEYS."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.management.base import CommandError

from tasks import credentials
from tasks.management.base import AppCommand


class Command(AppCommand):
    help = "Write all stored secrets under the first of ENCRYPTION_KEYS, so that the others can be removed from it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--prepare", action="store_true", help="change nothing: print the setting with a new key before those that are in use"
        )

    def handle(self, **options: Any) -> None:
        if options["prepare"]:
            self.stdout.write("ENCRYPTION_KEYS=" + ",".join([Fernet.generate_key().decode(), *settings.ENCRYPTION_KEYS]))
            return
        written = 0
        unreadable: list[str] = []
        for batch in credentials.rotate_keys():
            written += batch.written
            unreadable += batch.unreadable
        self.stdout.write(f"{written} secret{' is' if written == 1 else 's are'} written anew, under the first of ENCRYPTION_KEYS.")
        if unreadable:
            raise CommandError(
                f"No key of ENCRYPTION_KEYS can read: {', '.join(unreadable)}. They are left as they are. "
                "Add the key that they were written with at the end of ENCRYPTION_KEYS and run this again, or set them anew."
            )
