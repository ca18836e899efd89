"""What asynccode's own commands share: errors as sentences, and finding people and runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from tasks.errors import AppError
from tasks.models import Run, User


class AppCommand(BaseCommand):
    requires_system_checks: list[str] = []  # they are `manage.py check`'s work; a command should answer at once

    def execute(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute(*args, **options)
        except AppError as error:
            raise CommandError(str(error)) from None
        except OperationalError as error:
            raise CommandError(f"The database does not answer. Is asynccode running (make run)? {str(error).strip()}") from None


def find_user(name: str | None) -> User:
    """The user of that name; without one the first operator."""
    if name:
        user = User.objects.filter(username=name, is_active=True).first()
        if user is None:
            raise CommandError(f"There is no user {name!r}.")
        return user
    operator = User.objects.filter(is_staff=True, is_active=True).order_by("pk").first()
    if operator is None:
        raise CommandError("There is no operator yet. Start asynccode once with `make run`.")
    return operator


def find_run(run_id: int) -> Run:
    run = Run.objects.select_related("task__repo").filter(pk=run_id).first()
    if run is None:
        raise CommandError(f"There is no run {run_id}.")
    return run


def read_prompt(text: str) -> str:
    """TEXT, @FILE, or - for standard input."""
    if text == "-":
        return sys.stdin.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"The prompt file cannot be read: {error}") from None
    return text
