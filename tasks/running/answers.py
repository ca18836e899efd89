"""Answers of the API that are kept for those who ask the same again."""

from __future__ import annotations

from datetime import timedelta

from django.db.models.functions import Now

from tasks.models import IdempotencyKey

KEPT = timedelta(hours=24)


def forget_old() -> None:
    IdempotencyKey.objects.filter(created_at__lt=Now() - KEPT).delete()
