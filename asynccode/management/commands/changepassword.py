"""Django's own command; whose password it changes is written down."""

from __future__ import annotations

import getpass
from typing import Any

from django.contrib.auth.management.commands import changepassword
from django.db import transaction

from tasks import audit
from tasks.models import AuditKind, User


class Command(changepassword.Command):
    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> str | None:
        said: str | None = super().handle(*args, **options)
        username = options["username"] or getpass.getuser()
        audit.record(AuditKind.PASSWORD_CHANGED, by=None, subject=User.objects.get(username=username), username=username)
        return said
