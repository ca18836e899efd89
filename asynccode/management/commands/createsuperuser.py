"""Django's own command; whom it makes is written down."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.management.commands import createsuperuser
from django.db import transaction
from django.db.models import Max

from tasks import audit
from tasks.models import AuditKind, User


class Command(createsuperuser.Command):
    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        newest = User.objects.aggregate(Max("pk"))["pk__max"] or 0  # the original does not tell whom it has made
        super().handle(*args, **options)
        for user in User.objects.filter(pk__gt=newest, is_superuser=True):
            audit.record(AuditKind.USER_ADDED, by=None, subject=user, username=user.username, way="createsuperuser")
